"""`launcher add --replace`, and the command line of a job to copy."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from launcher.queue.home.daemon_control import scheduler_pid
from launcher.queue.home.paths import Home
from launcher.queue.jobs.job import Resources, Terms
from launcher.queue.jobs.states import State
from launcher.queue.store.queue import Store
from launcher.system.errors import pluralize
from launcher.system.files import Json, write_json
from launcher.system.processes import usable_cores
from tests.build import (
    a_spec,
    enqueue,
    in_state,
    job_row,
    reaches,
)
from tests.launcher.conftest import Launcher


def test_added_programs_share_one_run_for_all_folders(
    launcher: Launcher, store: Store, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)
        launcher.well("add", "--run", "night", "--share", "2", "--hold", "--", "true")
    launcher("add", "--hold", "--", "true")
    assert [line.split("\t")[1] for line in launcher("status", "run:night").out.splitlines()] == [
        "night", "night",
    ]  # fmt: skip
    assert {row.spec.root for row in store.read.jobs_of_runs_named("night")} == {
        str(tmp_path / "first")
    }
    assert {row.spec.root for row in store.read.jobs_of_runs_named("add")} == {str(home.folder)}
    assert launcher("share", "night").out.split()[:2] == ["night", "2"]
    launcher("cancel", "run:night", "--yes")
    assert [row.state for row in store.read.jobs()] == [State.CANCELLED] * 2 + [State.HELD]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("of-file", "run 'of-file' belongs to a task file in /data. Write another --run."),
        ("functions", "run 'functions' is for Python functions. Write another --run."),
        ("a/b", "--run 'a/b' contains '/'"),
        ("..", "--run '..' contains '/'"),
        ("", "--run '' is empty"),
        ("-n", "--run '-n' begins with '-'"),
        ("x" * 101, "is longer than 100 bytes"),
    ],
)
def test_reserved_or_empty_run_name_is_refused(
    launcher: Launcher, store: Store, name: str, said: str
) -> None:
    enqueue(store, a_spec(hash="0f"), run="of-file", root=Path("/data"))
    enqueue(store, a_spec(kind="function"), run="functions", root=Path("/data"))
    assert said in launcher.refused("add", "--run", name, "--", "true")
    assert len(store.read.jobs()) == 2


def test_task_file_named_like_a_run_of_programs_is_refused(
    launcher: Launcher, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "night.yaml").write_text("name: night\ncommand: [{argv: ['true']}]\n")
    launcher("add", "--run", "night", "--", "true")
    launcher.well("wait")
    for words in ((), ("--dry-run",)):
        answer = launcher("run", "night.yaml", *words)
        assert (answer.code, len(store.read.jobs())) == (2, 1)
        assert "run 'night' contains programs of `launcher add --run`" in answer.err
        assert "launcher clean run:night" in answer.err
    launcher.well("clean", "run:night", "--yes")
    launcher.well("run", "night.yaml")


@pytest.mark.parametrize(
    ("argv", "warned"),
    [
        (("echo", "a", "&&", "echo"), "no shell runs, so '&&' is an argument of the program"),
        (("sort", ">", "out"), "no shell runs, so '>' is an argument of the program. For a shell: launcher add -- sh -c"),
        (("echo a b",), "'echo a b' is not in PATH. Remove the quotes: launcher add -- echo a b"),
        (("echo a", "b c"), "Remove the quotes: launcher add -- echo a 'b c'"),
        (("echo a 2>&1 | tee b",), "not in PATH. For a shell: launcher add -- sh -c 'echo a 2>&1 | tee b'\n"),
        (("cd a && echo",), "For a shell: launcher add -- sh -c 'cd a && echo'\n"),
        (("echo 'a | b' '|' ''",), "Remove the quotes: launcher add -- echo 'a | b' '|' ''"),
        (("SEED=1", "echo", "a b"), "'SEED=1' is not in PATH. Set variables with env: launcher add -- env SEED=1 echo 'a b'"),
        ((sys.executable, "trian.py"), f"script 'trian.py' for {sys.executable!r} does not exist. Job 1 will fail"),
        (("no such", "x"), "Job 1 will fail unless this is fixed before it starts. To remove it: launcher cancel 1"),
        (("sh", "-c", "echo a && echo b"), ""),
        (("/usr/bin/find", ".", "-exec", "true", ";"), ""),
        (("expr", "1", "<", "2"), ""),
    ],
)  # fmt: skip
def test_shell_operators_are_queued_with_a_warning(
    launcher: Launcher, store: Store, argv: Sequence[str], warned: str
) -> None:
    answer = launcher.well("add", "--hold", "--", *argv)
    assert job_row(store, 1).spec.argv == tuple(argv)
    assert answer.err.startswith("warning: ") == bool(warned)
    assert warned in answer.err


def test_options_after_the_program_belong_to_the_program(launcher: Launcher, store: Store) -> None:
    launcher("add", "--hold", "printf", "%s", "--help")
    row = job_row(store, 1)
    assert row.spec.argv == ("printf", "%s", "--help")
    assert (row.spec.terms, row.spec.resources) == (Terms(), Resources(device="cpu"))
    named = launcher("add", "--hold", "--name", "command/prep", "--", "true")
    assert named.out == "2\tcommand/prep\n", "a name may be given with what stands before each"


def test_job_starts_after_the_end_of_another_that_failed(launcher: Launcher, store: Store) -> None:
    launcher("add", "--name", "bad", "--hold", "--", "false")
    launcher("add", "--name", "clean-up", "--after-any", "bad", "--", "echo", "cleaned")
    launcher("add", "--name", "publish", "--after", "bad", "--", "true")
    shown = launcher("show", "bad").out
    assert "1 open job needs it: command/publish" in shown
    assert "1 open job starts after the end of this job: command/clean-up" in shown
    assert "waiting for command/bad" in launcher("status").out
    record = launcher.json("show", "clean-up")
    assert (record["needs"], record["after_any"]) == ([], ["command/bad"])
    launcher("release", "bad")
    assert launcher("wait").code == 1
    assert [row.state for row in store.read.jobs()] == [State.FAILED, State.DONE, State.SKIPPED]
    assert launcher("logs", "clean-up").out.strip() == "cleaned"
    assert "starts after the end of\n  1  failed  command/bad" in launcher("show", "clean-up").out
    for job, event in (
        (1, "failed ended with exit code 1"),
        (3, "skipped job 1 command/bad failed"),
    ):
        lines = launcher("show", str(job)).out.splitlines()
        assert any(" ".join(line.split()).endswith(f" {event}") for line in lines), lines
    assert launcher("add", "--after-any", "nothing", "--", "true").code == 2


def test_name_in_the_form_of_a_superseded_name_is_accepted_once(
    launcher: Launcher, store: Store
) -> None:
    for name in ("prep@1", "prep"):
        launcher("add", "--name", name, "--", "true")
    launcher.well("wait")
    launcher("add", "--name", "prep", "--", "true")
    launcher.well("wait")
    assert {row.id: row.name for row in store.read.jobs()} == {
        1: "command/prep@1", 2: "command/prep@2", 3: "command/prep",
    }  # fmt: skip
    answer = launcher("add", "--name", "prep@1", "--", "true")
    assert (answer.code, job_row(store, 1).name) == (2, "command/prep@1")
    assert "the name 'command/prep@1' belongs to job 1, which was renamed" in answer.err


@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("nosuchprogram", "'nosuchprogram' is not in PATH"),
        ("./nosuch.sh", "program './nosuch.sh' does not exist"),
        ("./script.sh", "'./script.sh' is not executable. Make it executable with chmod +x"),
        ("./folder", "'./folder' is not executable"),
    ],
)
def test_missing_program_is_queued_with_a_warning(
    program: str,
    why: str,
    launcher: Launcher,
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("script.sh").write_text("#!/bin/sh\n")
    Path("folder").mkdir()
    planned = launcher.well("add", "--dry-run", "--", program, "1").err
    assert planned.startswith(f"warning: {why}")
    answer = launcher.well("add", "--hold", "--", program, "1")
    assert answer.out == "1\tcommand/1\n"
    assert answer.err.startswith(f"warning: {why}")
    assert "To remove it: launcher cancel 1" in answer.err
    Path("night.yaml").write_text(
        f"name: night\ncommand: [{{name: a, argv: [{program}]}}, {{name: b, argv: [{program}, 2]}}]\n"
    )
    told = launcher.well("run", "night.yaml", "--dry-run")
    assert told.err.count(why) == 1
    assert "command/a will fail unless this is fixed before it starts." in told.err
    assert launcher("add", "--hold", "--", "sh", "-c", "true").err == ""


def test_missing_paths_that_exist_beside_the_task_file_name_its_folder(
    launcher: Launcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    here.mkdir()
    (there / "sub").mkdir(parents=True)
    for name in ("raw.csv", "fit.py"):
        (there / name).touch()
    (there / "a.yaml").write_text(
        "name: a\ncommand: [{name: a, argv: [python3, fit.py], inputs: [raw.csv]}]\n"
    )
    (there / "b.yaml").write_text("name: b\ncommand: [{name: b, argv: [true], cwd: sub}]\n")
    way = "but paths start in the current folder. To run the file there: cd"
    monkeypatch.chdir(here)
    told = " ".join(launcher("run", "../there/a.yaml").err.split())
    assert f"note: fit.py exists in ../there, {way} ../there" in told
    assert f"= raw.csv exists in ../there, {way} ../there" in told
    assert way in " ".join(launcher("run", "../there/b.yaml").err.split())
    (here / "fit.py").touch()  # only files that are missing here are mentioned
    assert "fit.py exists" not in launcher("run", "../there/a.yaml").err
    monkeypatch.chdir(there)
    assert way not in launcher.well("run", "a.yaml", "b.yaml", "--dry-run").err


def test_secrets_in_arguments_and_variables_are_hidden_with_a_warning(
    launcher: Launcher, tmp_path: Path, home: Home
) -> None:
    code = "print('launcher: acc=1')"
    words = (sys.executable, "-c", code, "--password", "hunter1", "--lr", "0.5")
    answer = launcher.well("add", "--run", "s", "--env", "API_KEY=sesame", "--wait", "--", *words)
    assert "warning: env API_KEY, --password look like secrets." in answer.err
    for command in (("show", "1"), ("status",), ("results", "s"), ("results", "s", "--json")):
        shown = launcher.well(*command).out
        assert "hunter1" not in shown, command
        assert "sesame" not in shown, command
    assert "'***'" in launcher.well("show", "1").out
    assert "API_KEY=sesame" in launcher.well("show", "1", "--command").out
    path = tmp_path / "s.yaml"
    path.write_text(
        json.dumps(
            {
                "name": "t",
                "command": [
                    {"name": "a", "argv": ["echo", "--token", "abc"], "env": {"A_KEY": "b"}}
                ],
            }
        )
    )
    told = launcher.well("run", str(path), "--dry-run").err
    assert "warning: env A_KEY, --token look like secrets." in told
    assert launcher("add", "--hold", "--env", "LR=1", "--", "echo", "--max-tokens", "5").err == ""


def test_output_of_another_program_or_run_is_replaced_with_a_warning(
    launcher: Launcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("first", "second"):
        Path(f"{name}.py").write_text("import sys\nopen('t.csv', 'w').write(sys.argv[1])\n")
    first = ("--output", "t.csv", "--", sys.executable, "first.py")
    launcher.well("add", "--wait", "--name", "a", *first, "1")
    warning = "warning: --output t.csv was made by job 1 command/a of run add."
    hold = ("add", "--hold", "--dry-run")
    assert warning in launcher.well(*hold, "--output", "t.csv", "--", "true").err
    assert warning in launcher.well(*hold, "--run", "b", *first, "2").err
    assert "warning" not in launcher.well(*hold, *first, "2").err  # the same program
    renewed = launcher.well(*hold, "--name", "a", "--output", "t.csv", "--", "true")
    assert "warning" not in renewed.err
    update = ("--input", "t.csv", "--output", "t.csv", "--", "true")
    assert "warning" not in launcher.well(*hold, *update).err
    assert "warning" not in launcher.well(*hold, "--output", "u.csv", "--", "true").err


@pytest.mark.parametrize(
    ("zone", "is_known"),
    [
        *(
            ("Europe/Berln", False),
            ("Berln", False),
            ("UTC", True),
            ("CET-1CEST", True),
            ("", True),
        ),
        *(("<+03>-3", True), ("/no/such/zone", False), (":Nowhere", False)),
    ],
)
def test_local_time_in_an_unknown_zone_is_refused(
    launcher: Launcher, monkeypatch: pytest.MonkeyPatch, zone: str, is_known: bool
) -> None:
    monkeypatch.setenv("TZ", zone)
    add = ("add", "--dry-run", "--not-before")
    day = f"{time.gmtime().tm_year + 1}-01-01T10:00"
    for words in (
        (*add, "22:00"),
        (*add, day),
        ("history", "--since", "2026-01-01"),
    ):
        told = launcher(*words, *(("--", "true") if "add" in words else ())).err
        assert ("is not a known time zone" in told) == (not is_known), told
    for moment in ("+2h", f"{day}+01:00"):
        launcher.well(*add, moment, "--", "true")


# --- terms


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--ram", "8"), "'8' has no unit. Write 8GiB or 8MiB"),
        (("--ram", "x"), "expected an amount of memory such as 16GiB, got 'x'"),
        (("--cpus", "0"), "expected a whole number from 1 to 100,000, got '0'"),
        (("--ram", "999TiB"), "error: this machine can never run it: needs 999 TiB of main memory"),
        (
            ("--cpus", "9999"),
            f"needs 9,999 CPU cores, but this machine has {pluralize(usable_cores(), 'usable core')}",
        ),
        (("--name", os.fsdecode(b"caf\xe9")), "is not valid UTF-8"),
        (("--name", "6"), "`launcher cancel 6` selects job number 6"),
        (("--name", "run:x"), "selects the jobs of a run. Write another name, such"),
        (("--name", "tag:y"), "selects the jobs with a tag"),
        (("--name", "tag:a b"), "`launcher cancel 'tag:a b'` selects the jobs with a tag"),
        (("--name", "tag:a b"), "Write another name, such as 'tag-a b'"),
        (("--time-limit", "99999d"), "expected at most 87,600h, got '99999d'"),
        (("--time-limit", "5m", "--warn", "5m"), "--warn must be shorter than --time-limit"),
        (("--signal", "KILL"), "such as SIGUSR1, got 'KILL'"),
        (("--signal", "SIGNAL"), "such as SIGUSR1, got 'SIGNAL'"),
        (("--metrics",), "expected a file such as metrics.csv, got '--'"),
        (("--tensorboard",), "expected a folder such as runs/first, got '--'"),
    ],
)
def test_invalid_value_is_named_with_the_expected_form(
    launcher: Launcher, store: Store, words: tuple[str, ...], message: str
) -> None:
    assert message in launcher.refused("add", *words, "--", "true")
    assert store.read.jobs() == []


def test_number_already_used_as_a_name_gets_a_suffix(launcher: Launcher, store: Store) -> None:
    launcher("add", "--hold", "--name", "command/2", "--", "true")
    assert launcher("add", "--hold", "--", "true").out == "2\tcommand/2'\n"


def test_name_that_selects_its_job_is_accepted(launcher: Launcher) -> None:
    for number, name in enumerate(("6b", "x:1", "run", "[6]", "٦", "command/6"), 1):
        launcher.well("add", "--hold", "--name", name, "--", "true")
        assert launcher.json("show", name)["id"] == number


def test_added_job_waits_until_a_stopped_queue_is_started(
    launcher: Launcher, home: Home, store: Store
) -> None:
    write_json(home.stop_record, {"schema": 1, "now": False, "at": time.time()})
    answer = launcher.well("add", "--", "true")
    assert re.search(
        r"the queue is stopped since .* To start jobs again: launcher start", answer.err
    )
    assert home.stop_record.exists()
    assert scheduler_pid(home) is None
    assert in_state(store, 1, State.QUEUED)
    assert launcher("start").err == "The queue starts jobs again.\n"
    launcher.well("wait", "1")
    assert launcher("start").err == "The queue was not stopped.\n"


def test_waiting_job_is_replaced_at_its_position(launcher: Launcher, store: Store) -> None:
    launcher("add", "--name", "prep", "--hold", "--priority", "2", "--", "false")
    launcher("add", "--name", "next", "--after", "prep", "--hold", "--", "true")
    launcher("tag", "prep", "+paper")
    before = job_row(store, 1)
    assert (
        launcher.well("add", "--replace", "--name", "prep", "--retries", "1", "--", "true", "x").out
        == "1\tcommand/prep\n"
    )
    row = job_row(store, 1)
    assert (row.spec.argv, row.spec.terms.retries, row.priority) == (("true", "x"), 1, 0)
    assert (row.state, row.submitted) == (State.HELD, before.submitted)
    assert store.job_control.tags_of([1]) == {1: ["paper"]}
    assert job_row(store, 2).waits == 1


def test_replace_without_a_waiting_job_queues_normally(launcher: Launcher, store: Store) -> None:
    assert launcher("add", "--replace", "--name", "mine", "--", "true").out == "1\tcommand/mine\n"
    reaches(store, 1, State.DONE)
    assert launcher("add", "--replace", "--name", "mine", "--", "true").out == "2\tcommand/mine\n"
    assert launcher("add", "--replace", "--", "true").code == 2


def test_a_running_job_is_not_replaced(launcher: Launcher, store: Store) -> None:
    launcher("add", "--name", "mine", "--", "sleep", "300")
    reaches(store, 1, State.RUNNING)
    assert "job 1 (running)" in launcher.refused("add", "--replace", "--name", "mine", "--", "true")


def test_cyclic_dependency_is_refused(launcher: Launcher, store: Store) -> None:
    launcher("add", "--name", "a", "--hold", "--", "true")
    launcher("add", "--name", "b", "--after", "a", "--", "true")
    launcher("add", "--name", "c", "--after-any", "b", "--", "true")
    for last in ("c", "b"):
        assert "which waits for it" in launcher.refused(
            "add", "--replace", "--name", "a", "--after", last, "--", "true"
        )
    assert (
        "cannot wait for itself"
        in launcher("add", "--replace", "--name", "a", "--after-any", "a", "--", "true").err
    )
    assert store.read.dependency_names(1) == []


def test_printed_command_line_queues_the_same_job(
    launcher: Launcher, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "a folder"
    folder.mkdir()
    monkeypatch.chdir(folder)
    launcher("add", "--hold", "--", "sh", "-c", 'printf "%s|" "$PWD" "$@"', "sh", "a b", "it's\n$x")
    line = launcher("show", "1", "--command").out
    assert line.count("\n") == 1
    printed = subprocess.run(["bash", "-c", line], cwd="/", capture_output=True, check=True).stdout
    assert printed.decode() == f"{folder}|a b|it's\n$x|"
    assert launcher("show", "1", "--command", "--json").code == 2


@pytest.mark.parametrize("form", ["--hold", "--dry-run"])
def test_request_for_an_absent_gpu_warns_with_a_remedy(
    launcher: Launcher, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    for asked in (("--gpus", "1"), ("--vram", "20GiB"), ("--device", "cuda:1")):
        warning = launcher.well("add", *asked, form, "--", "true").err
        assert "warning: no GPU is visible on this machine: " in warning
        assert "1 job waits for a GPU. Remove gpus, vram, exclusive and device" in warning
    assert "GPU" not in launcher.well("add", form, "--", "true").err


def test_program_that_cannot_start_is_reported_with_the_cause(
    launcher: Launcher, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.sh").write_bytes(b"#!/bin/sh\r\nexit\r\n")
    (tmp_path / "run.sh").chmod(0o755)
    launcher("add", "--", "./run.sh")
    launcher("wait", "1")
    shown = launcher.json("show", "1")["reason"]
    assert "has Windows line ends, so its interpreter is '/bin/sh\\r'" in shown


def test_task_file_causes_warnings_about_absent_gpus_and_scripts(
    launcher: Launcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    entries: list[Json] = [
        {"name": "make", "argv": ["cp", "/dev/null", "made.sh"], "outputs": ["made.sh"]},
        {"name": "use", "argv": ["sh", "made.sh"], "inputs": ["made.sh"], "gpus": 1},
        {"name": "typo", "argv": ["sh", "mdae.sh"], "gpus": 1},
    ]
    write_json(tmp_path / "x.yaml", {"name": "x", "command": entries})
    warnings = launcher.well("run", "x.yaml", "--dry-run").err
    assert "script 'mdae.sh' for 'sh' does not exist. command/typo will fail unless" in warnings
    assert "2 jobs wait for a GPU." in warnings
    assert "made.sh" not in warnings


def test_task_file_causes_a_warning_about_a_file_of_numbers_of_several_jobs(
    launcher: Launcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    swept: dict[str, Json] = {"argv": ["true", "{n}"], "matrix": {"n": [1, 2]}}
    entries: list[Json] = [
        {"name": "own", "metrics": "m{n}.csv", **swept},
        {"name": "both", "resources": {"metrics": "m.csv"}, **swept},
    ]
    write_json(tmp_path / "x.yaml", {"name": "x", "command": entries})
    warning = (
        "warning: 2 jobs name the same metrics file m.csv. Its numbers may not count if they run at the same time. "
        "Let the program write into {job_folder}, and add metrics: '{job_folder}/m.csv'\n"
    )
    assert launcher.well("run", "x.yaml", "--dry-run").err == warning
    assert launcher.well("run", "x.yaml", "--detach").err.startswith(warning)
