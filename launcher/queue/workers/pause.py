"""The pause of a running program: all its processes are stopped while the attempt's folder says so."""

from collections.abc import Callable, Iterable

from launcher.queue.home.paths import Attempt
from launcher.system.process_trees import continue_processes, stop_processes

STOP_TIMEOUT_S = 1.0  # limit of one try to stop all processes of a program
STOP_RETRY_S = 0.5  # seconds between two tries, until all processes are stopped
PAUSE_POLL_S = (
    10.0  # between two checks of a pause, because the deletion of a home wakes no process
)


class Pause:
    """The pause of one program: all its processes are stopped while the attempt's file `paused` exists."""

    def __init__(self, attempt: Attempt, pids: Callable[[], Iterable[int]]) -> None:
        """Begin with a program that runs.

        Args:
            attempt: its file `paused` exists while it is to be paused.
            pids: returns all processes of the program.
        """
        self._attempt, self._pids = attempt, pids
        self._since: float | None = None
        self.retry_at: float | None = None  # when to check again during a pause

    @property
    def is_paused(self) -> bool:
        """Whether it is paused."""
        return self._since is not None

    def apply_request(self, now: float) -> float:
        """Do what the attempt's folder says; return for how long a pause lasted that is over now."""
        if not self._attempt.paused.exists():
            return self.resume(now)
        if self._since is None:
            self._since = now
        self._stop(now)
        return 0.0

    def is_due(self, now: float) -> bool:
        """Return whether the pause must be checked again now."""
        return self.retry_at is not None and now >= self.retry_at

    def resume(self, now: float) -> float:
        """Continue the program; return how long it was paused."""
        if self._since is None:
            return 0.0
        continue_processes(self._pids())
        span_s, self._since, self.retry_at = now - self._since, None, None
        return span_s

    def _stop(self, now: float) -> None:
        still = stop_processes(self._pids, STOP_TIMEOUT_S)
        self.retry_at = now + (PAUSE_POLL_S if still else STOP_RETRY_S)
