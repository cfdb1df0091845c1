"""A job name counts once: commands look at the newest job of a name."""

import re
from contextlib import closing

import pytest

from launcher.frontends.screens.snapshots import QueueSnapshotReader
from launcher.queue.home.paths import Home
from launcher.queue.jobs.states import Done, Outcome, State
from launcher.queue.store import job_queries
from launcher.queue.store.job_names import newest_by_superseded, queued_name, superseded_name
from launcher.queue.store.queue import NewJob, Store
from tests.build import a_context, a_spec, an_attempt, finished, job_row
from tests.launcher.conftest import Launcher
from tests.launcher.queued_again import FAILED, RUN, a_seed, add

PROGRAM = a_spec("t.py", name="command/s")


def numbers(lines: str) -> list[int]:
    return [int(line.partition("\t")[0]) for line in lines.splitlines()]


@pytest.fixture
def queued_twice(store: Store) -> Store:
    """Return a sweep of which seed 7 failed, queued again as a whole and done."""
    for outcome in (FAILED, Done(at=2.0)):
        add(store, a_seed(6), Done(at=2.0))
        add(store, a_seed(7), outcome)
    return store


@pytest.mark.parametrize(
    ("name", "number", "queued"),
    [
        ("command/s@seed=6@1", 1, "command/s@seed=6"),
        ("command/s@1''", 1, "command/s"),
        ("command/s@2", 1, "command/s@2"),
        ("command/s@seed=1", 1, "command/s@seed=1"),
        ("command/11", 1, "command/11"),
    ],
)
def test_superseded_name_is_resolved_to_the_original_name(
    name: str, number: int, queued: str
) -> None:
    assert queued_name(name, number) == queued


def test_the_newest_job_of_a_name_supersedes_all_older_ones(store: Store) -> None:
    first, second, third = (add(store, PROGRAM, FAILED) for _ in range(3))
    other = add(store, a_seed(1), FAILED)
    rows = store.read.jobs_of_runs_named(RUN)
    assert newest_by_superseded(store.database.execute, rows) == {first: third, second: third}
    assert [row.id for row in store.read.replace_superseded(rows)] == [third, other]
    store.job_control.delete_jobs([third])
    assert newest_by_superseded(store.database.execute, store.read.jobs_of_runs_named(RUN)) == {
        first: second
    }


@pytest.mark.parametrize("pattern", ["run:fix", "s@*", "command/", "tag:old"])
def test_superseded_failed_job_does_not_count(
    launcher: Launcher, queued_twice: Store, pattern: str
) -> None:
    assert job_row(queued_twice, 2).name == "command/s@seed=7@2"
    queued_twice.job_control.change_tags([2], ["old"], [])
    answer = launcher("wait", pattern)
    assert (answer.code, answer.out) == (0, "")
    assert launcher("status", pattern, "--exit-status").code == 0
    assert launcher("retry", pattern, "--failed", "--dry-run").code == 2
    assert "done. To run" in launcher.refused("retry", pattern)
    assert "No job has failed" in launcher.refused("retry", "--failed")


def test_logs_of_a_run_are_those_of_the_newest_jobs(
    launcher: Launcher, home: Home, queued_twice: Store
) -> None:
    for job in range(1, 5):
        an_attempt(home, a_spec(), job=job).log.write_text(f"log of {job}\n")
    answer = launcher.well("logs", "run:fix")
    assert re.findall(r"log of (\d)", answer.out) == ["3", "4"]
    assert answer.err.endswith("replaced them. To print one: launcher logs 2\n")
    assert launcher.well("logs", "2").out == "log of 2\n"


@pytest.mark.parametrize("pattern", ["2", "02", "command/s@seed=7@2", "s@seed=7@2"])
def test_superseded_job_is_selected_by_its_own_name(
    launcher: Launcher, queued_twice: Store, pattern: str
) -> None:
    assert launcher("wait", pattern).code == 1
    assert launcher("status", pattern, "--exit-status").code == 1
    assert launcher.well("retry", pattern, "--failed", "--dry-run").out.startswith("2\t")


def test_superseded_failures_are_neither_counted_nor_listed_as_failed(
    launcher: Launcher, home: Home, queued_twice: Store
) -> None:
    real = add(queued_twice, a_seed(9), FAILED)
    counts = launcher.json("status")["counts"]
    assert {state: number for state, number in counts.items() if number} == {"done": 3, "failed": 1}
    assert numbers(launcher.well("status", "--failed").out) == [real]
    assert numbers(launcher.well("status", "--failed", "run:fix").out) == [real]
    assert numbers(launcher.well("status", "--failed", "2").out) == [2]
    assert numbers(launcher.well("status", "--state", "failed,skipped").out) == [real]
    every = launcher.well("status", "--state", "failed,skipped", "--all").out
    assert sorted(numbers(every)) == [2, real]
    assert sorted(numbers(launcher.well("status").out)) == [1, 3, 4, real]
    with closing(QueueSnapshotReader(home)) as reader:
        screen = reader.read_snapshot()
    assert (screen.counts[State.DONE], screen.counts[State.FAILED]) == (3, 1)
    assert sorted(job.id for job in screen.recent) == [1, 3, 4, real]


def test_all_failures_are_counted_if_they_are_too_many_to_be_read(
    queued_twice: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_queries, "_MOST_REPLACEABLE", 0)
    assert queued_twice.read.current_counts()[State.FAILED] == 1


@pytest.mark.parametrize("deleted", [False, True])
def test_listed_failures_are_those_without_a_newer_job(store: Store, *, deleted: bool) -> None:
    specs = [PROGRAM, a_seed(1), a_spec(name="command/s@19"), a_spec(name="command/x@2'")]
    jobs = [add(store, spec, FAILED) for spec in specs * 3]
    if deleted:
        store.job_control.delete_jobs(jobs[-4:-2])
    rows = store.read.jobs_of_runs_named(RUN)
    current = [
        row.id for row in rows if row.id not in newest_by_superseded(store.database.execute, rows)
    ]
    assert [row.id for row in store.read.jobs_in_state(State.FAILED, current=True)] == current
    assert store.read.current_counts()[State.FAILED] == len(current)


def test_skips_that_were_queued_again_do_not_count(launcher: Launcher, store: Store) -> None:
    for _ in range(2):
        launcher.well("add", "--hold", "--name", "a", "--", "true")
        launcher.well("add", "--name", "b", "--after", "command/a", "--", "true")
        launcher.well("cancel", "command/a")
    assert store.read.counts()[State.SKIPPED] == 2
    assert store.read.current_counts()[State.SKIPPED] == 1
    assert [event.job for event in store.read.recent_completions(5)] == [4, 3, 1]
    launcher.well("retry", "command/a", "command/b")
    assert [event.job for event in store.read.recent_completions(5)] == [3, 1]


def test_newest_job_of_a_name_counts_if_it_failed(launcher: Launcher, store: Store) -> None:
    add(store, PROGRAM, Done(at=2.0))
    add(store, PROGRAM, FAILED)
    assert launcher("wait", "run:fix").code == 1
    assert launcher("status", "run:fix", "--exit-status").code == 1
    assert launcher.well("retry", "--failed", "--dry-run").out.startswith("2\t")


def add_after(store: Store, *needs: int, name: str) -> int:
    run = store.read.find_run("/nowhere", RUN)
    spec = a_spec(name=f"command/{name}", run=RUN)
    with store.database.writing():
        return store.insert_or_replace(run, a_context(), NewJob(spec, dependencies=needs), 1.0)


@pytest.mark.parametrize("outcome", [FAILED, Done(at=2.0), None])
def test_retried_job_waits_for_the_newer_program_instead_of_the_replaced_one(
    launcher: Launcher, store: Store, outcome: Outcome | None
) -> None:
    older = add(store, a_seed(1), FAILED)
    skipped = add_after(store, older, name="after")
    newer = add(store, a_seed(1), outcome)
    too = [newer] if outcome is FAILED else []
    planned = launcher.well("retry", "command/after", "--dry-run").out
    assert numbers(planned.replace("nothing was changed (dry run)", "")) == [skipped, *too]
    assert store.job_control.retry([skipped], 3.0) == [skipped, *too]
    assert [row.id for row in store.read.dependencies_of(skipped)] == [newer]
    assert job_row(store, older).state is State.FAILED
    assert job_row(store, skipped).waits == (outcome != Done(at=2.0))


def test_retried_job_waits_for_no_newer_program_that_waits_for_it(store: Store) -> None:
    older = add(store, a_seed(1), FAILED)
    skipped = add_after(store, older, name="after")
    store.job_control.rename_ended(older, superseded_name("command/s@seed=1", older))
    newer = add_after(store, skipped, name="s@seed=1")
    assert store.job_control.retry([newer], 3.0) == [older, skipped, newer]
    assert [row.id for row in store.read.dependencies_of(skipped)] == [older]


def test_failures_of_a_replaced_job_that_was_retried_are_not_listed(store: Store) -> None:
    older = add(store, a_seed(1), FAILED)
    newer = add(store, a_seed(1), Done(at=2.0))
    store.job_control.retry([older], 3.0)
    finished(store, older, Done(at=4.0))
    ended = [(event.job, event.state) for event in store.read.recent_completions(5)]
    assert ended == [(older, State.DONE), (newer, State.DONE)]
