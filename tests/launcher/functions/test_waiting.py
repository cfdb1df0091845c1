"""Waiting for jobs from Python: by future, number, run, and several of them."""

from pathlib import Path
from typing import Any

import pytest

from launcher.api import MachineError, UsageError, submit, submit_many, wait
from launcher.functions.task_files import Run
from launcher.store.queue import NewJob, Store
from launcher.system.daemon_control import scheduler_pid
from launcher.system.paths import Home
from tests.build import DEADLINE_S, a_context, a_spec, until
from tests.launcher.conftest import Launcher
from tests.launcher.functions.conftest import followers

pytestmark = pytest.mark.usefixtures("one_queue", "queue")


def test_the_states_of_all_jobs_are_returned_when_they_have_ended(home: Home) -> None:
    good, bad = submit(int, "3"), submit(int, "x")
    states = wait([good, bad.job, "functions"])
    assert states == {good.job: "done", bad.job: "failed"}
    run = Run(name="functions", folder=home.folder, jobs=(bad.job,), queued=1, joined=0, cached=0)
    assert run.wait() == {bad.job: "failed"}


def test_after_the_timeout_the_states_are_returned_as_they_are() -> None:
    held = submit(int, hold=True)
    assert wait(held, timeout=0.05) == {held.job: "held"}


def test_a_job_or_a_run_that_does_not_exist_is_refused() -> None:
    submit(int, hold=True)
    with pytest.raises(UsageError, match="no job 7"):
        wait(7)
    with pytest.raises(UsageError, match="did you mean 'functions'"):
        wait("function")


@pytest.mark.parametrize("wrong", [3.5, None, True, [[3.5]]])
def test_what_is_no_job_is_refused_with_what_was_expected(wrong: Any) -> None:
    submit(int, hold=True)
    with pytest.raises(UsageError, match="expected futures, runs, names of runs or numbers"):
        wait(wrong)


def test_who_waits_learns_that_the_queue_is_stopped(
    launcher: Launcher, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("launcher.store.feed.CHECK_EVERY_S", 0.0)
    held = submit(int, hold=True)
    assert launcher("stop").code == 0
    until(lambda: scheduler_pid(home) is None, "the scheduler has left")
    with pytest.raises(MachineError, match="launcher start"):
        wait(held)
    with pytest.raises(MachineError, match="launcher start"):
        held.result()


@pytest.mark.usefixtures("alone")
def test_nothing_is_printed_outside_of_terminals_and_notebooks(
    capfd: pytest.CaptureFixture[str],
) -> None:
    wait(submit_many(abs, [-1, -2]))
    assert capfd.readouterr() == ("", "")


def test_of_runs_with_one_name_the_newest_is_meant(store: Store) -> None:
    numbers = []
    for age, root in enumerate(("/old", "/new")):
        with store.writing():
            run = store.run(Path(root), "study")
            new = NewJob(spec=a_spec("true", run="study", root=root))
            numbers.append(store.put(run, a_context(), new, float(age)))
    assert [*wait("study", timeout=0)] == numbers[1:]


@pytest.mark.usefixtures("alone")
def test_who_asks_after_the_start_of_a_stopped_queue_is_not_told_that_it_is_stopped(
    launcher: Launcher,
) -> None:
    assert submit(abs, -2).result(DEADLINE_S) == 2
    assert launcher("stop").code == 0
    answer = submit(abs, -1)
    with pytest.raises(MachineError, match="the queue is stopped"):
        answer.result(DEADLINE_S)
    assert launcher("start").code == 0
    assert answer.result(DEADLINE_S) == 1


@pytest.mark.usefixtures("alone")
def test_a_job_that_came_while_nobody_had_the_queue_open_is_followed(
    launcher: Launcher, home: Home
) -> None:
    assert submit(abs, -2).result(DEADLINE_S) == 2
    assert launcher("stop").code == 0
    until(
        lambda: not home.database.with_name(f"{home.database.name}-wal").exists(), "all closed it"
    )
    answer = submit(abs, -1)
    until(lambda: followers(), "it is followed")
    assert launcher("start").code == 0
    assert answer.result(DEADLINE_S) == 1
