"""The deadlines of a running program: when it is warned, asked to end and killed, and the record of that."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from launcher.queue.home.paths import Attempt
from launcher.queue.jobs.job import Terms
from launcher.queue.workers.leftovers import UNKILLABLE_AFTER_S
from launcher.queue.workers.termination import Termination, find_resisting, write_termination

KILL_RETRY_S = 1.0  # processes forked meanwhile are killed in another round


class TerminationStep(StrEnum):
    """What is due."""

    END = "end"  # SIGTERM
    WARN = "warn"
    KILL = "kill"


@dataclass(slots=True)
class Deadlines:
    """The deadlines of one program; all times are monotonic seconds."""

    terms: Terms
    warn: float | None
    limit: float | None
    kill: float | None = None
    stop_requested: bool = False  # the program was asked to end
    limit_reached: bool = False  # the time limit has asked the program to end
    was_killed: bool = False  # the program was killed
    killed_at: float | None = None  # for the first time

    @classmethod
    def from_terms(cls, terms: Terms, started_at: float) -> "Deadlines":
        """Return the deadlines of a program that began at a time."""
        limit = None if terms.time_limit_s is None else started_at + terms.time_limit_s
        warn = None if limit is None or not terms.warn_s else limit - terms.warn_s
        return cls(terms=terms, warn=warn, limit=limit)

    @property
    def is_ending(self) -> bool:
        """Whether it was asked to end, by whomever."""
        return self.stop_requested or self.limit_reached

    def next_deadline(self, *, is_paused: bool) -> float | None:
        """Return when something is due; a program that is paused has no time to lose."""
        times = (self.kill,) if is_paused else (self.warn, self.limit, self.kill)
        return min((at for at in times if at is not None), default=None)

    def postpone(self, span_s: float) -> None:
        """Move the warning and the time limit by the length of a pause; a kill is not postponed."""
        self.warn = None if self.warn is None else self.warn + span_s
        self.limit = None if self.limit is None else self.limit + span_s

    def schedule_only_kill(self, kill_time: float) -> None:
        """Forget all times except the next kill."""
        self.warn, self.limit, self.kill = None, None, kill_time

    def kill_by(self, kill_time: float) -> None:
        """Have a program that is ending killed at a time at the latest."""
        if self.kill is not None and not self.was_killed:
            self.kill = min(self.kill, kill_time)

    def kill_at_once(self, now: float) -> None:
        """Have the program killed without a grace period."""
        self.stop_requested = not self.limit_reached
        if not self.was_killed:
            self.schedule_only_kill(now)

    def resists(self, now: float) -> bool:
        """Return whether the program should be dead by now: it was killed long enough ago."""
        return self.killed_at is not None and now >= self.killed_at + UNKILLABLE_AFTER_S

    def take_due_step(
        self, now: float, *, stop_requested: bool, is_paused: bool
    ) -> TerminationStep | None:
        """Return the step that is due now, and count it as done.

        Args:
            now: the time.
            stop_requested: it is to end.
            is_paused: it is paused, and its time limit does not come nearer.
        """
        if (
            stop_requested and not self.is_ending
        ):  # the time limit has not asked the program to stop yet
            self.stop_requested = True
            self.schedule_only_kill(now + self.terms.grace_s)
            return TerminationStep.END
        if self.kill is not None and now >= self.kill:
            self.was_killed = True
            self.killed_at = now if self.killed_at is None else self.killed_at
            self.kill = now + KILL_RETRY_S
            return TerminationStep.KILL
        if is_paused:
            return None
        if self.warn is not None and now >= self.warn:
            self.warn = None
            return TerminationStep.WARN
        if self.limit is not None and now >= self.limit:
            self.limit_reached = True
            self.schedule_only_kill(now + self.terms.grace_s)
            return TerminationStep.END
        return None


class TerminationReport:
    """Records how far the end of an attempt's program has come; it is written when that changes."""

    def __init__(self, attempt: Attempt) -> None:
        """Begin with a program that was not asked to end."""
        self._attempt = attempt
        self._last: Termination | None = None
        self._killed = False

    def write(
        self, times: Deadlines, now: float, cause: str, pids: Callable[[], Iterable[int]]
    ) -> None:
        """Record an end.

        Args:
            times: the deadlines of the program, which was asked to end.
            now: monotonic seconds.
            cause: cause as `Termination` has it.
            pids: returns all processes of the attempt.
        """
        wall = time.time()
        last = self._last or Termination(since=wall, kill_at=wall, cause=cause)
        if not times.was_killed:
            last = last._replace(kill_at=wall + max(0.0, (times.kill or now) - now))
        elif not self._killed:
            last, self._killed = last._replace(kill_at=min(last.kill_at, wall)), True
        if times.resists(now):
            last = last._replace(resists=find_resisting(pids()))
        if last != self._last:
            self._last = last
            write_termination(self._attempt, last)
