"""Options that decide how and where the jobs of a task file or a program run."""

import os
from pathlib import Path

import pytest

from launcher.provenance.file_digests import CHUNK_BYTES
from launcher.queue.home.paths import Home
from launcher.queue.jobs.job import Resources, Terms
from launcher.queue.jobs.states import State
from launcher.queue.store.queue import Store
from tests.build import job_row
from tests.launcher.conftest import Launcher
from tests.launcher.queued import until_done

OPTIONS = (
    "group: night, not_before: +2h, time_limit: 8h, warn: 5m, signal: USR1, retries: 3, "
    "backoff: 1m, grace: 2m, rerun: never, priority: 4"
)

AS_OPTIONS = (
    *("--group", "night", "--not-before", "+2h", "--time-limit", "8h", "--warn", "5m"),
    *("--signal", "USR1", "--retries", "3", "--backoff", "1m", "--grace", "2m", "--rerun", "never"),
)


@pytest.fixture
def task_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    entry = f"{{name: a, argv: ['true'], resources: {{{OPTIONS}}}}}"
    Path("study.yaml").write_text(f"name: study\ncommand: [{entry}]\n")
    return "study.yaml"


def test_task_file_jobs_are_queued_with_its_terms(
    launcher: Launcher, store: Store, task_file: str
) -> None:
    launcher("group", "night", "--limit", "2")
    launcher.well("run", task_file, "--detach")
    row = job_row(store, 1)
    assert (row.state, row.priority) == (State.QUEUED, 4)
    assert row.starts_at is not None
    assert row.starts_at - row.submitted == pytest.approx(7200.0, abs=60.0)
    assert row.spec.terms == Terms(
        group="night",
        not_before=row.starts_at,
        retries=3,
        backoff_s=60.0,
        time_limit_s=28_800.0,
        warn_s=300.0,
        warn_signal="SIGUSR1",
        rerun="never",
        grace_s=120.0,
    )
    launcher("add", "--hold", "--cpus", "2", "--ram", "64MiB", *AS_OPTIONS, "--", "true")
    added = job_row(store, 2)
    assert added.spec.terms == row.spec.terms._replace(not_before=added.starts_at)
    assert added.spec.resources == Resources(cpus=2, device="cpu", ram=64 << 20)


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("frontends.cli.commands.run", ("run", "copy.yaml", "--detach")),
        (
            "provenance.hashing_progress",
            ("add", "--input", "big", "--output", "made", "--", "cp", "big", "made"),
        ),
    ],
)
def test_a_command_watches_the_digests_of_large_files(
    launcher: Launcher,
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: str,
    words: tuple[str, ...],
) -> None:
    """Those of inputs, and those of outputs whose time has changed."""
    monkeypatch.chdir(tmp_path)
    Path("big").write_bytes(bytes(CHUNK_BYTES + 1))
    entry = "{name: copy, argv: [cp, big, made], inputs: [big], outputs: [made]}"
    Path("copy.yaml").write_text(f"name: copy\ncommand: [{entry}]\n")
    hashed = set[str]()

    def watch(path: str, read: int, size: int) -> None:
        hashed.update({Path(path).name} if read == size else ())

    monkeypatch.setattr(f"launcher.{module}.watch_hashing", lambda: watch)
    launcher.well(*words)
    until_done(store, 1)
    for name in ("big", "made"):
        os.utime(name, (5, 5))
    launcher.well(*words)
    assert hashed == {"big", "made"}
    assert len(store.read.jobs()) == 1


def test_a_plan_watches_the_digests_of_inputs_of_a_package(
    launcher: Launcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("G.ckpt").write_bytes(bytes(CHUNK_BYTES + 1))
    entry = "{model: null, data: 'labelled:A', data_root: x, weights: G.ckpt, labels: 'a,b'}"
    Path("study.yaml").write_text(f"name: study\ntranslator: [{entry}]\n")
    hashed = set[str]()

    def watch(path: str, read: int, size: int) -> None:
        hashed.update({Path(path).name} if read == size else ())

    monkeypatch.setattr("launcher.frontends.cli.commands.run.watch_hashing", lambda: watch)
    launcher.well("run", "study.yaml", "--dry-run")
    assert hashed == {"G.ckpt"}


def test_leaving_the_view_prints_how_to_cancel_the_run(
    launcher: Launcher, home: Home, task_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher("group", "night", "--limit", "2")

    def leave(*_: object, **__: object) -> None:
        home.stop_record.write_text("{}")
        raise KeyboardInterrupt

    monkeypatch.setattr("launcher.frontends.screens.watch.watch_run", leave)
    answer = launcher("run", task_file)
    assert answer.code == 130
    assert "To cancel them: launcher cancel run:study" in answer.err
    assert "launcher stop" not in answer.err


def test_unknown_group_in_a_task_file_is_refused_like_in_launcher_add(
    launcher: Launcher, store: Store, task_file: str
) -> None:
    launcher("group", "nights", "--limit", "2")
    message = "'night' does not exist. Did you mean 'nights'?"
    dry = launcher("run", task_file, "--dry-run")
    assert (dry.code, message in " ".join(dry.out.split())) == (2, True)
    told = launcher.json("run", task_file, "--dry-run")
    assert message in told["refusals"][0]
    assert message in launcher.refused("run", task_file, "--detach")
    assert store.read.jobs() == []


def test_job_with_a_later_start_is_not_in_the_first_wave(
    launcher: Launcher, store: Store, task_file: str
) -> None:
    launcher("group", "night", "--limit", "2")
    told = launcher.json("run", task_file, "--dry-run")
    assert told["first_wave"]["starts"] == []
    now = launcher.json("run", task_file, "--dry-run", "--set", "resources.not_before=+0s")
    assert [start["jobs"] for start in now["first_wave"]["starts"]] == [1]
    assert store.read.jobs() == []


def test_run_switches_the_policy_unless_it_is_refused(
    home: Home, launcher: Launcher, store: Store, task_file: str
) -> None:
    words = ("run", task_file, "--detach", "--policy", "easy")
    assert launcher(*words).code == 2, "there is no such group"
    assert not home.policy.exists()
    launcher("group", "night", "--limit", "2")
    listed = launcher("run", task_file, "--dry-run", "--policy", "easy")
    assert f"launcher run {task_file} --policy easy" in listed.out
    assert not home.policy.exists()
    answer = launcher.well(*words)
    assert len(store.read.jobs()) == 1
    assert (
        "policy easy: EASY backfill on whole GPUs. To restore the default: launcher start"
        in answer.err
    )
    assert "policy launcher decides" in launcher("start", "--policy", "launcher").err
    assert not home.policy.exists()
    assert (
        "no policy 'fast'; expected one of launcher, fifo"
        in launcher("start", "--policy", "fast").err
    )


def test_program_is_searched_in_its_folder_and_path(
    launcher: Launcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    program = tmp_path / "work" / "here"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o700)
    Path("study.yaml").write_text(
        "name: study\ncommand:\n"
        "  - {name: own, argv: [./here], cwd: work}\n"
        f"  - {{name: path, argv: [here], env: {{PATH: {program.parent}}}}}\n"
        "  - {name: lost, argv: [./here]}\n"
        "  - {name: gone, argv: [here]}\n"
    )
    answer = launcher("run", "study.yaml", "--dry-run")
    warnings = [line for line in answer.err.splitlines() if line.startswith("warning")]
    assert ["command/lost" in line or "command/gone" in line for line in warnings] == [True, True]


# --- Where jobs run: `--on` of `launcher run` and `launcher add`, `on:` of a task file, `on` of config.toml


BACKENDS = '[backends.box]\nkind = "local"\ncpus = 2\ntime = "1h"\n[backends.farm]\nkind = "slurm"\ncpus = 8\n'


LATER = "not_before: +2h"  # so that no pilot is started


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: Home) -> Path:
    """A file with backends; the queue is stopped, so that nothing starts."""
    config = tmp_path / "config.toml"
    config.write_text(BACKENDS)
    monkeypatch.setenv("LAUNCHER_CONFIG", str(config))
    home.stop_record.write_text('{"schema": 1, "now": false, "at": 0.0}')
    monkeypatch.chdir(tmp_path)
    return config


def a_file_of(*entries: str) -> str:
    Path("study.yaml").write_text(f"name: study\ncommand: [{', '.join(entries)}]\n")
    return "study.yaml"


def an_entry(name: str, resources: str = "") -> str:
    return f"{{name: {name}, argv: ['true'], resources: {{{resources}}}}}"


@pytest.mark.usefixtures("config")
def test_option_selects_the_backend_of_a_program(launcher: Launcher, store: Store) -> None:
    launcher.well("add", "--on", "box,local", "--", "true")
    assert job_row(store, 1).spec.terms.on == ("box", "local")
    (ready,) = store.ready_jobs.read_ready(1)
    assert ready.lane.on == ("box", "local")


@pytest.mark.usefixtures("config")
def test_unknown_backend_is_refused_with_the_known_ones(launcher: Launcher, store: Store) -> None:
    file = a_file_of(an_entry("a", "on: bix"))
    for answer in (
        launcher("add", "--on", "bix", "--", "true"),
        launcher("run", file),
        launcher("run", file, "--dry-run"),
    ):
        assert answer.code == 2
        assert "'bix' is not a backend of the configuration. Did you mean 'box'?" in answer.err
    assert not store.read.jobs()


@pytest.mark.usefixtures("config")
@pytest.mark.parametrize(
    ("options", "why"),
    [
        (
            ("--cpus", "3"),
            "needs 3 CPU cores, but a pilot of box has 2 (raise `cpus` in [backends.box])",
        ),
        (("--gpus", "1"), "needs 1 GPU, but a pilot of box has 0 (raise `gpus` in [backends.box])"),
        (
            ("--time-limit", "2h"),
            "has a time limit of 2 h, but a pilot of box ends after 1 h (raise `time` in [backends.box]",
        ),
    ],
)
def test_program_too_large_for_every_pilot_is_refused_with_a_remedy(
    launcher: Launcher, options: tuple[str, ...], why: str
) -> None:
    assert why in launcher.refused("add", "--on", "box", *options, "--", "true")


@pytest.mark.usefixtures("config")
def test_more_cores_than_the_local_machine_can_be_requested_from_a_backend(
    launcher: Launcher,
) -> None:
    launcher.well("add", "--on", "farm", "--cpus", "8", "--", "true")


@pytest.mark.usefixtures("config")
def test_run_refuses_jobs_too_large_for_every_pilot(launcher: Launcher, store: Store) -> None:
    file = a_file_of(an_entry("a", "on: box, cpus: 3"), an_entry("b", "on: box"))
    assert "1 job can never start: needs 3 CPU cores, but a pilot of box has 2" in launcher.refused(
        "run", file, "--detach"
    )
    assert not store.read.jobs()


def places(store: Store) -> list[tuple[str, ...]]:
    return [row.spec.terms.on for row in store.read.jobs()]


def test_backend_of_a_job_comes_from_its_entry_or_the_configuration(
    launcher: Launcher, store: Store, config: Path
) -> None:
    config.write_text(f'on = ["farm"]\n{BACKENDS}')
    file = a_file_of(an_entry("a", f"on: 'box,local', {LATER}"), an_entry("b", LATER))
    launcher.well("run", file, "--detach")
    assert sorted(places(store)) == [("box", "local"), ("farm",)]
    launcher("add", "--hold", "--", "true")
    launcher("add", "--hold", "--on", "local", "--", "true")
    assert places(store)[2:] == [("farm",), ("local",)]


@pytest.mark.usefixtures("config")
def test_backends_can_be_a_list(launcher: Launcher, store: Store) -> None:
    file = a_file_of(an_entry("a", f"on: [farm, local], {LATER}"))
    launcher.well("run", file, "--detach")
    assert places(store) == [("farm", "local")]


@pytest.mark.usefixtures("config")
@pytest.mark.parametrize("wrong", ["[]", "[farm, [local]]", "[farm, null]", "{farm: 1}", "['a b']"])
def test_list_without_backends_is_refused(launcher: Launcher, wrong: str) -> None:
    assert "on: expected names such as slurm,local" in launcher.refused(
        "run", a_file_of(an_entry("a", f"on: {wrong}")), "--dry-run"
    )


# --- A dry run for a cluster writes nothing and submits nothing, whatever its engine says


FILE = """
name: away
command:
  - {name: first, argv: [echo], resources: {on: "slurm,local"}}
  - {name: then, argv: [echo], resources: {on: slurm}}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "away.yaml").write_text(FILE)
    config = tmp_path / "config.toml"
    config.write_text('[backends.slurm]\nkind = "local"\ncpus = 2\npilots = 3\n')
    monkeypatch.setenv("LAUNCHER_CONFIG", str(config))
    monkeypatch.setenv("LAUNCHER_HOME", str(tmp_path / "none"))
    monkeypatch.chdir(folder)
    return folder


def everything(folder: Path) -> set[str]:
    return {str(path) for path in folder.parent.rglob("*")}


def test_dry_run_shows_backends_and_changes_nothing(launcher: Launcher, project: Path) -> None:
    before = everything(project)
    answer = launcher.well("run", "away.yaml", "--dry-run")
    assert (
        "On slurm, otherwise on this machine (except 1 job): 2 command; 1 pilot with 2 cores"
        in " ".join(answer.out.split())
    )
    assert everything(project) == before
    assert not (project.parent / "none").exists(), "no queue, no pilots"


def test_dry_run_json_has_shape_and_number_of_pilots(launcher: Launcher, project: Path) -> None:
    record = launcher.json("run", "away.yaml", "--dry-run")
    (slurm,) = record["backends"]
    assert (slurm["name"], slurm["jobs"], slurm["otherwise"]) == (
        "slurm",
        {"command": 2},
        ["local"],
    )
    assert (slurm["pilots_first"], slurm["pilots_most"]) == (1, 1)
    assert slurm["pilot"] == {
        "cpus": 2,
        "gpus": 0,
        "gpu_type": None,
        "ram": None,
        "seconds": None,
    }


def test_printed_command_names_the_backends(launcher: Launcher, project: Path) -> None:
    answer = launcher("run", "away.yaml", "--dry-run", "--on", "slurm")
    assert answer.out.endswith("To start: launcher run away.yaml --on slurm\n"), answer.err


def test_missing_folder_of_reservations_is_named_with_a_remedy(
    launcher: Launcher, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAUNCHER_CLAIMS", "/no/such")
    said = launcher.well("run", "away.yaml", "--dry-run").err
    assert (
        "/no/such does not exist. Create it for all users with `mkdir -p -m 1777 /no/such`" in said
    )
    assert "claims file=" not in said
