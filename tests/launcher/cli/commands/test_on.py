"""Where jobs run: `--on` of `launcher run` and `launcher add`, `on:` of a task file, `on` of config.toml."""

from pathlib import Path

import pytest

from launcher.store.queue import Store
from launcher.system.paths import Home
from tests.build import job_row
from tests.launcher.conftest import Launcher

BACKENDS = '[backends.box]\nkind = "local"\ncpus = 2\ntime = "1h"\n[backends.farm]\nkind = "slurm"\ncpus = 8\n'

LATER = "not_before: +2h"  # so that no pilot is started


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: Home) -> Path:
    """A file with backends; the queue is stopped, so that nothing starts."""
    config = tmp_path / "config.toml"
    config.write_text(BACKENDS)
    monkeypatch.setenv("LAUNCHER_CONFIG", str(config))
    home.stop.write_text('{"schema": 1, "now": false, "at": 0.0}')
    monkeypatch.chdir(tmp_path)
    return config


def task_file(*entries: str) -> str:
    Path("study.yaml").write_text(f"name: study\ncommand: [{', '.join(entries)}]\n")
    return "study.yaml"


def an_entry(name: str, resources: str = "") -> str:
    return f"{{name: {name}, argv: ['true'], resources: {{{resources}}}}}"


@pytest.mark.usefixtures("config")
def test_program_runs_where_its_option_says(launcher: Launcher, store: Store) -> None:
    assert launcher("add", "--on", "box,local", "--", "true").code == 0
    assert job_row(store, 1).spec.terms.on == ("box", "local")
    (ready,) = store.scheduling.ready(1)
    assert ready.lane.on == ("box", "local")


def test_program_that_says_nothing_runs_where_the_configuration_says(
    launcher: Launcher, store: Store, config: Path
) -> None:
    config.write_text(f'on = ["farm", "local"]\n{BACKENDS}')
    launcher("add", "--", "true")
    launcher("add", "--on", "local", "--", "true")
    assert [job_row(store, job).spec.terms.on for job in (1, 2)] == [("farm", "local"), ("local",)]


@pytest.mark.usefixtures("config")
def test_unknown_place_is_refused_with_those_that_there_are(
    launcher: Launcher, store: Store
) -> None:
    file = task_file(an_entry("a", "on: bix"))
    for answer in (
        launcher("add", "--on", "bix", "--", "true"),
        launcher("run", file),
        launcher("run", file, "--dry-run"),
    ):
        assert answer.code == 2
        assert "'bix' is not a backend of the configuration; did you mean 'box'?" in answer.err
    assert not store.read.jobs()


@pytest.mark.usefixtures("config")
@pytest.mark.parametrize(
    ("options", "why"),
    [
        (
            ("--cpus", "3"),
            "needs 3 cores, and a pilot of box has 2; raise `cpus` in [backends.box]",
        ),
        (("--gpus", "1"), "needs 1 GPU, and a pilot of box has 0; raise `gpus` in [backends.box]"),
        (
            ("--time-limit", "2h"),
            "may run for 2 h, and a pilot of box is there for 1 h; raise `time` in [backends.box]",
        ),
    ],
)
def test_program_that_no_pilot_can_hold_is_refused_with_what_to_change(
    launcher: Launcher, options: tuple[str, ...], why: str
) -> None:
    refused = launcher("add", "--on", "box", *options, "--", "true")
    assert refused.code == 2
    assert why in refused.err


@pytest.mark.usefixtures("config")
def test_more_cores_than_this_machine_has_may_be_asked_of_another(launcher: Launcher) -> None:
    assert launcher("add", "--on", "farm", "--cpus", "8", "--", "true").code == 0


@pytest.mark.usefixtures("config")
def test_run_refuses_jobs_that_no_pilot_can_hold(launcher: Launcher, store: Store) -> None:
    file = task_file(an_entry("a", "on: box, cpus: 3"), an_entry("b", "on: box"))
    refused = launcher("run", file, "--detach")
    assert refused.code == 2
    assert "1 job can never start: needs 3 cores, and a pilot of box has 2" in refused.err
    assert not store.read.jobs()


def places(store: Store) -> list[tuple[str, ...]]:
    return [row.spec.terms.on for row in store.read.jobs()]


def test_jobs_of_a_file_run_where_each_says_or_where_the_configuration_does(
    launcher: Launcher, store: Store, config: Path
) -> None:
    config.write_text(f'on = ["farm"]\n{BACKENDS}')
    file = task_file(an_entry("a", f"on: 'box,local', {LATER}"), an_entry("b", LATER))
    assert launcher("run", file, "--detach").code == 0
    assert sorted(places(store)) == [("box", "local"), ("farm",)]


@pytest.mark.usefixtures("config")
def test_places_may_be_a_list(launcher: Launcher, store: Store) -> None:
    file = task_file(an_entry("a", f"on: [farm, local], {LATER}"))
    assert launcher("run", file, "--detach").code == 0
    assert places(store) == [("farm", "local")]


@pytest.mark.usefixtures("config")
@pytest.mark.parametrize("wrong", ["[]", "[farm, [local]]", "[farm, null]", "{farm: 1}", "['a b']"])
def test_a_list_that_names_no_places_is_refused(launcher: Launcher, wrong: str) -> None:
    refused = launcher("run", task_file(an_entry("a", f"on: {wrong}")), "--dry-run")
    assert refused.code == 2
    assert "on: expected names such as slurm,local" in refused.err


@pytest.mark.usefixtures("config")
def test_command_line_has_the_last_word_on_where_jobs_run(launcher: Launcher, store: Store) -> None:
    file = task_file(an_entry("a", f"on: box, {LATER}"), an_entry("b", LATER))
    assert launcher("run", file, "--detach", "--on", "farm,local").code == 0
    assert places(store) == [("farm", "local")] * 2
