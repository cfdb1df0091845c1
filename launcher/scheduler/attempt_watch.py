"""What became of an attempt: who is alive, how it ended, who may never start it any more.

And all attempts that run: how each is watched, which have ended, and which were asked to stop.
"""

import contextlib
import json
import logging
import os
import select
import signal
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from launcher.context import WorkerEnvironment
from launcher.scheduler.policy.model import Start
from launcher.scheduler.turn import TurnResult
from launcher.states import Lost, Outcome, Void
from launcher.store.rows import Claim, ReadyJob
from launcher.system import cgroups
from launcher.system.paths import Attempt
from launcher.system.processes import (
    Identity,
    alive,
    boot_id,
    descendants,
    end_session,
    go_on,
    handles,
    is_scheduler,
    marked,
    open_pidfd,
    send,
    session,
    stop_all,
    terminate,
)
from launcher.workers.exit_outcome import done_of, word_of
from launcher.workers.fork_server_pool import Ended, Supervisor
from launcher.workers.started_file import (
    VOID,
    first_line,
    program_of,
    recorded_outcome,
    starter_of,
    void_attempt,
)
from launcher.workers.supervisor import PAUSES

LOOK_AGAIN_S = 1.0
PAUSE_PATIENCE_S = 0.2  # for a program without a supervisor to stand still; it is tried again
NO_DESCRIPTOR = -1  # there is nothing that becomes readable; only time helps
ELSEWHERE = -2  # its pilot's file has the news
# a full disk, a disk that does not answer, a folder for a file; a record that is beyond all bounds
UNCLEAR = (OSError, ValueError, ArithmeticError, RecursionError)

logger = logging.getLogger(__name__)


class Watch:
    """An attempt that lives, as the scheduler sees it: of one that cannot be reached, only time tells."""

    claim: Claim  # what was promised to it

    @property
    def descriptor(self) -> int:
        """Readable when there is news; NO_DESCRIPTOR where only time helps, ELSEWHERE on a pilot."""
        return NO_DESCRIPTOR

    def stop(self) -> None:
        """Have it end, politely."""

    def insist(self) -> None:
        """Kill what did not stop, where no supervisor does."""

    def pause(self, *, paused: bool) -> bool:  # noqa: ARG002  # others tell
        """Have its processes stand still, or go on; False where that is to be asked again."""
        return True

    def ending(self) -> "Outcome | Watch | None":
        """Return how it ended, or who is left to be watched; None: there is no news."""
        raise NotImplementedError


class Place(NamedTuple):
    """What an attempt was given: its job, which names its lane, and where it runs."""

    job: ReadyJob
    start: Start


@dataclass(frozen=True, slots=True, kw_only=True)
class Supervised(Watch):
    """An attempt in the hands of a supervisor of ours."""

    claim: Claim
    attempt: Attempt
    supervisor: Supervisor
    environment: WorkerEnvironment
    place: Place | None = None

    @property
    def descriptor(self) -> int:
        """Readable when the attempt or the supervisor has ended."""
        return self.supervisor.channel.fileno()

    def stop(self) -> None:
        """Ask the supervisor; it insists by itself."""
        self.supervisor.stop(self.attempt)

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
                return find_out(self.claim, lambda: left(self.claim, self.attempt))
        return find_out(self.claim, lambda: watch(self.claim, self.attempt))


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopted(Watch):
    """An attempt that another scheduler started: its supervisor, or its program without one."""

    claim: Claim
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
            terminate(self.program)
            if self.attempt.paused.exists():
                go_on(self._pids())

    def insist(self) -> None:
        """Kill an unsupervised program and all below it; a supervisor does that by itself."""
        if self.program and not _readable(self.descriptor):
            for pid in self._pids():
                send(pid, signal.SIGKILL)
            _end_group(self.claim, self.attempt)

    def pause(self, *, paused: bool) -> bool:
        """Have the supervisor do that; without one, stop the program and all below it."""
        if not self.program:
            return tell_supervisor(
                self.attempt, _supervisor(self.claim, self.attempt), paused=paused
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
        return find_out(self.claim, lambda: watch(self.claim, self.attempt))


@dataclass(frozen=True, slots=True, kw_only=True)
class Unclear(Watch):
    """An attempt whose state cannot be read now; it may live."""

    claim: Claim
    look: Callable[[], "Outcome | Watch"]
    again_at: float  # monotonic

    def pause(self, *, paused: bool) -> bool:  # noqa: ARG002  # the protocol's shape
        """Wait until it is known whom to stop."""
        return False

    def ending(self) -> Outcome | Watch | None:
        """Look again, when it is time."""
        return None if time.monotonic() < self.again_at else find_out(self.claim, self.look)


def tell_supervisor(attempt: Attempt, supervisor: Identity, *, paused: bool) -> bool:
    """Have a supervisor pause its program, or let it go on; False where it does not know how.

    One of an earlier version would end of the signal; one that has just been forked handles it soon.
    """
    note_pause(attempt, paused=paused)
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


def find_out(claim: Claim, look: Callable[[], Outcome | Watch]) -> Outcome | Watch:
    """Return what became of an attempt; where that is unclear now, it is looked at again."""
    try:
        return look()
    except UNCLEAR as error:
        logger.warning("job=%d attempt=%d unclear=%r", claim.job, claim.number, str(error))
        return Unclear(claim=claim, look=look, again_at=time.monotonic() + LOOK_AGAIN_S)


def watch(claim: Claim, attempt: Attempt) -> Outcome | Watch:
    """Return a watch on what still lives of a claimed attempt, or how it ended.

    An attempt that has not been started is voided: after this call it cannot be.

    Raises:
        OSError: that cannot be found out now; the disk may be full.
    """
    outcome = recorded_outcome(attempt)
    if outcome is not None:
        return outcome
    if claim.boot != boot_id():
        return Lost(at=time.time(), why="the machine was restarted")
    if void_attempt(attempt):
        return Void(at=time.time())
    if _supervisor(claim, attempt).elsewhere:
        return _left_elsewhere(attempt)
    descriptor = open_pidfd(_supervisor(claim, attempt))
    if descriptor is not None:
        return Adopted(claim=claim, attempt=attempt, pidfd=descriptor)
    return left(claim, attempt)


def _left_elsewhere(attempt: Attempt) -> Outcome:
    """Judge an attempt of another PID namespace, in which no process lives any more: the home is ours by now.

    Its pids mean other processes here, or none: nothing is looked for and nothing is killed.
    """
    now = time.time()
    lost = Lost(at=now, why="the container in which it ran is gone")
    return done_of(word_of(attempt), now) or lost


def _readable(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


def _supervisor(claim: Claim, attempt: Attempt) -> Identity:
    """Return who has the right to start: who took it, or whom the claim names."""
    return starter_of(attempt) or Identity(
        pid=claim.pid, start_ticks=claim.start_ticks, boot=claim.boot
    )


def _end_group(claim: Claim, attempt: Attempt) -> None:
    """Kill what is left in the control group of a dead supervisor, whatever it has become."""
    supervisor = _supervisor(claim, attempt)
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


def left(claim: Claim, attempt: Attempt) -> Outcome | Watch:
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
        return Adopted(claim=claim, attempt=attempt, pidfd=descriptor, program=program.pid)
    # the next attempt must not meet what this one left
    if program is not None:
        end_session(program)
    for who in left:
        end_session(who)
        send(who.pid, signal.SIGKILL)
    _end_group(claim, attempt)
    now = time.time()
    lost = Lost(at=now, why="exit status unknown: its supervisor is gone")
    return done_of(word_of(attempt), now) or lost


REMIND_S = 1.0  # while a program without a supervisor is asked to stop


class RunningAttempts:
    """The watch on each running job's attempt, by job; a job has at most one."""

    def __init__(self) -> None:
        """Begin without attempts."""
        self._watches: dict[int, Watch] = {}
        self._insist_at: dict[int, float] = {}  # job that was asked to stop → monotonic
        self._paused: set[int] = set()  # jobs whose programs stand still

    def __bool__(self) -> bool:
        return bool(self._watches)

    def add(self, watch: Watch) -> None:
        """Watch an attempt."""
        self._watches[watch.claim.job] = watch
        if isinstance(watch, Adopted) and watch.attempt.paused.exists():
            self._paused.add(watch.claim.job)

    def remove(self, job: int) -> None:
        """Forget an attempt whose end is known from elsewhere."""
        del self._watches[job]
        self._insist_at.pop(job, None)
        self._paused.discard(job)

    def claims(self) -> list[Claim]:
        """Return the claims of all attempts."""
        return [watch.claim for watch in self._watches.values()]

    def newest_place(self) -> Place | None:
        """Return the place of the attempt that was started last, None where none has one."""
        watch = next(reversed(self._watches.values()), None)
        return watch.place if isinstance(watch, Supervised) else None

    def read_ahead(self, place: Place, attempt: Attempt) -> None:
        """Let the supervisor read an order that will get it if the eldest job of its lane ends first."""
        for watch in self._watches.values():
            if not isinstance(watch, Supervised) or watch.place is None:
                continue
            if watch.place.job.lane_id == place.job.lane_id:
                watch.supervisor.read_ahead(attempt)
                return

    def descriptors(self) -> Iterator[int]:
        """Return what becomes readable when an attempt has news."""
        for watch in self._watches.values():
            if watch.descriptor >= 0:
                yield watch.descriptor

    def unsupervised(self) -> dict[int, int]:
        """Return pid → job of programs whose supervisors are dead."""
        return {
            watch.program: watch.claim.job
            for watch in self._watches.values()
            if isinstance(watch, Adopted) and watch.program
        }

    def take_news(
        self, readable: Collection[int] | None
    ) -> Iterator[tuple[Watch, Outcome | Watch]]:
        """Remove the attempts that have news; return each with its outcome or with what lives of it.

        Args:
            readable: the descriptors that are readable; None: not known.
        """
        for job, watch in list(self._watches.items()):
            silent = readable is not None and watch.descriptor not in readable
            if silent and watch.descriptor >= 0:
                continue
            news = watch.ending()
            if news is None:
                continue
            self.remove(job)
            yield watch, news

    def stop(self, jobs: Collection[int], result: TurnResult, *, all_jobs: bool) -> None:
        """Ask attempts to stop, and kill after their grace period those that no supervisor kills.

        Args:
            jobs: whose attempts are to stop.
            result: learns when to look again.
            all_jobs: every attempt is to stop.
        """
        for job, watch in self._watches.items():
            if job in self._insist_at:
                if time.monotonic() >= self._insist_at[job]:
                    watch.insist()
            elif all_jobs or job in jobs:
                self._insist_at[job] = time.monotonic() + watch.claim.spec.terms.grace_s
                watch.stop()
        if any(isinstance(self._watches[job], Adopted) for job in self._insist_at):
            result.soon(REMIND_S)
        if any(watch.descriptor == NO_DESCRIPTOR for watch in self._watches.values()):
            result.soon(LOOK_AGAIN_S)

    def pause(self, jobs: Collection[int], result: TurnResult) -> None:
        """Have the programs of some jobs stand still, and those of all others go on.

        Args:
            jobs: whose programs are paused.
            result: learns when to ask again those that could not be told.
        """
        wanted = self._watches.keys() & jobs - self._insist_at.keys()
        for job in wanted ^ self._paused:
            if job in self._insist_at:  # it goes on to its end
                continue
            if not self._watches[job].pause(paused=job in wanted):
                result.soon(REMIND_S)
            elif job in wanted:
                self._paused.add(job)
            else:
                self._paused.discard(job)
