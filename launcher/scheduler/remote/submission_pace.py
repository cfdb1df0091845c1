"""How fast pilots of a backend may follow each other, from what became of the last ones."""

import math
from collections import deque

from launcher.scheduler.remote.pilot_rules import (
    MINUTE_S,
    Counts,
    pause_s,
    retry_s,
    submission_wait_s,
)


class Pace:
    """The submissions of a backend, and why the next one waits."""

    def __init__(self) -> None:
        """Begin without a past."""
        self._times: deque[float] = deque()  # of the last minute's submissions
        self._newest = -math.inf
        self._not_before = -math.inf
        self.failures = 0  # pilots in a row that never spoke
        self.failure = ""  # how the last of them ended
        self.log: str | None = None  # the last lines of what it printed; None: not read yet
        self._proven = False  # the last one spoke
        self._refusals = 0
        self.refusal = ""  # what the engine said to the last submission; '': it took it

    def counts(self, *, held: int, unspoken: int, now: float) -> Counts:
        """Return the counts that a decision needs."""
        while self._times and now - self._times[0] >= MINUTE_S:
            self._times.popleft()
        return Counts(
            held=held,
            unspoken=unspoken,
            last_minute=len(self._times),
            newest_s=now - self._newest,
            failures=self.failures,
            proven=self._proven,
        )

    def submitted(self, number: int, at: float) -> None:
        """Note that pilots were submitted, or may have been."""
        self._times.extend([at] * number)
        self._newest = max(at, self._newest)

    def accepted(self) -> None:
        """Note that the engine took a submission."""
        self._refusals, self.refusal = 0, ""

    def refused(self, why: str, now: float) -> None:
        """Note that it did not."""
        self._refusals += 1
        self.refusal = why
        self._not_before = max(self._not_before, now + retry_s(self._refusals))

    def spoke(self) -> None:
        """Note that a pilot spoke, and can do its work."""
        self.failures, self.failure, self.log, self._proven = 0, "", None, True
        if not self._refusals:
            self._not_before = -math.inf

    def failed(self, why: str, now: float) -> None:
        """Note that a pilot ended, or was given up, before it could do any work."""
        self.failures, self._proven = self.failures + 1, False
        self.failure = why
        self._not_before = max(self._not_before, now + pause_s(self.failures))

    def forget(self) -> None:
        """Begin anew, as what the pilots are started with is another now; how many there were still counts."""
        self.failures, self._refusals, self._proven = 0, 0, False
        self.failure, self.log, self.refusal = "", None, ""
        self._not_before = -math.inf

    def pause_s(self, now: float) -> float:
        """Return how long failures and refusals forbid a submission."""
        return max(0.0, self._not_before - now)

    def wait_s(self, counts: Counts, per_minute: int, now: float) -> float:
        """Return how long anything forbids a submission."""
        oldest_s = now - self._times[0] if self._times else 0.0
        spaced_s = submission_wait_s(counts, per_minute=per_minute, oldest_s=oldest_s)
        return max(self.pause_s(now), spaced_s)
