"""When a running program is warned, asked to end, and killed; a pause moves all that."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from launcher.job import Terms
from launcher.system.paths import Attempt
from launcher.system.process_tree import go_on, stop_all

STOP_PATIENCE_S = 1.0  # so long at once all of a program is tried to be stopped
AGAIN_S = 0.5  # after which what was forked meanwhile is looked for, until all stands still
LOOK_S = 10.0  # so often a pause looks whether it still holds: a home that was deleted wakes nobody
KILL_AGAIN_S = 1.0  # what was forked meanwhile gets another round


class Step(StrEnum):
    """What is due."""

    END = "end"  # SIGTERM
    WARN = "warn"
    KILL = "kill"


@dataclass(slots=True)
class RunningTime:
    """The deadlines of one program; all times are monotonic seconds."""

    terms: Terms
    warn: float | None
    limit: float | None
    kill: float | None = None
    stopped: bool = False  # it was asked to end
    over: bool = False  # its time limit has asked it
    insisted: bool = False  # it was killed

    @classmethod
    def of(cls, terms: Terms, begun: float) -> "RunningTime":
        """Return the deadlines of a program that began at a time."""
        limit = None if terms.time_limit_s is None else begun + terms.time_limit_s
        warn = None if limit is None or not terms.warn_s else limit - terms.warn_s
        return cls(terms=terms, warn=warn, limit=limit)

    @property
    def ending(self) -> bool:
        """Whether it was asked to end, by whomever."""
        return self.stopped or self.over

    def next(self, *, paused: bool) -> float | None:
        """Return when something is due; a program that is paused has no time to lose."""
        times = (self.kill,) if paused else (self.warn, self.limit, self.kill)
        return min((at for at in times if at is not None), default=None)

    def move(self, span_s: float) -> None:
        """Move what is still to come by a pause."""
        self.warn = None if self.warn is None else self.warn + span_s
        self.limit = None if self.limit is None else self.limit + span_s

    def only_kill(self, at: float) -> None:
        """Forget all but the next kill."""
        self.warn, self.limit, self.kill = None, None, at

    def kill_by(self, at: float) -> None:
        """Have a program that is ending killed at a time at the latest."""
        if self.kill is not None and not self.insisted:
            self.kill = min(self.kill, at)

    def due(self, now: float, *, asked: bool, paused: bool) -> Step | None:
        """Return what is to be done now, and count it as done.

        Args:
            now: the time.
            asked: it is to end.
            paused: it stands still, and its limit does not come nearer.
        """
        if asked and not self.ending:  # its limit has asked it already
            self.stopped = True
            self.only_kill(now + self.terms.grace_s)
            return Step.END
        if self.kill is not None and now >= self.kill:
            self.insisted = True
            self.kill = now + KILL_AGAIN_S
            return Step.KILL
        if paused:
            return None
        if self.warn is not None and now >= self.warn:
            self.warn = None
            return Step.WARN
        if self.limit is not None and now >= self.limit:
            self.over = True
            self.only_kill(now + self.terms.grace_s)
            return Step.END
        return None


class Pause:
    """The pause of one program: all of it stands still while the attempt's folder says so."""

    def __init__(self, attempt: Attempt, pids: Callable[[], Iterable[int]]) -> None:
        """Begin with a program that runs.

        Args:
            attempt: its file `paused` says that it is to stand still.
            pids: returns all processes of the program.
        """
        self._attempt, self._pids = attempt, pids
        self._since: float | None = None
        self.again_at: float | None = None  # when to look again, while it stands still

    @property
    def lasts(self) -> bool:
        """Whether it stands still."""
        return self._since is not None

    def look(self, now: float) -> float:
        """Do what the attempt's folder says; return for how long a pause lasted that is over now."""
        if not self._attempt.paused.exists():
            return self.end(now)
        if self._since is None:
            self._since = now
        self._stop(now)
        return 0.0

    def due(self, now: float) -> bool:
        """Tell whether it is time to look again."""
        return self.again_at is not None and now >= self.again_at

    def end(self, now: float) -> float:
        """Let the program go on; return for how long it stood still."""
        if self._since is None:
            return 0.0
        go_on(self._pids())
        span_s, self._since, self.again_at = now - self._since, None, None
        return span_s

    def _stop(self, now: float) -> None:
        still = stop_all(self._pids, STOP_PATIENCE_S)
        self.again_at = now + (LOOK_S if still else AGAIN_S)
