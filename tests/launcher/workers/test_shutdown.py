"""SIGTERM or SIGHUP to everything, as at a reboot or a logout: a running program does not fail."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launcher.queue.home.daemon_control import scheduler_pid
from launcher.queue.home.paths import Attempt, Home
from launcher.queue.jobs.context import WorkerEnvironment
from launcher.queue.jobs.job import Spec, Terms
from launcher.queue.jobs.states import Failed, State, Stopped
from launcher.queue.store.queue import Store
from launcher.queue.workers.attempt_handles import SupervisedAttempt
from launcher.queue.workers.exit_outcome import (
    FAILED_WAIT_S,
    SIGNALLED_WAIT_S,
    ExitContext,
    signal_wait_s,
)
from launcher.queue.workers.fork_server_handles import ForkServer
from launcher.system.files import read_json
from launcher.system.process_trees import send_signal
from tests.build import (
    a_spec,
    an_attempt,
    enqueue,
    gone,
    job_row,
    lines_of,
    outcome_of,
    program_of,
    said_by,
    shell,
    started,
    supervisor_of,
    until,
)
from tests.chaos.shutdown import PROGRAMS, shut_down
from tests.launcher.conftest import Launcher
from tests.launcher.queued import serve

ROUNDS = 2  # `make shutdown` does 200
LATER_S = 0.05  # between the signal of a program and that of its supervisor
KIND = """
from launcher.api import JobError

def leaves(job):
    print("ready", flush=True)
    job.stop.wait(60)
    raise JobError("stopped in epoch 2")
"""


def ready(fork_server: ForkServer, home: Home, spec: Spec, **terms: Any) -> SupervisedAttempt:
    """Have an attempt run, and wait until its program can be signalled."""
    attempt = an_attempt(home, spec, **terms)
    supervised = started(fork_server, attempt)
    program_of(attempt)
    until(lambda: "ready" in lines_of(attempt.log), "the program is ready")
    return supervised


def end_program(attempt: Attempt) -> None:
    """Send SIGTERM to an attempt's program, and see it gone."""
    program = program_of(attempt)
    send_signal(program, signal.SIGTERM)
    until(lambda: gone(program), "the program has ended")


@pytest.fixture
def laboratory(tmp_path: Path, home: Home) -> Iterator[ForkServer]:
    (tmp_path / "leaving.py").write_text(KIND)
    fork_server = ForkServer(
        home, WorkerEnvironment(sys.executable, ("launcher.kinds",), str(tmp_path))
    )
    yield fork_server
    fork_server.close()


@pytest.mark.parametrize("program", PROGRAMS)
def test_program_ended_by_a_signal_to_all_counts_as_stopped_though_its_supervisor_slept(
    fork_server: ForkServer, home: Home, program: str
) -> None:
    supervised = ready(fork_server, home, a_spec(*shell(PROGRAMS[program])))
    supervisor = supervised.supervisor.who.pid
    send_signal(supervisor, signal.SIGSTOP)
    end_program(supervised.attempt)
    send_signal(supervisor, signal.SIGTERM)
    send_signal(supervisor, signal.SIGCONT)
    outcome = outcome_of(supervised)
    assert isinstance(outcome, Stopped)
    assert outcome.by == "SIGTERM"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("program", ["dies", "ends-with-1"])
def test_supervisor_that_is_signalled_last_waits_for_its_signal(
    fork_server: ForkServer, home: Home, program: str, number: signal.Signals
) -> None:
    supervised = ready(fork_server, home, a_spec(*shell(PROGRAMS[program])))
    end_program(supervised.attempt)
    time.sleep(LATER_S)  # the instant that is to be met
    send_signal(supervised.supervisor.who.pid, number)
    outcome = outcome_of(supervised)
    assert isinstance(outcome, Stopped)
    assert outcome.by == number.name


@pytest.mark.parametrize(
    ("status", "ran_s", "how", "patience"),
    [
        (signal.SIGTERM, 9.0, ExitContext(), SIGNALLED_WAIT_S),
        (signal.SIGKILL, 9.0, ExitContext(), SIGNALLED_WAIT_S),
        ((128 + signal.SIGTERM) << 8, 9.0, ExitContext(), SIGNALLED_WAIT_S),  # by a shell
        (1 << 8, 9.0, ExitContext(), FAILED_WAIT_S),
        (signal.SIGSEGV, 9.0, ExitContext(), FAILED_WAIT_S),
        (signal.SIGTERM, 9.0, ExitContext(stopped=True), 0.0),
        (signal.SIGTERM, 9.0, ExitContext(over_limit_s=9.0), 0.0),
        (0, 0.1, ExitContext(), 0.0),  # a flood of short programs does not wait
        (0, 10.0, ExitContext(), 0.1),
        (0, 9e5, ExitContext(), FAILED_WAIT_S),  # it may have caught the signal, too
        (0, 0.1, ExitContext(has_worker=True), FAILED_WAIT_S),  # it reported nothing
    ],
)
def test_only_an_exit_that_a_signal_to_all_may_explain_is_waited_for(
    home: Home,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    ran_s: float,
    how: ExitContext,
    patience: float,
) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (0.0, 0.0, 0.0))
    assert signal_wait_s(status, home.attempt(1, 1), how, ran_s) == pytest.approx(patience)


@pytest.mark.parametrize(("load", "factor"), [(0.5, 1), (6.0, 3), (500.0, 10)])
def test_busy_machine_is_given_longer_to_signal_everything(
    home: Home, monkeypatch: pytest.MonkeyPatch, load: float, factor: int
) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0))
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    for status, wait_s in ((1 << 8, FAILED_WAIT_S), (signal.SIGTERM, SIGNALLED_WAIT_S)):
        assert signal_wait_s(status, home.attempt(1, 1), ExitContext(), 9.0) == factor * wait_s


def test_program_terminated_alone_has_failed(fork_server: ForkServer, home: Home) -> None:
    supervised = ready(fork_server, home, a_spec(*shell(PROGRAMS["dies"])))
    end_program(supervised.attempt)
    outcome = outcome_of(supervised)
    assert isinstance(outcome, Failed)
    assert (outcome.error, outcome.signal) == ("ended by SIGTERM: ready", signal.SIGTERM)


def test_worker_ended_by_a_signal_before_its_supervisor_counts_as_stopped(
    laboratory: ForkServer, home: Home
) -> None:
    one = ready(laboratory, home, a_spec(name="toy/1", kind="toy", entry="leaving:leaves"))
    end_program(one.attempt)
    assert (read_json(one.attempt.result) or {})["signalled"] is True
    time.sleep(LATER_S)
    send_signal(one.supervisor.who.pid, signal.SIGTERM)
    assert isinstance(outcome_of(one), Stopped)


def test_supervisor_told_to_exit_exits_and_restarts_no_scheduler(home: Home, store: Store) -> None:
    enqueue(store, a_spec())
    fork_server = ForkServer(home, WorkerEnvironment())
    busy = ready(fork_server, home, a_spec(*shell(PROGRAMS["dies"])))
    fork_server.request_supervisor()
    idle = fork_server.receive_supervisor()
    assert idle is not None
    fork_server.close()
    busy.supervisor.channel.close()  # as the kernel does for a scheduler that has left
    for pid in (idle.who.pid, busy.supervisor.who.pid):
        send_signal(pid, signal.SIGTERM)
        until(lambda pid=pid: gone(pid), "the supervisor has left")  # type: ignore[misc]  # a default binds the loop's value
    idle.channel.close()
    assert scheduler_pid(home) is None
    assert not home.restarts.exists()


def test_stop_after_the_time_limit_neither_excuses_the_job_nor_extends_its_grace(
    fork_server: ForkServer, home: Home
) -> None:
    script = "trap 'echo asked' TERM; echo ready; while :; do sleep 60 & wait; done"
    supervised = ready(fork_server, home, a_spec(*shell(script)), time_limit_s=1.0, grace_s=0.5)
    until(lambda: "asked" in said_by(supervised.attempt), "its limit is reached")
    supervised.stop()
    outcome = outcome_of(supervised)
    assert isinstance(outcome, Failed)
    assert outcome.error == "reached its time limit of 1 s and was killed after its grace period"
    assert said_by(supervised.attempt).count("asked") == 1  # each request would begin a grace


# --- with a scheduler


def test_sigterm_to_all_processes_in_any_order_fails_no_job(tmp_path: Path) -> None:
    toll = shut_down(tmp_path, rounds=ROUNDS, seed=5)
    assert toll.failed == ()
    assert toll.endings["stopped"] >= ROUNDS


def once(effects: Path) -> Spec:
    script = 'echo once >> "$1"; exec sleep 60'
    return a_spec(*shell(script, str(effects)), terms=Terms(rerun="never", grace_s=5.0))


def test_job_that_must_never_run_twice_fails_when_its_supervisor_exits(
    home: Home, store: Store, tmp_path: Path, launcher: Launcher
) -> None:
    (job,) = enqueue(store, once(tmp_path / "effects"))
    serve(home)
    attempt = home.attempt(job, 1)
    program_of(attempt)
    until(lambda: lines_of(tmp_path / "effects"), "it has begun")
    send_signal(supervisor_of(attempt), signal.SIGTERM)
    until(lambda: job_row(store, job).state is not State.RUNNING, "its end is taken in")
    row = job_row(store, job)
    assert (row.state, row.attempts) == (State.FAILED, 1)
    assert row.reason == "failed: stopped by SIGTERM, not queued again (rerun: never)"
    assert "stopped: its supervisor got SIGTERM" in launcher("show", str(job)).out


def test_job_that_must_never_run_twice_fails_when_the_queue_is_stopped_now(
    home: Home, store: Store, tmp_path: Path, launcher: Launcher
) -> None:
    job, other = enqueue(
        store, once(tmp_path / "effects"), a_spec(*shell("exec sleep 60"), name="command/other")
    )
    serve(home)
    program_of(home.attempt(other, 1))
    until(lambda: lines_of(tmp_path / "effects"), "it has begun")
    answer = launcher("stop", "--now")
    assert f"failed because of --rerun never: {job_row(store, job).name}\n" in answer.err
    assert f"  launcher retry {job}\n" in answer.err
    assert "The queue is stopped. 1 job waits in it." in answer.err
    assert job_row(store, job).reason == "failed: stopped, not queued again (rerun: never)"
    assert [job_row(store, one).state for one in (job, other)] == [State.FAILED, State.QUEUED]
