"""`launcher add --from`: a job of each line, all or none."""

import io
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from launcher.states import Failed, State
from launcher.store.queue import Store
from launcher.system.paths import Home
from tests.build import a_spec, claimed, enqueue, in_state, job_row, until
from tests.launcher.conftest import Launcher
from tests.terminal import COMMAND, in_a_terminal


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def give(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    """Let a text be the standard input."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


def test_each_line_of_a_file_is_a_job(launcher: Launcher, store: Store) -> None:
    Path("jobs.txt").write_text("# two\ntrue 'a b'\n\nsleep 0\n")
    answer = launcher(
        "add", "--from", "jobs.txt", "--hold", "--cpus", "2", "--priority", "3", "--retries", "1"
    )
    assert (answer.code, answer.out, answer.err) == (0, "1\tcommand/1\n2\tcommand/2\n", "")
    rows = [job_row(store, number) for number in (1, 2)]
    assert [row.spec.argv for row in rows] == [("true", "a b"), ("sleep", "0")]
    for row in rows:
        assert (row.state, row.priority, row.run) == (State.HELD, 3, "add")
        assert (row.spec.resources.cpus, row.spec.terms.retries) == (2, 1)
    assert rows[0].spec.signature != rows[1].spec.signature


def test_the_jobs_of_a_name_are_numbered_and_take_it_from_those_that_have_ended(
    launcher: Launcher, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    renamed = "2 ended jobs are called command/prep-1@1 to command/prep-2@2 from now on\n"
    for first, warning in ((1, ""), (3, renamed)):
        give(monkeypatch, b"true\ntrue\n")
        answer = launcher("add", "--from", "-", "--name", "prep")
        assert answer.out == f"{first}\tcommand/prep-1\n{first + 1}\tcommand/prep-2\n"
        assert answer.err == warning
        assert launcher("wait").code == 0
    give(monkeypatch, b"true\ntrue\ntrue\n")
    launcher("add", "--hold", "--name", "prep-3", "--", "true")
    answer = launcher("add", "--from", "-", "--name", "prep")
    assert answer.code == 2
    assert "'command/prep-3' is job 5, which is held" in answer.err
    assert len(store.read.jobs()) == 5
    assert job_row(store, 4).name == "command/prep-2", "nothing of the transaction is kept"


def test_files_that_are_added_at_once_get_numbers_of_their_own(store: Store) -> None:
    Path("jobs.txt").write_text("true\n" * 200)
    adding = [
        subprocess.Popen(
            [*COMMAND, "add", "--hold", "--from", "jobs.txt"], stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    lines = [process.communicate()[0].splitlines() for process in adding]
    assert [process.returncode for process in adding] == [0] * 4
    rows = store.read.jobs()
    assert [row.name for row in rows] == [f"command/{number}" for number in range(1, 801)]
    printed = {int(line.split("\t")[0]): line.split("\t")[1] for part in lines for line in part}
    assert printed == {row.id: row.name for row in rows}


def test_a_number_that_is_the_name_of_another_job_gets_a_suffix(
    launcher: Launcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher("add", "--hold", "--name", "3", "--", "true")
    give(monkeypatch, b"true\ntrue\n")
    assert launcher("add", "--from", "-", "--hold").out == "2\tcommand/2\n3\tcommand/3'\n"


def test_all_of_them_follow_the_jobs_that_are_named(
    launcher: Launcher, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher("add", "--hold", "--name", "first", "--", "true")
    give(monkeypatch, b"true\ntrue\n")
    launcher("add", "--after", "first", "--from", "-")
    assert [job_row(store, number).waits for number in (2, 3)] == [1, 1]
    launcher("release", "first")
    until(lambda: in_state(store, 3, State.DONE), "the last is done")


def test_jobs_after_one_that_failed_are_skipped_and_that_is_said_once(
    launcher: Launcher, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    (failed,) = enqueue(store, a_spec(name="train/a"))
    store.scheduling.finish(claimed(store, failed), Failed(at=2.0, error="no"), outputs={}, now=2.0)
    give(monkeypatch, b"true\ntrue\n")
    answer = launcher("add", "--after", "train/a", "--from", "-")
    assert answer.out == "2\tcommand/2\n3\tcommand/3\n"
    assert answer.err == "skipped, all of them: needs train/a, which failed\n"
    assert in_state(store, 3, State.SKIPPED)


def test_a_wrong_line_is_shown_and_nothing_is_queued(launcher: Launcher, home: Home) -> None:
    Path("jobs.txt").write_text("true\necho 'a b\n")
    answer = launcher("add", "--from", "jobs.txt")
    assert (answer.code, answer.out) == (2, "")
    assert "--> jobs.txt:2:6\n" in answer.err
    assert answer.err.endswith("\n1 error in jobs.txt; nothing was queued\n")
    assert not home.database.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--from", "none.txt"],
            "error: --from: cannot read none.txt: No such file or directory\n",
        ),
        (["--from", ""], "error: --from: the name of the file is empty; - is the standard input\n"),
        (["--from", "."], "error: --from: cannot read .: Is a directory\n"),
        (["--from", "a.txt", "--", "true"], "leave the program 'true' out"),
        (["--from", "a.txt", "--name", "a", "--replace"], "--replace changes one job"),
        (["--from", "a.txt", "--name", ""], "a job's name has at least one character"),
        (["--from", "a.txt", "--after", "nothing"], "no job is called 'nothing'"),
        (["--from", "a.txt", "--cpus", "9999"], "this machine can never run it"),
        (["--from", "a.txt", "--group", "nobody"], "there is no group 'nobody'"),
    ],
)
def test_what_cannot_be_is_refused(
    launcher: Launcher, store: Store, words: Sequence[str], message: str
) -> None:
    Path("a.txt").write_text("true\n")
    answer = launcher("add", *words)
    assert (answer.code, answer.out) == (2, "")
    assert message in answer.err
    assert store.read.jobs() == []


def test_the_first_program_that_is_not_there_is_shown_with_its_line(
    launcher: Launcher, store: Store
) -> None:
    Path("jobs.txt").write_text("true\nnosuchprogram 1\nnosuchprogram 2\n./other\n")
    answer = launcher("add", "--hold", "--from", "jobs.txt")
    assert answer.code == 0
    assert answer.err == (
        "warning[missing-program]: no program 'nosuchprogram' is on PATH\n"
        " --> jobs.txt:2:1\n"
        "  |\n"
        "2 | nosuchprogram 1\n"
        "  | ^^^^^^^^^^^^^\n"
        "  = its jobs fail unless it is there when they start\n"
        "  = likewise './other' (line 4)\n"
    )
    assert len(store.read.jobs()) == 4


def test_the_jobs_share_what_is_asked_for_them_as_one_run(
    launcher: Launcher, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(monkeypatch, b"true\ntrue\n")
    launcher("add", "--hold", "--share", "2.5", "--from", "-")
    assert [row.share for row in store.read.jobs()] == [2.5, 2.5]


def test_a_pipe_that_is_given_as_a_file_is_read(launcher: Launcher, store: Store) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"true a\n")
    os.close(writing)
    assert launcher("add", "--hold", "--from", f"/dev/fd/{reading}").code == 0
    os.close(reading)
    assert job_row(store, 1).spec.argv == ("true", "a")


def test_a_person_reads_how_many_jobs_there_are_and_their_numbers(home: Home) -> None:
    Path("jobs.txt").write_text("true\n" * 1200)
    drawn = in_a_terminal("add", "--hold", "--from", "jobs.txt", "--name", "seed")
    assert drawn == "1,200 jobs held: 1 to 1200 (command/seed-1 to command/seed-1200)\n"
    assert home.exists()


def test_a_person_who_types_the_commands_is_told_how_to_end(store: Store) -> None:
    drawn = in_a_terminal("add", "--hold", "--from", "-", typed="true a\n\x04")
    assert "reading commands, one a line; Ctrl-D ends them\n" in drawn
    assert drawn.endswith("1 job held: command/1\n")
    assert job_row(store, 1).spec.argv == ("true", "a")
