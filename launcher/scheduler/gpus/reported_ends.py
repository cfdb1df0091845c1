"""When programs say themselves that they will have ended."""

import time
from collections.abc import Callable, Iterable

from launcher.store.rows import Claim
from launcher.system.paths import Home
from launcher.workers.attempt_watch import TRANSIENT_ERRORS
from launcher.workers.progress.attempt_progress import read_newest_step

REPORT_S = (
    10.0  # a program is asked for its progress at most so often, and not before it has run so long
)


class ReportedEnds:
    """When programs say themselves that they will have ended, by their steps and the rate of these."""

    def __init__(self, home: Home, clock: Callable[[], float] = time.time) -> None:
        """Begin without having asked any.

        Args:
            home: where their progress lies.
            clock: seconds since 1970, as they have it.
        """
        self._home, self._clock = home, clock
        self._known: dict[tuple[int, int], tuple[float, float | None]] = {}  # when asked, answer

    def read_ends(self, claims: Iterable[Claim]) -> None:
        """Read what programs tell; to be called outside a transaction: a slow disk must not lock the queue.

        Args:
            claims: all attempts that run; others are forgotten.
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
        except TRANSIENT_ERRORS:  # whatever a program prints, it stops no queue
            return None
        return None if step is None else step.estimated_end(now)

    def end_of(self, claim: Claim) -> float | None:
        """Return when an attempt will have ended, in seconds since 1970; None: it did not say."""
        _, ends = self._known.get(claim.key, (0.0, None))
        return None if ends is None or ends < self._clock() else ends
