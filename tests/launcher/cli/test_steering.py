"""Changes of jobs, and refusals of `launcher pause`; its effect on processes is in tests/e2e/test_steering.py."""

import ctypes
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import pytest

from launcher.queue.home.daemon_control import scheduler_pid
from launcher.queue.home.paths import Home
from launcher.queue.jobs.job import Terms
from launcher.queue.jobs.states import Failed, Reason, State
from launcher.queue.store.queue import Store
from launcher.queue.store.rows import PILOT_PREFIX, AttemptRow
from launcher.queue.store.steering import JobControl
from launcher.system.files import write_json
from launcher.system.processes import identity, login_name
from tests.build import (
    a_seat,
    a_spec,
    claimed,
    enqueue,
    finished,
    in_state,
    job_row,
    program_of,
    until,
)
from tests.launcher.conftest import Launcher
from tests.shortened import shorten
from tests.terminal import in_a_terminal

PTRACE_DETACH, PTRACE_SEIZE, PTRACE_O_TRACEEXIT = 0x11, 0x4206, 0x40  # of linux/ptrace.h
BOOM = Failed(at=2.0, error="no")


def a_chain(store: Store, *names: str) -> list[int]:
    """Jobs each of which needs the one before it."""
    needs = {name: [before] for before, name in pairwise(names)}
    return enqueue(store, *names, needs=needs)


def states(store: Store) -> list[State]:
    return [job.state for job in store.read.jobs()]


# --- cancel


def test_waiting_jobs_are_cancelled_without_a_question(launcher: Launcher, store: Store) -> None:
    enqueue(store, "train/a", "train/b", "test/a")
    answer = launcher("cancel", "train/*")
    assert answer.out == "1\ttrain/a\tcancelled\n2\ttrain/b\tcancelled\n"
    assert [job.state for job in store.read.jobs()] == [
        State.CANCELLED,
        State.CANCELLED,
        State.QUEUED,
    ]


def test_a_dry_run_of_cancel_changes_nothing(launcher: Launcher, store: Store) -> None:
    enqueue(store, a_spec())
    dry = launcher("cancel", "-n", "1")
    assert dry.out == "1\tcommand/1\twould be cancelled\n"
    assert dry.err == "nothing was changed (dry run)\n"
    assert in_state(store, 1, State.QUEUED)


def test_running_jobs_are_ended_only_with_confirmation(
    launcher: Launcher, home: Home, store: Store
) -> None:
    launcher("add", "--", "sleep", "60")
    program = program_of(home.attempt(1, 1))
    assert "end 1 running job? Without a terminal, add --yes" in launcher.refused("cancel", "1")
    assert identity(program) is not None
    assert launcher("cancel", "--yes", "1").out == "1\tcommand/1\tending\n"
    assert launcher("wait", "1").code == 1
    assert in_state(store, 1, State.CANCELLED)
    assert identity(program) is None


def test_cancelling_a_running_job_works_without_a_scheduler_too(
    launcher: Launcher, home: Home, store: Store
) -> None:
    launcher("add", "--", "sleep", "60")
    program = program_of(home.attempt(1, 1))
    write_json(home.restarts, {"schema": 1, "times": [time.time()] * 3})  # nobody restarts it
    pid = scheduler_pid(home)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    until(lambda: scheduler_pid(home) is None, "the scheduler is gone")
    launcher("cancel", "--yes", "1")
    assert launcher("wait", "1").code == 1
    assert identity(program) is None


@pytest.fixture
def survives_sigkill() -> Iterator[Callable[[int], None]]:
    """Keeps a process that gets SIGKILL in the kernel, as a hung driver does, until the test has ended."""
    ptrace = ctypes.CDLL(None).ptrace
    ptrace.argtypes = [ctypes.c_long] * 4
    traced: list[int] = []

    def trace(pid: int) -> None:
        if ptrace(PTRACE_SEIZE, pid, 0, PTRACE_O_TRACEEXIT):
            pytest.skip("this machine does not let tests trace processes")
        traced.append(pid)

    yield trace
    for pid in traced:
        ptrace(PTRACE_DETACH, pid, 0, 0)


def test_a_process_that_does_not_end_after_sigkill_is_named(
    launcher: Launcher,
    home: Home,
    store: Store,
    survives_sigkill: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    quick: dict[str, str] = {}
    shorten(quick, {"launcher.queue.workers.running_time.UNKILLABLE_AFTER_S": 1.0})
    monkeypatch.setenv(*next(iter(quick.items())))
    launcher.well("add", "--", "sleep", "600")
    program = program_of(home.attempt(1, 1))
    survives_sigkill(program)
    launcher.well("cancel", "--now", "--yes", "1")
    until(lambda: launcher.json("show", "1")["termination"]["resists"], "the process is named")
    shown = launcher.json("show", "1")
    resisting = {"pid": program, "user": login_name(os.getuid()), "state": "t"}
    assert shown["termination"]["resists"] == [resisting]
    named = f"process {program} of {resisting['user']} does not end after SIGKILL"
    assert named in shown["reason"]
    assert named in launcher.well("show", "1").out


def test_cancelling_reports_skipped_dependents(launcher: Launcher, store: Store) -> None:
    a_chain(store, *(f"train/{letter}" for letter in "abcdef"))
    dry = launcher("cancel", "-n", "train/a")
    real = launcher("cancel", "train/a")
    told = "5 jobs that depend on them {} be skipped: train/b, train/c, train/d and 2 more\n"
    assert dry.err == told.format("would") + "nothing was changed (dry run)\n"
    assert real.err == told.format("will")
    assert states(store) == [State.CANCELLED] + [State.SKIPPED] * 5


def test_jobs_with_the_same_name_are_distinguished_by_number(
    launcher: Launcher, store: Store
) -> None:
    (a,) = enqueue(store, "command/a")
    (b,) = enqueue(store, "command/a", run="other")
    enqueue(store, "command/b")
    finished(store, a)
    finished(store, b)
    answer = launcher("cancel", "command/*")
    assert answer.err == "unchanged, done: command/a (job 1), command/a (job 2)\n"
    enqueue(store, "command/a", run="third")
    assert launcher("hold", "4", "2").err == "unchanged, done: command/a (job 2)\n"


def test_a_terminal_asks_before_several_jobs_are_cancelled(home: Home, store: Store) -> None:
    enqueue(store, "train/a", "train/b")
    drawn = in_a_terminal("cancel", "train/*", typed="n\n", code=130)
    assert drawn.endswith(
        "1  train/a  queued\n2  train/b  queued\ncancel 2 jobs? [y/N]: nothing was changed\n"
    )
    assert states(store) == [State.QUEUED] * 2
    in_a_terminal("cancel", "train/*", typed="y\n")
    assert states(store) == [State.CANCELLED] * 2


def test_held_jobs_wait_until_they_are_released(
    launcher: Launcher, home: Home, store: Store
) -> None:
    enqueue(store, "train/a", "train/b")
    assert launcher("hold", "train/").out == "1\ttrain/a\theld\n2\ttrain/b\theld\n"
    assert states(store) == [State.HELD] * 2
    assert scheduler_pid(home) is None, "nothing needs one"
    write_json(home.stop_record, {"schema": 1, "now": False, "at": 0.0})
    answer = launcher.well("release", "train/b")
    assert answer.out == "2\ttrain/b\treleased\n"
    assert "the queue is stopped" in answer.err
    assert states(store) == [State.HELD, State.QUEUED]


# --- hold, release, priority


@pytest.mark.parametrize("verb", ["hold", "release", "priority"])
def test_a_dry_run_changes_nothing(launcher: Launcher, store: Store, verb: str) -> None:
    enqueue(store, "train/a", "train/b")
    store.job_control.hold([2], 1.0)
    number = ("7",) if verb == "priority" else ()
    answer = launcher(verb, "--dry-run", *number, "train/*")
    would = {"hold": "be held", "release": "be released", "priority": "get priority 0 → 7"}[verb]
    assert answer.out
    assert all(line.endswith(f"\twould {would}") for line in answer.out.splitlines())
    assert answer.err.endswith("nothing was changed (dry run)\n")
    assert states(store) == [State.QUEUED, State.HELD]
    assert [job.priority for job in store.read.jobs()] == [0, 0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("priority", "3", "--yse"), "no job matches '--yse'"),
        (("retry", "--failed"), "nothing to retry. No job has failed"),
    ],
)
def test_impossible_change_is_an_error(
    launcher: Launcher, store: Store, words: Sequence[str], message: str
) -> None:
    a, _ = enqueue(store, "train/a", "train/b")
    finished(store, a)
    assert message in launcher.refused(*words)
    assert states(store) == [State.DONE, State.QUEUED]


def test_many_jobs_in_another_state_are_counted(launcher: Launcher, store: Store) -> None:
    jobs = enqueue(store, *(f"train/{number}" for number in range(6)))
    for job in jobs[1:]:
        finished(store, job)
    answer = launcher("hold", "train/")
    assert answer.out == "1\ttrain/0\theld\n"
    assert answer.err == "unchanged, done: train/1, train/2, train/3 and 2 more\n"


def test_priority_decides_the_start_order(launcher: Launcher, store: Store) -> None:
    enqueue(store, *(f"train/{letter}" for letter in "abc"))
    assert launcher("priority", "10", "train/b").out == "2\ttrain/b\tpriority 0 → 10\n"
    assert launcher("priority", "-1", "1").out == "1\ttrain/a\tpriority 0 → -1\n"
    assert [job.id for job in store.ready_jobs.read_ready(3)] == [2, 3, 1]


# --- retry


def test_retry_names_the_dependencies_queued_with_it(
    launcher: Launcher, home: Home, store: Store
) -> None:
    write_json(home.stop_record, {"schema": 1, "now": False, "at": 0.0})
    a_chain(store, "command/a", "command/b", "command/c")
    finished(store, 1, BOOM)
    assert states(store) == [State.FAILED, State.SKIPPED, State.SKIPPED]
    dry = launcher("retry", "-n", "command/b")
    assert states(store) == [State.FAILED, State.SKIPPED, State.SKIPPED]
    real = launcher("retry", "command/b")
    assert dry.out == real.out.replace("\tqueued", "\twould be queued")
    assert real.out == (
        "1\tcommand/a\tqueued again with them\n"
        "2\tcommand/b\tqueued again\n"
        "3\tcommand/c\tqueued again with them\n"
    )
    launcher.well("wait", "1", "2", "3")
    assert job_row(store, 1).attempts == 2


def test_all_failed_jobs_are_retried(launcher: Launcher, home: Home, store: Store) -> None:
    names = ("train/a", "train/b", "test/c", "test/d")
    a, b, c, d = enqueue(store, *names)
    write_json(home.stop_record, {"schema": 1, "now": False, "at": 0.0})
    for job in (a, c):
        finished(store, job, BOOM)
    finished(store, b)
    store.job_control.cancel([d], 3.0)
    answer = launcher("retry", "--failed", "--dry-run")
    assert [line.split("\t")[0] for line in answer.out.splitlines()] == ["1", "3"]
    answer = launcher("retry", "--failed", "train/")
    assert answer.out == "1\ttrain/a\tqueued again\n"
    left, note = answer.err.splitlines()
    assert left == "unchanged, done: train/b"
    assert "was stopped and starts jobs again" in note
    assert not home.stop_record.exists()


def test_cancelled_jobs_among_failed_ones_are_retried_only_if_confirmed(
    launcher: Launcher, store: Store
) -> None:
    needs = {"command/after": ["command/bad"], "command/after-gone": ["command/gone"]}
    enqueue(
        store, "command/bad", "command/gone", "command/after", "command/after-gone", needs=needs
    )
    write_json(store.home.stop_record, {"schema": 1, "now": False, "at": 0.0})
    finished(store, 1, BOOM)
    store.job_control.cancel([2], 3.0)

    def retried(*words: str) -> list[str]:
        answer = launcher.well("retry", "--dry-run", *words)
        assert ("cancelled job left out" in answer.err) == (words == ("command/",))
        return [line.split("\t")[1] for line in answer.out.splitlines()]

    assert retried("command/") == ["command/bad", "command/after"]
    assert retried("command/", "--yes") == [row.name for row in store.read.jobs()]
    assert retried("command/gone") == ["command/gone", "command/after-gone"]
    assert retried("2") == ["command/gone", "command/after-gone"]
    drawn = in_a_terminal("retry", "command/", typed="n\n")
    assert "also queue 1 cancelled job again? [y/N]" in drawn
    bad, cancelled, *_, skipped = store.read.jobs()
    assert (cancelled.state, skipped.state) == (State.CANCELLED, State.SKIPPED)
    assert bad.state is not State.FAILED or bad.attempts > 1


def test_a_held_job_that_was_cancelled_is_held_again(launcher: Launcher, store: Store) -> None:
    launcher("add", "--hold", "--name", "late", "--", "true")
    launcher("cancel", "1")
    assert launcher("retry", "-n", "1").out == "1\tcommand/late\twould be held again\n"
    answer = launcher("retry", "1")
    assert answer.out == "1\tcommand/late\theld again\n"
    assert answer.err == "note: 1 job is held again. Let them start: launcher release\n"
    assert in_state(store, 1, State.HELD)
    launcher("release", "1")
    launcher.well("wait", "1")
    assert launcher("retry", "--force", "1").out == "1\tcommand/late\tqueued again\n"


# --- group


def test_group_is_created_changed_and_deleted(launcher: Launcher, store: Store) -> None:
    assert launcher("group").err == "no groups. Create one: launcher group NAME --limit 2\n"
    dry = launcher("group", "downloads", "--limit", "2", "-n")
    assert dry.out == "downloads\twould have at most 2 jobs at once\n"
    assert dry.err == "nothing was changed (dry run)\n"
    assert store.read.group_limits() == []
    assert (
        launcher("group", "downloads", "--limit", "2").out == "downloads\tat most 2 jobs at once\n"
    )
    assert (
        launcher("group", "downloads", "--limit", "1").out == "downloads\tat most 1 job at once\n"
    )
    assert launcher("group", "downloads", "--no-limit").out == "downloads\tno limit\n"
    assert store.read.group_limits() == []


def test_groups_are_listed_with_running_and_waiting_jobs(launcher: Launcher, store: Store) -> None:
    store.job_control.set_group_limit("downloads", 2)
    store.job_control.set_group_limit("other", 1)
    terms = Terms(group="downloads")
    jobs = enqueue(
        store,
        *(a_spec(name=f"get/{number}", cpus=1 + number % 2, terms=terms) for number in range(5)),
        "alone",
    )
    claimed(store, jobs[0])
    claimed(store, jobs[5])
    store.job_control.hold([jobs[1]], 1.0)
    finished(store, jobs[2])
    assert launcher("group").out == "downloads\t2\t1\t3\nother\t1\t0\t0\n"
    assert launcher("group", "other").out == "other\t1\t0\t0\n"
    assert launcher.json("group") == {
        "schema": 1,
        "groups": [
            {"name": "downloads", "limit": 2, "running": 1, "paused": None, "waiting": 3},
            {"name": "other", "limit": 1, "running": 0, "paused": None, "waiting": 0},
        ],
    }
    status = launcher.json("status")
    first = {"name": "downloads", "limit": 2, "running": 1, "paused": None}
    assert status["groups"][0] == first


def test_job_on_a_cluster_node_is_not_paused(launcher: Launcher, store: Store) -> None:
    (job,) = enqueue(store, a_spec())
    seat = a_seat(boot=f"{PILOT_PREFIX}0123456789abcdef")
    assert store.claims.claim(job, seat, reason="fits", now=1.0) is not None
    assert "jobs on cluster nodes cannot be paused" in launcher.refused("pause", str(job))
    assert job_row(store, job).paused is None


def test_job_that_starts_on_a_cluster_node_after_its_selection_is_not_paused(
    launcher: Launcher, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved, left = enqueue(store, "command/moved", "command/left")
    first = claimed(store, moved)
    claimed(store, left)
    pause = JobControl.pause

    def move_and_pause(
        self: JobControl, jobs: Sequence[int], reason_of: Callable[[AttemptRow], Reason], now: float
    ) -> list[int]:
        store.transitions.finish_attempt(first, BOOM, outputs={}, now=2.0)
        store.job_control.retry([moved], 3.0)
        claimed(store, moved, 4.0, boot=f"{PILOT_PREFIX}0123456789abcdef")
        return pause(self, jobs, reason_of, now)

    monkeypatch.setattr(JobControl, "pause", move_and_pause)
    said = launcher("pause", "command/*")
    assert said.out == f"{left}\tcommand/left\tpaused\n"
    assert said.err.startswith("unchanged: command/moved (jobs on cluster nodes cannot be paused")
    assert [job_row(store, job).paused is None for job in (moved, left)] == [True, False]


def test_only_paused_jobs_are_resumed(launcher: Launcher, store: Store) -> None:
    (running,) = enqueue(store, "command/b")
    claimed(store, running)
    assert "These jobs are not paused: command/b" in launcher.refused("resume", str(running))
    assert launcher("pause", str(running), "--dry-run").out.endswith("would be paused\n")
    assert job_row(store, running).state is State.RUNNING
    assert job_row(store, running).paused is None
