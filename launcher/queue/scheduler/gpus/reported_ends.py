"""When programs say themselves that they will have ended."""

import time
from collections.abc import Callable, Iterable

from launcher.queue.home.paths import Home
from launcher.queue.store.rows import Claim
from launcher.queue.workers.attempt_handles import TRANSIENT_ERRORS
from launcher.queue.workers.progress.attempt_progress import read_newest_step

REPORT_S = 10.0  # seconds between two reads of a program's progress, and before the first one


class ReportedEnds:
    """The ends that programs report themselves, from their steps and the rate of the steps."""

    def __init__(self, home: Home, clock: Callable[[], float] = time.time) -> None:
        """Start without reported ends.

        Args:
            home: Queue folder with the progress of attempts.
            clock: Seconds since 1970, the clock of the reports.
        """
        self._home, self._clock = home, clock
        # time of the last read, reported end
        self._known: dict[tuple[int, int], tuple[float, float | None]] = {}

    def read_ends(self, claims: Iterable[Claim]) -> None:
        """Read the reported ends. Call it outside a transaction, because a slow disk must not lock the queue.

        Args:
            claims: All running attempts. Entries of others are deleted.
        """
        now, at = self._clock(), time.monotonic()
        known, self._known = self._known, {}
        for claim in claims:
            answer = known.get(claim.key)
            if answer is None or answer[0] <= at - REPORT_S:
                due = now >= claim.claimed + REPORT_S
                answer = (at, self._read_end(claim, now)) if due else None
            if answer is not None:
                self._known[claim.key] = answer

    def _read_end(self, claim: Claim, now: float) -> float | None:
        try:
            step = read_newest_step(self._home.attempt(*claim.key))
        except TRANSIENT_ERRORS:  # no output of a program may stop the queue
            return None
        return None if step is None else step.estimated_end(now)

    def end_of(self, claim: Claim) -> float | None:
        """Return the reported end of an attempt in seconds since 1970, None if it reported none."""
        _, ends = self._known.get(claim.key, (0.0, None))
        return None if ends is None or ends < self._clock() else ends
