"""`launcher wait`: until jobs run, and until the first of them fails."""

import pytest

from launcher.states import State
from launcher.store.queue import Store
from launcher.system.paths import Home
from tests.build import in_state, program_of, shell
from tests.launcher.conftest import Launcher


def test_first_failure_ends_the_wait_while_others_run(launcher: Launcher, store: Store) -> None:
    launcher.well("add", "--run", "ff", "--", "sleep", "60")
    launcher.well("add", "--run", "ff", "--", *shell("exit 4"))
    launcher.well("add", "--run", "other", "--hold", "--", "true")
    answer = launcher("wait", "run:ff", "--first-failure")
    assert answer.code == 1
    assert answer.out == "2\tcommand/2\tfailed\tended with exit code 4\n"
    assert not in_state(store, 1, State.DONE)
    assert launcher("wait", "run:ff", "--first-failure").out == answer.out


def test_cancelled_job_counts_as_a_failure(launcher: Launcher) -> None:
    for _ in range(2):
        launcher.well("add", "--hold", "--", "true")
    launcher.well("cancel", "2")
    answer = launcher("wait", "1", "2", "--first-failure")
    assert (answer.code, answer.out) == (1, "2\tcommand/2\tcancelled\tcancelled by its owner\n")


def test_without_a_failure_the_wait_ends_when_all_are_done(launcher: Launcher) -> None:
    launcher.well("add", "--", "true")
    launcher.well("add", "--", "true")
    assert launcher.well("wait", "1", "2", "--first-failure").out == ""


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
def test_job_that_can_never_run_ends_the_wait(launcher: Launcher, goal: str) -> None:
    launcher.well("add", "--", "false")
    launcher.well("add", "--after", "1", "--", "true")
    answer = launcher("wait", "1", "2", "--for", goal)
    assert answer.code == 1
    assert [line.split("\t")[2] for line in answer.out.splitlines()] == ["failed", "skipped"]


def test_first_failure_of_no_jobs_is_refused(launcher: Launcher, store: Store) -> None:
    assert store.read.counts() == {}
    error = launcher.refused("wait", "--first-failure")
    assert error.startswith("error: --first-failure: no job waits or runs, so none can fail.")
    assert launcher.well("wait", "--for", "running").out == ""
