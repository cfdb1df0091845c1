"""`launcher wait`: until jobs run, and until the first of them fails."""

import pytest

from launcher.queue.home.paths import Home
from launcher.queue.jobs.states import Failed, State
from launcher.queue.store.queue import Store
from tests.build import enqueue, finished, in_state, program_of, shell
from tests.launcher.conftest import Launcher
from tests.terminal import in_a_terminal


def test_first_failure_ends_the_wait_while_others_run(launcher: Launcher, store: Store) -> None:
    launcher.well("add", "--run", "ff", "--", "sleep", "60")
    launcher.well("add", "--run", "ff", "--", *shell("exit 4"))
    launcher.well("add", "--run", "other", "--hold", "--", "true")
    answer = launcher("wait", "run:ff", "--first-failure")
    assert answer.code == 1
    assert answer.out == "2\tcommand/2\tfailed\tended with exit code 4\n"
    assert not in_state(store, 1, State.DONE)
    assert launcher("wait", "run:ff", "--first-failure").out == answer.out


def test_cancelled_job_counts_as_a_failure(launcher: Launcher, store: Store) -> None:
    for _ in range(2):
        launcher.well("add", "--hold", "--", "true")
    launcher.well("cancel", "2")
    enqueue(store, "command/done")
    finished(store, 3)
    assert launcher.well("wait", "3", "--first-failure").out == ""
    answer = launcher("wait", "1", "2", "--first-failure")
    assert (answer.code, answer.out) == (1, "2\tcommand/2\tcancelled\tcancelled by its owner\n")


def test_wait_for_running_ends_when_all_have_started(
    launcher: Launcher, home: Home, store: Store
) -> None:
    launcher.well("add", "--", "sleep", "60")
    launcher.well("add", "--", "true")
    assert launcher.well("wait", "1", "2", "--for", "running").out == ""
    assert program_of(home.attempt(1, 1))
    assert in_state(store, 1, State.RUNNING)
    launcher.well("add", "--hold", "--", "true")
    late = launcher("wait", "1", "3", "--for", "running", "--timeout", "0.1s")
    assert late.code == 3
    assert "the jobs have not started after 0.1 s (--timeout)" in late.err


@pytest.mark.parametrize("goal", ["running", "ended"])
def test_job_that_can_never_run_ends_the_wait(launcher: Launcher, store: Store, goal: str) -> None:
    enqueue(store, "command/a", "command/b", needs={"command/b": ["command/a"]})
    finished(store, 1, Failed(at=2.0, error="no"))
    answer = launcher("wait", "1", "2", "--for", goal)
    assert answer.code == 1
    assert [line.split("\t")[2] for line in answer.out.splitlines()] == ["failed", "skipped"]


def test_first_failure_of_no_jobs_is_refused(launcher: Launcher, store: Store) -> None:
    assert store.read.counts() == {}
    error = launcher.refused("wait", "--first-failure")
    assert error.startswith("error: --first-failure: no job waits or runs, so none can fail.")
    assert launcher.well("wait", "--for", "running").out == ""


def test_terminal_shows_how_many_jobs_wait_and_why_none_runs(launcher: Launcher) -> None:
    launcher.well("add", "--not-before", "+9h", "--", "true")
    launcher.well("add", "--hold", "--", "true")
    drawn = in_a_terminal("wait", "1", "2", "--timeout", "1.2s", code=3)
    note, counts, *_ = drawn.split("\n")
    assert note.startswith("note: 1 held job does not start before `launcher release`")
    assert counts.startswith("waiting: 1 queued · 1 held. Job 1: waiting for 20")
    error = launcher("wait", "1", "2", "--timeout", "0.1s").err
    assert "waiting: " not in error
