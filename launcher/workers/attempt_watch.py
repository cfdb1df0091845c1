"""What became of an attempt: who is alive, how it ended, who may never start it any more.

So this machine's scheduler and the pilots on nodes watch what their supervisors run. A scheduler adopts a program whose
supervisor was killed; a pilot ends it, as nobody else would if it was killed, too.
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

from launcher.context import WorkerEnvironment, job_folder, with_folders
from launcher.staging.stages import stage_of
from launcher.states import Done, Lost, Outcome, Void
from launcher.system import cgroups
from launcher.system.answering import within
from launcher.system.files import read_bytes
from launcher.system.paths import Attempt
from launcher.system.process_start import short_of_files
from launcher.system.process_trees import (
    descendants,
    end_session,
    go_on,
    is_scheduler,
    is_unnoticed,
    marked,
    send,
    session,
    stop_all,
    terminate,
)
from launcher.system.processes import Identity, alive, boot_id, handles, open_pidfd
from launcher.workers.exit_outcome import Circumstances, done_of, judge, word_of
from launcher.workers.fork_server_handles import Ended, Supervisor
from launcher.workers.leftovers import UNKILLABLE_S
from launcher.workers.order import read_order
from launcher.workers.program_files import with_outputs
from launcher.workers.started_file import (
    VOID,
    ended_well,
    first_line,
    program_of,
    recorded_outcome,
    starter_of,
    void_attempt,
)
from launcher.workers.supervisor import PAUSES
from launcher.workers.termination import (
    Termination,
    read_termination,
    resisting,
    write_termination,
)

LOOK_AGAIN_S = 1.0
PAUSE_PATIENCE_S = 0.2  # for a program without a supervisor to stand still; it is tried again
KILL_PATIENCE_S = 1.0  # for who was killed to be gone
NO_DESCRIPTOR = -1  # there is nothing that becomes readable; only time helps
ELSEWHERE = -2  # its pilot's file has the news
# a full disk, a disk that does not answer, a folder for a file; a record that is beyond all bounds
UNCLEAR = (OSError, ValueError, ArithmeticError, RecursionError)

logger = logging.getLogger(__name__)


class Watch(ABC):
    """An attempt that lives, as who started it sees it: of one that cannot be reached, only time tells."""

    @property
    def descriptor(self) -> int:
        """Readable when there is news; NO_DESCRIPTOR where only time helps, ELSEWHERE on a pilot."""
        return NO_DESCRIPTOR

    def stop(self) -> None:  # noqa: B027  # not every one can be reached
        """Have it end, politely."""

    def insist(self) -> None:  # noqa: B027  # likewise
        """Kill what did not stop, where no supervisor does."""

    def kill(self) -> bool:
        """Have it killed without a grace period; False if that is to be asked again."""
        return False

    def pause(self, *, paused: bool) -> bool:  # noqa: ARG002  # others tell
        """Have its processes stand still, or go on; False where that is to be asked again."""
        return True

    @abstractmethod
    def ending(self) -> "Outcome | Watch | None":
        """Return how it ended, or who is left to be watched; None: there is no news."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Supervised(Watch):
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

    def kill(self) -> bool:
        """Have the supervisor kill its program."""
        return order_kill(self.attempt, self.supervisor.who)

    def pause(self, *, paused: bool) -> bool:
        """Leave word in the attempt's folder, and have the supervisor look there."""
        return tell_supervisor(self.attempt, self.supervisor.who, paused=paused)

    def ending(self) -> Outcome | Watch | None:
        """Return how it ended, as its supervisor recorded, or what is known without that."""
        match self.supervisor.news():
            case None:
                return None
            case Ended(outcome=outcome) if outcome is not None:
                return outcome
            case Ended():  # it lives, and goes on to other attempts
                return find_out(self.attempt, lambda: left(self.supervisor.who, self.attempt))
        return find_out(self.attempt, lambda: watch(self.supervisor.who, self.attempt))


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopted(Watch):
    """An attempt without whom we gave it to: its supervisor, or its program without one."""

    claimed: Identity  # its supervisor, as the queue names it
    attempt: Attempt
    pidfd: int
    program: int = 0  # its pid, where no supervisor is left

    @property
    def descriptor(self) -> int:
        """Readable when it has ended."""
        return self.pidfd

    def stop(self) -> None:
        """Send SIGTERM: a supervisor passes it on and insists, an unsupervised program gets it itself."""
        if not self.program:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.descriptor, signal.SIGTERM)
        elif not _readable(self.descriptor):
            with contextlib.suppress(OSError):
                self.attempt.asked.touch(0o600)
            terminate(self.program)
            if self.attempt.paused.exists():
                go_on(self._pids())

    def insist(self) -> None:
        """Kill an unsupervised program and all below it; a supervisor does that by itself."""
        if self.program and not _readable(self.descriptor):
            pids = self._pids()
            for pid in pids:
                send(pid, signal.SIGKILL)
            _end_group(self.claimed, self.attempt)
            note_killed(self.attempt, pids)

    def kill(self) -> bool:
        """Have the supervisor kill its program; without one, kill that and all below it."""
        if not self.program:
            return order_kill(self.attempt, _supervisor(self.claimed, self.attempt))
        with contextlib.suppress(OSError):
            self.attempt.asked.touch(0o600)
        self.insist()
        return True

    def pause(self, *, paused: bool) -> bool:
        """Have the supervisor do that; without one, stop the program and all below it."""
        if not self.program:
            return tell_supervisor(
                self.attempt, _supervisor(self.claimed, self.attempt), paused=paused
            )
        note_pause(self.attempt, paused=paused)
        if paused:
            return stop_all(self._pids, PAUSE_PATIENCE_S)
        go_on(self._pids())
        return True

    def _pids(self) -> list[int]:
        """Return the processes of a program without a supervisor."""
        below = descendants(self.program, skip=is_scheduler)
        return [self.program, *below, *{*session(self.program)} - {self.program, *below}]

    def ending(self) -> Outcome | Watch | None:
        """Return how it ended; without its supervisor, the program is left to be watched."""
        if not _readable(self.descriptor):
            return None
        os.close(self.descriptor)
        return find_out(self.attempt, lambda: watch(self.claimed, self.attempt))


@dataclass(frozen=True, slots=True, kw_only=True)
class Unclear(Watch):
    """An attempt whose state cannot be read now; it may live."""

    attempt: Attempt
    look: Callable[[], "Outcome | Watch"]
    again_at: float  # monotonic
    why: str  # logged already

    def pause(self, *, paused: bool) -> bool:  # noqa: ARG002  # the protocol's shape
        """Wait until it is known whom to stop."""
        return False

    def ending(self) -> Outcome | Watch | None:
        """Look again, when it is time."""
        if time.monotonic() < self.again_at:
            return None
        return find_out(self.attempt, self.look, logged=self.why)


def tell_supervisor(attempt: Attempt, supervisor: Identity, *, paused: bool) -> bool:
    """Have a supervisor pause its program, or let it go on; False where it does not know how.

    One of an earlier version would end of the signal; one that has just been forked handles it soon.
    """
    note_pause(attempt, paused=paused)
    return _wake_supervisor(supervisor)


def order_kill(attempt: Attempt, supervisor: Identity) -> bool:
    """Have a supervisor kill its program without a grace period; False if it cannot be told now.

    A supervisor of an earlier version only looks for a pause.
    """
    with contextlib.suppress(OSError):
        attempt.kill.touch(0o600)
    return _wake_supervisor(supervisor)


def _wake_supervisor(supervisor: Identity) -> bool:
    """Have a supervisor look into the folder of its attempt; False if it has no handler for that yet."""
    if not alive(supervisor) or not handles(supervisor.pid, PAUSES):
        return False
    send(supervisor.pid, PAUSES)
    return True


def note_pause(attempt: Attempt, *, paused: bool) -> None:
    """Leave word in an attempt's folder whether its program is paused; it may have deleted the folder."""
    with contextlib.suppress(OSError):
        if paused:
            attempt.paused.touch(0o600)
        else:
            attempt.paused.unlink(missing_ok=True)


def note_killed(attempt: Attempt, pids: Collection[int]) -> None:
    """Record that a program without a supervisor was killed, and which of its processes live on long after that."""
    now = time.time()
    last = read_termination(attempt)
    if last is None or last.kill_at > now:
        last = Termination(since=now if last is None else last.since, kill_at=now)
    if now >= last.kill_at + UNKILLABLE_S:
        last = last._replace(resists=resisting(pids))
    if last != read_termination(attempt):
        write_termination(attempt, last)


def find_out(
    attempt: Attempt, look: Callable[[], Outcome | Watch], *, logged: str = ""
) -> Outcome | Watch:
    """Return what became of an attempt; where that is unclear now, it is looked at again.

    Args:
        attempt: which.
        look: returns it, or raises one of `UNCLEAR`.
        logged: the reason of the look before, which is not logged again.
    """
    try:
        return look()
    except UNCLEAR as error:
        why = str(error)
        if why != logged:
            job, _, number = attempt.folder.name.partition("-")
            logger.warning("job=%s attempt=%s unclear=%r", job, number, why)
        again_at = time.monotonic() + LOOK_AGAIN_S
        return Unclear(attempt=attempt, look=look, again_at=again_at, why=why)


def watch(claimed: Identity, attempt: Attempt) -> Outcome | Watch:
    """Return a watch on what still lives of a claimed attempt, or how it ended.

    An attempt that has not been started is voided: after this call it cannot be.

    Raises:
        OSError: that cannot be found out now; the disk may be full.
    """
    outcome = recorded_outcome(attempt)
    if outcome is not None:
        return outcome
    if claimed.boot != boot_id():
        return Lost(at=time.time(), why="the machine was restarted")
    if void_attempt(attempt):
        return Void(at=time.time())
    if _supervisor(claimed, attempt).elsewhere:
        return _left_elsewhere(attempt)
    if short := short_of_files():
        raise OSError(errno.EMFILE, short)
    descriptor = open_pidfd(_supervisor(claimed, attempt))
    if descriptor is not None:
        return Adopted(claimed=claimed, attempt=attempt, pidfd=descriptor)
    return left(claimed, attempt)


def _left_elsewhere(attempt: Attempt) -> Outcome:
    """Judge an attempt of another PID namespace, in which no process lives any more: the home is ours by now.

    Its pids mean other processes here, or none: nothing is looked for and nothing is killed.
    """
    now = time.time()
    lost = Lost(at=now, why="its container has ended")
    return done_of(word_of(attempt), now) or lost


def _readable(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


def _supervisor(claimed: Identity, attempt: Attempt) -> Identity:
    """Return who has the right to start: who took it, or whom the claim names."""
    return starter_of(attempt) or claimed


def _end_group(claimed: Identity, attempt: Attempt) -> None:
    """Kill what is left in the control group of a dead supervisor, whatever it has become."""
    supervisor = _supervisor(claimed, attempt)
    if alive(supervisor):  # it has other attempts by now
        return
    try:
        record = json.loads(first_line(attempt) or "{}")
    except (ValueError, RecursionError):
        record = {}
    text = record.get(cgroups.RECORD_KEY) if isinstance(record, dict) else None
    group = cgroups.recorded_group(supervisor, text if isinstance(text, str) else None)
    if group is not None:
        cgroups.end(group, spare=is_scheduler)


def left(claimed: Identity, attempt: Attempt) -> Outcome | Watch:
    """Judge an attempt whose supervisor is dead, or has nothing to do with it any more.

    Raises:
        OSError: that cannot be found out now.
    """
    outcome = recorded_outcome(attempt)  # again: it may have been written before it died
    if outcome is not None:
        return outcome
    if first_line(attempt) == VOID:
        return Void(at=time.time())
    program = program_of(attempt)
    left = marked(attempt.folder)
    program = program or (left[0] if left else None)
    descriptor = open_pidfd(program) if program is not None else None
    if program is not None and descriptor is not None:
        return Adopted(claimed=claimed, attempt=attempt, pidfd=descriptor, program=program.pid)
    supervisor = _supervisor(claimed, attempt)
    if is_unnoticed(supervisor) or (program is not None and is_unnoticed(program)):
        raise BlockingIOError(errno.EAGAIN, "its fork server has not reported its end yet")
    end_leftovers(claimed, attempt)
    now = time.time()
    lost = Lost(at=now, why="exit status unknown: its supervisor died")
    return done_of(word_of(attempt), now) or _alone(attempt, now) or lost


def _alone(attempt: Attempt, at: float) -> Outcome | None:
    """Return the end of a process that ended with exit code 0 after its supervisor, None if it was asked to end."""
    if not ended_well(attempt) or attempt.asked.exists():
        return None
    order = read_order(read_bytes(attempt.spec))
    outcome = judge(0, attempt, Circumstances(has_worker=bool(order.spec.entry)), at)
    if not isinstance(outcome, Done) or order.spec.entry:
        return outcome
    spec, run_folder = order.spec, order.spec.run_folder
    stage = stage_of(attempt, run_folder)
    own = Path(
        stage.new if stage else run_folder, job_folder(spec, order.job).relative_to(run_folder)
    )
    spec, context = with_folders(spec, order.context, lambda: own)
    order = order._replace(spec=spec, context=context)
    return within(run_folder, partial(with_outputs, outcome, order))


def end_leftovers(claimed: Identity, attempt: Attempt) -> None:
    """Kill what is left of an attempt whose supervisor is dead: the next attempt must not meet it.

    Raises:
        OSError: it cannot be read now in which control group that is.
    """
    try:
        program = program_of(attempt)
    except UNCLEAR:  # its mark is left to find it by
        program = None
    for who in (program, *marked(attempt.folder)):
        if who is not None:
            end_session(who)
            kill(who)
    _end_group(claimed, attempt)


def kill(who: Identity) -> None:
    """Kill a process, and wait for a moment until it is gone."""
    descriptor = open_pidfd(who)
    if descriptor is None:
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    os.close(descriptor)
    deadline = time.monotonic() + KILL_PATIENCE_S
    while alive(who) and time.monotonic() < deadline:
        time.sleep(0.002)
