"""Growing pauses after failed starts: of all starts on a machine, or of the jobs with the same key."""

import logging
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from launcher.queue.jobs.states import Reason, ReasonCode
from launcher.system.units import exponential_backoff_s

logger = logging.getLogger(__name__)

FIRST_BACKOFF_S = 1.0
LONGEST_BACKOFF_S = 60.0
# a program that was started this long ago, and did not fail to start, has begun
SUCCESS_AFTER_S = 1.0
LOG_EVERY_S = 60.0  # seconds between two log lines about a pause
FIRST_KEY_BACKOFF_S = (
    2.0  # longer than the first pause of an outage, whose single try is then another job's
)
LONGEST_KEY_BACKOFF_S = 60.0
Key = TypeVar("Key", bound=Hashable)


@dataclass(slots=True)
class StartBackoff:
    """Whether programs can be started, as the last tries showed; all times are monotonic seconds.

    After a failed try there is a pause, then one single try. If that fails too, the next pause is twice as
    long. If it succeeds, all programs are started again.
    """

    why: str = ""  # the system's error; empty: none
    _failures: int = 0  # in succession
    _retry_at: float = 0.0  # time of the single try
    _tried_at: float | None = None  # time at which the single try was made; None: not made yet
    _logged_at: float = float("-inf")

    def record_failure(self, why: str, now: float) -> None:
        """Begin a pause: a program could not be started, for a reason that is none of its own."""
        if self.why and self._tried_at is None and now < self._retry_at:
            return  # this start was tried together with the one for which we pause
        pause_s = exponential_backoff_s(FIRST_BACKOFF_S, self._failures, LONGEST_BACKOFF_S)
        self._failures += 1
        self._retry_at, self._tried_at = now + pause_s, None
        if not self.why and now >= self._logged_at + LOG_EVERY_S:
            logger.warning("starting=paused why=%r; tried again at growing intervals", why)
            self._logged_at = now
        self.why = why

    def allows_start(self, now: float) -> bool:
        """Return whether a program may be started now."""
        if self.why and self._tried_at is not None and now >= self._tried_at + SUCCESS_AFTER_S:
            if self._logged_at > float("-inf"):
                logger.info("starting=on")
            self.why, self._tried_at, self._failures = "", None, 0
        return not self.why or (self._tried_at is None and now >= self._retry_at)

    def record_start(self, now: float) -> None:
        """Record that a program is being started."""
        if self.why:
            self._tried_at = now

    def wait_s(self, now: float) -> float:
        """Return how long nothing can be started."""
        at = self._retry_at if self._tried_at is None else self._tried_at + SUCCESS_AFTER_S
        return max(0.0, at - now) if self.why else 0.0

    @property
    def reason(self) -> Reason:
        """Why nothing is started now."""
        text = (
            f"waiting for this machine, which cannot start programs now: {self.why} "
            f"(tried at least every {LONGEST_BACKOFF_S:g} s)"
        )
        return Reason(code=ReasonCode.CANNOT_START, text=text)


class BackoffSet(Generic[Key]):
    """Keys that are excluded until a time, so that others are tried; each exclusion lasts twice as long as the one before, up to a minute.

    All times are monotonic seconds.
    """

    def __init__(self) -> None:
        """Begin without exclusions."""
        # end of the pause, number of earlier pauses
        self._backoffs: dict[Key, tuple[float, int]] = {}

    def add(self, key: Key, now: float) -> None:
        """Exclude a key from now on; a second failure during one exclusion does not lengthen it."""
        self._backoffs = {
            other: (end, times)
            for other, (end, times) in self._backoffs.items()
            if now < end + LONGEST_KEY_BACKOFF_S
        }
        end, times = self._backoffs.get(key, (0.0, 0))
        if now >= end:
            span_s = exponential_backoff_s(FIRST_KEY_BACKOFF_S, times, LONGEST_KEY_BACKOFF_S)
            self._backoffs[key] = now + span_s, times + 1

    def wait_s(self, key: Key, now: float) -> float:
        """Return how long a key is still excluded; 0 if it may be tried."""
        return max(0.0, self._backoffs.get(key, (0.0, 0))[0] - now)
