"""Notes as an option of jobs, and chosen columns of `launcher status`."""

import json
import select
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.queue.jobs.states import Failed
from launcher.queue.store.queue import Store
from tests.build import enqueue, finished, until
from tests.launcher.conftest import Launcher
from tests.terminal import in_a_terminal


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def notes(store: Store) -> list[str]:
    return [job.owner_note for job in store.read.jobs()]


def test_every_way_to_queue_a_program_takes_a_note(launcher: Launcher, store: Store) -> None:
    launcher.well("add", "--hold", "--note", "one", "--", "true")
    launcher.well("add", "--hold", "--note", "two", "--sweep", "lr=1,2", "--", "echo", "{lr}")
    Path("lines").write_text("true\nfalse\n")
    launcher.well("add", "--hold", "--note", "three", "--from", "lines")
    noted = {
        "name": "noted",
        "resources": {"note": "four"},
        "command": [
            {"name": "a", "argv": ["a"]},
            {"name": "b", "argv": ["b"], "resources": {"note": "five"}},
        ],
    }
    Path("noted.yaml").write_text(json.dumps(noted))
    launcher.well("stop")
    launcher.well("run", "noted.yaml", "--detach")
    assert notes(store) == ["one", "two", "two", "three", "three", "four", "five"]


def test_run_again_keeps_a_note_that_its_file_does_not_have(
    launcher: Launcher, store: Store
) -> None:
    Path("plain.yaml").write_text("name: plain\ncommand: [{name: a, argv: [sleep, 1m]}]\n")
    launcher.well("stop")
    launcher.well("run", "plain.yaml", "--detach")
    launcher.well("note", "1", "mine")
    launcher.well("cancel", "1", "--yes")
    launcher.well("run", "plain.yaml", "--detach")
    assert notes(store) == ["mine"]


def three_jobs(store: Store) -> None:
    """Add a job that waits, one that is done and one that failed."""
    _, done, failed = enqueue(store, "a", "b", "c")
    finished(store, done)
    finished(store, failed, Failed(at=2.0, error="boom", exit_code=3))
    store.job_control.set_note([done], "the\tbest")


def test_columns_are_printed_in_their_order(launcher: Launcher, store: Store) -> None:
    three_jobs(store)
    words = ["status", "--all", "--columns", "note,id,exit_code,cpus"]
    assert launcher.well(*words, "--header").out.splitlines() == [
        "note\tid\texit_code\tcpus",
        *("\t3\t3\t1", "\t1\t\t1", "the\\tbest\t2\t0\t1"),
    ]
    assert json.loads(launcher.well(*words, "--json").out)["jobs"] == [
        {"note": None, "id": 1, "exit_code": None, "cpus": 1},
        {"note": "the\tbest", "id": 2, "exit_code": 0, "cpus": 1},
        {"note": None, "id": 3, "exit_code": 3, "cpus": 1},
    ]
    drawn = in_a_terminal("status", "--all", "--columns", "id,name,note")
    assert [line.split() for line in drawn.splitlines()[:3]] == [
        ["ID", "NAME", "NOTE"],
        ["1", "a"],
        ["2", "b", "the\\tbest"],
    ]


def test_configuration_has_the_columns_of_a_user(
    launcher: Launcher, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    three_jobs(store)
    file = tmp_path / "config.toml"
    file.write_text('[status]\ncolumns = "name,state"\n')
    monkeypatch.setenv("LAUNCHER_CONFIG", str(file))
    assert launcher.well("status", "--all").out == "c\tfailed\na\tqueued\nb\tdone\n"
    assert launcher.well("status", "--all", "--columns", "id").out == "3\n1\n2\n"
    file.write_text('[status]\ncolumns = "name,stat"\n')
    assert "'stat' is not a column. Did you mean 'state'?" in launcher.refused("status")


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ("id,nmae", "--columns: 'nmae' is not a column. Did you mean 'name'?"),
        ("id,", "a name is missing. Write names and commas without blanks"),
        ("id,name,id", "--columns: id is named twice"),
    ],
)
def test_invalid_columns_are_refused(
    launcher: Launcher, store: Store, columns: str, said: str
) -> None:
    assert said in launcher.refused("status", "--columns", columns)


def test_watch_in_a_pipe_prints_the_columns_of_each_change(
    launcher: Launcher, store: Store
) -> None:
    (job,) = enqueue(store, "a")
    words = [sys.executable, "-m", "launcher", "status", "--watch", "--columns", "state,id,note"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        jobs, pipe = store.job_control, watching.stdout

        def is_printed() -> bool:
            jobs.hold([job], 1.0)
            jobs.release([job], 1.0)
            return bool(select.select([pipe], [], [], 0.1)[0])

        until(is_printed, "a change is printed")
        line = pipe.readline()
        watching.terminate()
    assert line in {"held\t1\t\n", "queued\t1\t\n"}
