"""The state of an attempt: which of its processes live, how it ended, and which process may never start it any more.

This machine's scheduler and the pilots on nodes use it to watch the attempts of their supervisors. A scheduler adopts a
program whose supervisor was killed. A pilot ends such a program, because nothing would end it if the pilot were killed.
"""

import contextlib
import errno
import json
import logging
import os
import select
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from launcher.queue.home.paths import Attempt
from launcher.queue.jobs.context import WorkerEnvironment, attempt_job_folder, substitute_folders
from launcher.queue.jobs.states import Done, Lost, NeverStarted, Outcome
from launcher.queue.staging.stages import stage_of
from launcher.queue.workers.attempt_journal import (
    REVOKED_LINE,
    has_ended_successfully,
    read_program,
    read_recorded_outcome,
    read_starter,
    read_starter_line,
    revoke_attempt,
)
from launcher.queue.workers.attempt_spec import read_attempt_spec
from launcher.queue.workers.exit_outcome import (
    ExitContext,
    done_from_result,
    judge_exit,
    read_worker_result,
)
from launcher.queue.workers.fork_server_handles import Supervisor, SupervisorReport
from launcher.queue.workers.leftovers import UNKILLABLE_AFTER_S
from launcher.queue.workers.program_files import with_output_stamps
from launcher.queue.workers.supervisor import CONTROL_SIGNAL
from launcher.queue.workers.termination import (
    Termination,
    find_resisting,
    read_termination,
    write_termination,
)
from launcher.system import cgroups
from launcher.system.answering import run_with_timeout
from launcher.system.files import read_bytes
from launcher.system.process_start import open_files_shortage
from launcher.system.process_trees import (
    continue_processes,
    descendants,
    end_session,
    is_scheduler,
    is_unreaped,
    processes_with_marker,
    send_signal,
    session_processes,
    stop_processes,
    terminate,
)
from launcher.system.processes import Identity, boot_id, has_signal_handler, is_alive, open_pidfd
from launcher.system.waiting import wait_until

POLL_S = 1.0
# seconds for pausing a program without a supervisor; a failed pause is tried again
PAUSE_TIMEOUT_S = 0.2
KILL_TIMEOUT_S = 1.0  # seconds until a killed process must be gone
NO_DESCRIPTOR = -1  # there is nothing that becomes readable; only time helps
ON_PILOT = -2  # the messages of the pilot report the attempt
# a full disk, a disk that does not answer, a folder for a file; a record that is beyond all bounds
TRANSIENT_ERRORS = (OSError, ValueError, ArithmeticError, RecursionError)

logger = logging.getLogger(__name__)


class AttemptHandle(ABC):
    """A living attempt, as its starter sees it; one that cannot be reached is only checked again from time to time."""

    @property
    def descriptor(self) -> int:
        """Readable when there is news; NO_DESCRIPTOR if only polling helps, ON_PILOT on a pilot."""
        return NO_DESCRIPTOR

    def stop(self) -> None:  # noqa: B027  # not every one can be reached
        """Ask it to end."""

    def kill_unsupervised(self) -> None:  # noqa: B027  # as above
        """Kill a program that did not end, if it has no supervisor that does so."""

    def kill(self) -> bool:
        """Have it killed without a grace period; False if the caller must repeat the request."""
        return False

    def pause(self, *, is_paused: bool) -> bool:  # noqa: ARG002  # other classes use it
        """Pause or resume its processes; False if the caller must repeat the request."""
        return False

    @abstractmethod
    def poll_outcome(self) -> "Outcome | AttemptHandle | None":
        """Return how it ended, or the attempt to be watched from now on; None if nothing changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisedAttempt(AttemptHandle):
    """An attempt in the hands of a supervisor of ours."""

    attempt: Attempt
    supervisor: Supervisor
    environment: WorkerEnvironment

    @property
    def descriptor(self) -> int:
        """Readable when the attempt or the supervisor has ended."""
        return self.supervisor.channel.fileno()

    def stop(self) -> None:
        """Ask the supervisor; it insists by itself."""
        self.supervisor.stop(self.attempt)
        if is_alive(self.supervisor.who):  # a stopped process does not see other signals
            send_signal(self.supervisor.who.pid, signal.SIGCONT)

    def kill(self) -> bool:
        """Have the supervisor kill its program."""
        return request_kill(self.attempt, self.supervisor.who)

    def supervisor_now(self) -> Identity:
        """Return its supervisor."""
        return self.supervisor.who

    def disconnect(self) -> None:
        """Have the attempt judged by its record; it is voided if it has not begun."""
        self.supervisor.disconnect()

    def pause(self, *, is_paused: bool) -> bool:
        """Leave word in the attempt's folder, and have the supervisor look there."""
        return request_pause(self.attempt, self.supervisor.who, is_paused=is_paused)

    def poll_outcome(self) -> Outcome | AttemptHandle | None:
        """Return how it ended, as its supervisor recorded, otherwise the state without that record."""
        match self.supervisor.receive_report():
            case None:
                return None
            case SupervisorReport(outcome=outcome) if outcome is not None:
                return outcome
            case SupervisorReport():  # the supervisor lives, and continues with other attempts
                return probe_attempt(
                    self.attempt, lambda: judge_orphan(self.supervisor.who, self.attempt)
                )
        return probe_attempt(
            self.attempt, lambda: inspect_attempt(self.supervisor.who, self.attempt)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AdoptedAttempt(AttemptHandle):
    """An attempt that another process started for us: its supervisor lives, or only its program."""

    claimed: Identity  # the attempt's supervisor, as the queue names it
    attempt: Attempt
    pidfd: int
    program: int = 0  # pid of the program, if no supervisor is left

    @property
    def descriptor(self) -> int:
        """Readable when it has ended."""
        return self.pidfd

    def stop(self) -> None:
        """Send SIGTERM: a supervisor passes it on and insists, an unsupervised program gets it itself."""
        if not self.program:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.descriptor, signal.SIGTERM)
                # a stopped process does not see other signals
                signal.pidfd_send_signal(self.descriptor, signal.SIGCONT)
        elif not _is_readable(self.descriptor):
            with contextlib.suppress(OSError):
                self.attempt.end_request.touch(0o600)
            terminate(self.program)
            if self.attempt.paused.exists():
                continue_processes(self._pids())

    def kill_unsupervised(self) -> None:
        """Kill an unsupervised program and all below it; a supervisor does that by itself."""
        if self.program and not _is_readable(self.descriptor):
            pids = self._pids()
            for pid in pids:
                send_signal(pid, signal.SIGKILL)
            _end_group(self.claimed, self.attempt)
            record_kill(self.attempt, pids)

    def kill(self) -> bool:
        """Have the supervisor kill its program; without one, kill that and all below it."""
        if not self.program:
            return request_kill(self.attempt, _current_supervisor(self.claimed, self.attempt))
        with contextlib.suppress(OSError):
            self.attempt.end_request.touch(0o600)
        self.kill_unsupervised()
        return True

    def pause(self, *, is_paused: bool) -> bool:
        """Have the supervisor do that; without one, stop the program and all below it."""
        if not self.program:
            return request_pause(
                self.attempt, _current_supervisor(self.claimed, self.attempt), is_paused=is_paused
            )
        record_pause(self.attempt, is_paused=is_paused)
        if is_paused:
            return stop_processes(self._pids, PAUSE_TIMEOUT_S)
        continue_processes(self._pids())
        return True

    def supervisor_now(self) -> Identity | None:
        """Return its supervisor; None if it is dead.

        Raises:
            OSError: the record of the attempt cannot be read now.
        """
        return None if self.program else _current_supervisor(self.claimed, self.attempt)

    def disconnect(self) -> None:
        """Do nothing: it had begun when it was adopted."""

    def _pids(self) -> list[int]:
        """Return the processes of a program without a supervisor."""
        below = descendants(self.program, skip=is_scheduler)
        return [self.program, *below, *{*session_processes(self.program)} - {self.program, *below}]

    def poll_outcome(self) -> Outcome | AttemptHandle | None:
        """Return how it ended; without its supervisor, the program is left to be watched."""
        if not _is_readable(self.descriptor):
            return None
        os.close(self.descriptor)
        return probe_attempt(self.attempt, lambda: inspect_attempt(self.claimed, self.attempt))


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadableAttempt(AttemptHandle):
    """An attempt whose state cannot be read now; it may live."""

    attempt: Attempt
    probe: Callable[[], "Outcome | AttemptHandle"]
    retry_at: float  # monotonic
    why: str  # logged already

    def poll_outcome(self) -> Outcome | AttemptHandle | None:
        """Look again, when it is time."""
        if time.monotonic() < self.retry_at:
            return None
        return probe_attempt(self.attempt, self.probe, logged_reason=self.why)


def request_pause(attempt: Attempt, supervisor: Identity, *, is_paused: bool) -> bool:
    """Have a supervisor pause or resume its program; False if it cannot handle the signal yet."""
    record_pause(attempt, is_paused=is_paused)
    return _wake_supervisor(supervisor)


def request_kill(attempt: Attempt, supervisor: Identity) -> bool:
    """Have a supervisor kill its program without a grace period; False if it cannot be signalled now."""
    with contextlib.suppress(OSError):
        attempt.kill_request.touch(0o600)
    is_woken = _wake_supervisor(supervisor)
    if is_woken:
        send_signal(supervisor.pid, signal.SIGCONT)  # a stopped process does not see other signals
    return is_woken


def _wake_supervisor(supervisor: Identity) -> bool:
    """Have a supervisor look into the folder of its attempt; False if it has no handler for that yet.

    The signal would end a process that has just been forked and has not installed its handler.
    """
    if not is_alive(supervisor) or not has_signal_handler(supervisor.pid, CONTROL_SIGNAL):
        return False
    send_signal(supervisor.pid, CONTROL_SIGNAL)
    return True


def record_pause(attempt: Attempt, *, is_paused: bool) -> None:
    """Leave word in an attempt's folder whether its program is paused; it may have deleted the folder."""
    with contextlib.suppress(OSError):
        if is_paused:
            attempt.paused.touch(0o600)
        else:
            attempt.paused.unlink(missing_ok=True)


def record_kill(attempt: Attempt, pids: Collection[int]) -> None:
    """Record that a program without a supervisor was killed, and which of its processes live on long after that."""
    now = time.time()
    last = read_termination(attempt)
    if last is None or last.kill_at > now:
        last = Termination(since=now if last is None else last.since, kill_at=now)
    if now >= last.kill_at + UNKILLABLE_AFTER_S:
        last = last._replace(resists=find_resisting(pids))
    if last != read_termination(attempt):
        write_termination(attempt, last)


def probe_attempt(
    attempt: Attempt, probe: Callable[[], Outcome | AttemptHandle], *, logged_reason: str = ""
) -> Outcome | AttemptHandle:
    """Return the state of an attempt; if it is unclear now, return a handle that checks it again.

    Args:
        attempt: which.
        probe: returns it, or raises one of `TRANSIENT_ERRORS`.
        logged_reason: the reason of the previous check, which is not logged again.
    """
    try:
        return probe()
    except TRANSIENT_ERRORS as error:
        why = str(error)
        if why != logged_reason:
            job, _, number = attempt.folder.name.partition("-")
            logger.warning("job=%s attempt=%s unclear=%r", job, number, why)
        again_at = time.monotonic() + POLL_S
        return UnreadableAttempt(attempt=attempt, probe=probe, retry_at=again_at, why=why)


def inspect_attempt(identity: Identity, attempt: Attempt) -> Outcome | AttemptHandle:
    """Return a handle of the living processes of a claimed attempt, or how it ended.

    An attempt that has not been started is voided: after this call it cannot be.

    Raises:
        OSError: that cannot be found out now; the disk may be full.
    """
    outcome = read_recorded_outcome(attempt)
    if outcome is not None:
        return outcome
    if identity.boot != boot_id():
        return Lost(at=time.time(), why="the machine was restarted")
    if revoke_attempt(attempt):
        return NeverStarted(at=time.time())
    if _current_supervisor(identity, attempt).is_foreign_namespace:
        return _judge_in_foreign_namespace(attempt)
    if short := open_files_shortage():
        raise OSError(errno.EMFILE, short)
    descriptor = open_pidfd(_current_supervisor(identity, attempt))
    if descriptor is not None:
        return AdoptedAttempt(claimed=identity, attempt=attempt, pidfd=descriptor)
    return judge_orphan(identity, attempt)


def _judge_in_foreign_namespace(attempt: Attempt) -> Outcome:
    """Judge an attempt of another PID namespace, in which no process lives any more: the home is ours by now.

    Its pids mean other processes here, or none. So no process is searched or killed.
    """
    now = time.time()
    lost = Lost(at=now, why="its container has ended")
    return done_from_result(read_worker_result(attempt), now) or lost


def _is_readable(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


def _current_supervisor(identity: Identity, attempt: Attempt) -> Identity:
    """Return the process that has the right to start: the one that took it, or the one that the claim names."""
    return read_starter(attempt) or identity


def _end_group(identity: Identity, attempt: Attempt) -> None:
    """Kill the remaining processes in the control group of a dead supervisor."""
    supervisor = _current_supervisor(identity, attempt)
    if is_alive(supervisor):  # the supervisor has other attempts by now
        return
    try:
        record = json.loads(read_starter_line(attempt) or "{}")
    except (ValueError, RecursionError):
        record = {}
    text = record.get(cgroups.RECORD_KEY) if isinstance(record, dict) else None
    group = cgroups.read_recorded_group(supervisor, text if isinstance(text, str) else None)
    if group is not None:
        cgroups.kill_group(group, is_spared=is_scheduler)


def judge_orphan(identity: Identity, attempt: Attempt) -> Outcome | AttemptHandle:
    """Judge an attempt whose supervisor is dead, or has nothing to do with it any more.

    Raises:
        OSError: that cannot be found out now.
    """
    # read again: the supervisor may have written the record before it died
    outcome = read_recorded_outcome(attempt)
    if outcome is not None:
        return outcome
    if read_starter_line(attempt) == REVOKED_LINE:
        return NeverStarted(at=time.time())
    program = read_program(attempt)
    left = processes_with_marker(attempt.folder)
    program = program or (left[0] if left else None)
    descriptor = open_pidfd(program) if program is not None else None
    if program is not None and descriptor is not None:
        return AdoptedAttempt(
            claimed=identity, attempt=attempt, pidfd=descriptor, program=program.pid
        )
    supervisor = _current_supervisor(identity, attempt)
    if is_unreaped(supervisor) or (program is not None and is_unreaped(program)):
        raise BlockingIOError(errno.EAGAIN, "its fork server has not reported its end yet")
    end_leftovers(identity, attempt)
    now = time.time()
    lost = Lost(at=now, why="exit status unknown: its supervisor died")
    return (
        done_from_result(read_worker_result(attempt), now)
        or _judge_unsupervised_success(attempt, now)
        or lost
    )


def _judge_unsupervised_success(attempt: Attempt, timestamp: float) -> Outcome | None:
    """Return the end of a process that ended with exit code 0 after its supervisor, None if it was asked to end."""
    if not has_ended_successfully(attempt) or attempt.end_request.exists():
        return None
    order = read_attempt_spec(read_bytes(attempt.spec))
    outcome = judge_exit(0, attempt, ExitContext(has_worker=bool(order.spec.entry)), timestamp)
    if not isinstance(outcome, Done) or order.spec.entry:
        return outcome
    spec, run_folder = order.spec, order.spec.run_folder
    stage = stage_of(attempt, run_folder)
    own = Path(
        stage.output_folder if stage else run_folder,
        attempt_job_folder(spec, order.job).relative_to(run_folder),
    )
    spec, context = substitute_folders(spec, order.context, lambda: own)
    order = order._replace(spec=spec, context=context)
    return run_with_timeout(run_folder, partial(with_output_stamps, outcome, order))


def end_leftovers(identity: Identity, attempt: Attempt) -> None:
    """Kill the remaining processes of an attempt whose supervisor is dead, before its next attempt.

    Raises:
        OSError: the record of their control group cannot be read now.
    """
    try:
        program = read_program(attempt)
    except TRANSIENT_ERRORS:  # the mark in its environment still finds the process
        program = None
    for who in (program, *processes_with_marker(attempt.folder)):
        if who is not None:
            end_session(who)
            kill_process(who)
    _end_group(identity, attempt)


def kill_process(process_identity: Identity) -> None:
    """Kill a process, and wait for a moment until it is gone."""
    descriptor = open_pidfd(process_identity)
    if descriptor is None:
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    os.close(descriptor)
    wait_until(lambda: not is_alive(process_identity), KILL_TIMEOUT_S, 0.002)
