"""Supervisors that a signal, a debugger or a control group has stopped: they stop no other job, and their own ends."""

import contextlib
import ctypes
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from launcher import __version__
from launcher.queue.home.paths import Attempt, Home
from launcher.queue.jobs.job import Terms
from launcher.queue.jobs.states import Failed, NeverStarted, Outcome, ReasonCode, Stopped
from launcher.queue.scheduler import frozen_supervisors
from launcher.queue.scheduler.cycle import ControlState, CycleResult
from launcher.queue.scheduler.frozen_supervisors import FrozenSupervisors
from launcher.queue.scheduler.running_attempts import RunningAttempts, StopRequests
from launcher.queue.store.queue import Store
from launcher.queue.workers import fork_server_pool
from launcher.queue.workers.attempt_handles import AdoptedAttempt, SupervisedAttempt
from launcher.queue.workers.fork_server_handles import ForkServer, Supervisor
from launcher.queue.workers.fork_server_pool import ForkServerPool
from launcher.system.frozen_processes import why_frozen
from launcher.system.process_trees import descendants, send_signal
from launcher.system.processes import Identity, identity
from tests.build import (
    PLAIN,
    Clock,
    a_spec,
    an_attempt,
    claimed,
    enqueue,
    gone,
    job_row,
    program_of,
    seen,
    shell,
    started,
    until,
)

PTRACE_SEIZE, PTRACE_INTERRUPT, PTRACE_DETACH = 0x4206, 0x4207, 17  # <sys/ptrace.h>
MORE_THAN_A_BUFFER = 5000  # orders


class Watched:
    """A running job with a real supervisor, and the checks of a scheduler, each of which is due."""

    def __init__(self, store: Store, fork_server: ForkServer, home: Home, **terms: Any) -> None:
        spec = a_spec(*shell("trap 'exit 3' TERM; while :; do sleep 0.01; done"))
        spec = spec._replace(terms=Terms(**terms))
        self.store, self.attempts = store, RunningAttempts()
        (self.job,) = enqueue(store, spec)
        claim = claimed(store, self.job)
        self.attempt = an_attempt(home, spec, **terms)
        self.watch = started(fork_server, self.attempt)
        self.supervisor = self.watch.supervisor.who.pid
        self.attempts.add(claim, self.watch)
        self.checks = FrozenSupervisors(store.running_jobs, self.attempts, Clock())

    def check(self) -> None:
        self.checks.check(ControlState(), CycleResult())

    def outcome(self) -> Outcome:
        """Check until the attempt has ended, and return how."""
        ends: list[Outcome] = []

        def has_ended() -> bool:
            self.check()
            for claim, _, news in self.attempts.poll_events(None):
                if isinstance(news, Outcome):
                    ends.append(news)
                else:
                    self.attempts.add(claim, news)
            return bool(ends)

        until(has_ended, "the attempt has ended")
        return ends[0]


Watch = Callable[..., Watched]


@pytest.fixture
def watch(store: Store, fork_server: ForkServer, home: Home) -> Iterator[Watch]:
    """Begin a job; its channel is closed afterwards."""
    begun: list[Watched] = []

    def begin(**terms: Any) -> Watched:
        begun.append(Watched(store, fork_server, home, **terms))
        return begun[-1]

    yield begin
    for watched in begun:
        watched.watch.supervisor.channel.close()


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CHECK_S", "ENDING_CHECK_S", "CONTINUE_S"):
        monkeypatch.setattr(frozen_supervisors, name, 0.0)


def stop_supervisor(pid: int) -> None:
    send_signal(pid, signal.SIGSTOP)
    until(lambda: why_frozen(pid) == "stopped by a signal", "the supervisor is stopped")


@contextlib.contextmanager
def debugged(pid: int) -> Iterator[None]:
    """Hold a process as a debugger does: SIGCONT does not continue it."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    if libc.ptrace(PTRACE_SEIZE, pid, None, None) != 0:
        pytest.skip("this machine does not allow a debugger")
    libc.ptrace(PTRACE_INTERRUPT, pid, None, None)
    until(lambda: why_frozen(pid) == "stopped by a debugger", "the supervisor is stopped")
    yield
    libc.ptrace(PTRACE_DETACH, pid, None, None)


def test_orders_for_a_stopped_supervisor_do_not_block_the_scheduler(home: Home) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    me = identity(os.getpid())
    assert isinstance(me, Identity)
    supervisor = Supervisor(who=me, version=__version__, channel=ours)
    attempt = home.attempt(1, 1)

    def send_orders() -> None:
        for _ in range(MORE_THAN_A_BUFFER):
            supervisor.read_ahead(attempt)
        assert supervisor.receive_report() is None, "what it may miss does not disconnect it"
        supervisor.stop(attempt)

    sender = threading.Thread(target=send_orders, daemon=True)
    sender.start()
    sender.join(20)
    blocked = sender.is_alive()
    theirs.close()
    assert not blocked
    ours.close()


def test_stopped_supervisor_is_the_reason_of_its_job_until_it_continues(
    store: Store, watch: Watch
) -> None:
    watched = watch()
    program_of(watched.attempt)
    before = job_row(store, watched.job).state_reason
    watched.check()
    assert job_row(store, watched.job).state_reason == before
    stop_supervisor(watched.supervisor)
    watched.check()
    assert job_row(store, watched.job).state_reason == before, "it may continue at once"
    watched.check()
    reason = job_row(store, watched.job).state_reason
    assert reason.code is ReasonCode.FROZEN
    assert reason.text == f"its supervisor (pid {watched.supervisor}) is stopped by a signal"
    send_signal(watched.supervisor, signal.SIGCONT)
    until(lambda: not why_frozen(watched.supervisor), "the supervisor continues")
    watched.check()
    assert job_row(store, watched.job).state_reason == before


def test_time_limit_acts_on_the_program_of_a_stopped_supervisor(store: Store, watch: Watch) -> None:
    watched = watch(time_limit_s=0.3, grace_s=5.0)
    program = program_of(watched.attempt)
    stop_supervisor(watched.supervisor)
    outcome = watched.outcome()
    assert isinstance(outcome, Failed)
    assert outcome.over_limit
    assert outcome.exit_code == 3, "it had its grace period"
    assert gone(program)


@pytest.mark.parametrize("killed", [True, False])
@pytest.mark.parametrize("adopted", [True, False])
def test_cancelled_job_of_a_stopped_supervisor_ends(
    watch: Watch, *, killed: bool, adopted: bool
) -> None:
    watched = watch(grace_s=30.0)
    program = program_of(watched.attempt)
    if adopted:
        (claim,) = watched.attempts.claims()
        watched.attempts.remove(watched.job)
        found = seen(watched.attempt, claim)
        assert isinstance(found, AdoptedAttempt)
        watched.attempts.add(claim, found)
    stop_supervisor(watched.supervisor)
    stops = StopRequests({watched.job}, {watched.job} if killed else ())
    watched.attempts.stop(stops, CycleResult())
    assert isinstance(watched.outcome(), Stopped)
    assert gone(program)


def test_time_limit_acts_although_a_debugger_holds_the_supervisor(
    store: Store, watch: Watch
) -> None:
    watched = watch(time_limit_s=0.2, grace_s=0.1)
    program = program_of(watched.attempt)
    with debugged(watched.supervisor):
        outcome = watched.outcome()
    assert isinstance(outcome, Failed)
    assert outcome.over_limit
    assert gone(program)
    assert gone(watched.supervisor)


def test_cancel_acts_although_a_debugger_holds_the_supervisor(store: Store, watch: Watch) -> None:
    watched = watch(grace_s=30.0)
    program = program_of(watched.attempt)
    with debugged(watched.supervisor):
        watched.attempts.stop(StopRequests({watched.job}, {watched.job}), CycleResult())
        assert isinstance(watched.outcome(), Stopped)
    assert gone(program)


def test_debugged_supervisor_keeps_a_program_that_is_not_to_end(store: Store, watch: Watch) -> None:
    watched = watch(time_limit_s=600.0)
    program = program_of(watched.attempt)
    with debugged(watched.supervisor):
        for _ in range(4):
            watched.check()
        assert "debugger" in job_row(store, watched.job).state_reason.text
    assert not gone(program)
    assert not gone(watched.supervisor)


def test_attempt_that_a_stopped_supervisor_has_not_begun_is_voided(
    store: Store, fork_server: ForkServer, home: Home, tmp_path: Path
) -> None:
    effects = tmp_path / "effects"
    (job,) = enqueue(store, a_spec("touch", str(effects)))
    claim = claimed(store, job)
    attempt: Attempt = an_attempt(home, a_spec("touch", str(effects)))
    fork_server.request_supervisor()
    supervisor = fork_server.receive_supervisor()
    assert supervisor is not None
    stop_supervisor(supervisor.who.pid)
    supervisor.run(attempt)
    attempts = RunningAttempts()
    watch = SupervisedAttempt(attempt=attempt, supervisor=supervisor, environment=PLAIN)
    attempts.add(claim, watch)
    checks = FrozenSupervisors(store.running_jobs, attempts, Clock())
    for _ in range(2):
        checks.check(ControlState(), CycleResult())
    ((_, _, news),) = attempts.poll_events(None)
    assert isinstance(news, NeverStarted)
    send_signal(supervisor.who.pid, signal.SIGCONT)
    until(lambda: gone(supervisor.who.pid), "the supervisor has left")
    assert not effects.exists()
    supervisor.channel.close()


def test_stopped_fork_server_is_named(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fork_server_pool, "ANSWER_S", 0.0)
    pool = ForkServerPool(home, most_idle=1)
    pool.prepare(PLAIN)
    until(lambda: pool.collect_spawned() and not pool.why_delayed(PLAIN), "it has answered")
    server, *_ = (  # the others are its children
        pid
        for pid in descendants(os.getpid())
        if str(home.folder) in Path(f"/proc/{pid}/cmdline").read_text()
    )
    send_signal(server, signal.SIGSTOP)
    until(lambda: why_frozen(server), "the fork server is stopped")
    first = pool.take_supervisor(PLAIN)
    assert first is not None, "those that it has forked are not affected"
    first.channel.close()
    assert pool.take_supervisor(PLAIN) is None
    assert pool.why_delayed(PLAIN) == f"its fork server (pid {server}) is stopped by a signal"
    send_signal(server, signal.SIGCONT)
    until(lambda: pool.collect_spawned(), "it has answered")
    assert pool.why_delayed(PLAIN) == ""
    pool.close()


def test_process_in_a_frozen_control_group_stands_still() -> None:
    group = Path("/sys/fs/cgroup/unified", f"frozen-{os.getpid()}")
    if not os.access(group.parent, os.W_OK):
        pytest.skip("no control group of version 2 can be made here")
    group.mkdir()
    child = os.fork()
    if child == 0:
        signal.pause()
        os._exit(0)
    try:
        assert why_frozen(child) == ""
        (group / "cgroup.procs").write_text(str(child))
        (group / "cgroup.freeze").write_text("1")
        until(lambda: why_frozen(child) == "in a frozen control group", "the group is frozen")
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        until(lambda: not (group / "cgroup.procs").read_text(), "the group is empty")
        group.rmdir()
