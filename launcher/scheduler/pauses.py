"""Pauses of waiting jobs: before a retry, and until the time that a job asks for."""

from launcher.scheduler.turn import TurnResult
from launcher.store.scheduler_actions import Scheduling


class Pauses:
    """Ends pauses when their time has come, over the turns of one scheduler."""

    def __init__(self, queue: Scheduling) -> None:
        """Begin with pauses that were not read yet."""
        self._queue = queue
        self._next_end: float | None = 0.0  # when the next pause ends
        self._ended_at = 0.0  # when pauses were ended most recently

    def read(self) -> None:
        """Read at the next decision which pauses have ended: one may have begun or been lifted."""
        self._next_end = 0.0

    def end(self, now: float, result: TurnResult) -> None:
        """End the pauses whose time has come.

        Args:
            now: seconds since 1970.
            result: learns when the next one ends.
        """
        if now < self._ended_at:
            self.read()  # the clock was set back: a pause of seconds would last for as long as that
        self._ended_at = now
        if self._next_end is not None and now >= self._next_end:
            self._next_end = self._queue.let_go(now)
        if self._next_end is not None:
            result.waiting = True
            result.soon(self._next_end - now)
