"""Exclude for a while what could not be started for lack of something, so that others are tried."""

from collections.abc import Hashable
from typing import Generic, TypeVar

FIRST_EXCLUSION_S = (
    2.0  # longer than the first pause of an outage, whose single try is then another job's
)
LONGEST_EXCLUSION_S = 60.0

Key = TypeVar("Key", bound=Hashable)


class Exclusions(Generic[Key]):
    """Keys excluded until a time; each exclusion lasts twice as long as the one before, up to a minute.

    All times are monotonic seconds.
    """

    def __init__(self) -> None:
        """Begin without exclusions."""
        self._exclusions: dict[Key, tuple[float, float]] = {}  # its end, how long it is

    def exclude(self, key: Key, now: float) -> None:
        """Exclude a key from now on; a second failure during one exclusion does not lengthen it."""
        self._exclusions = {
            other: (end, span_s)
            for other, (end, span_s) in self._exclusions.items()
            if now < end + LONGEST_EXCLUSION_S
        }
        end, span_s = self._exclusions.get(key, (0.0, FIRST_EXCLUSION_S / 2))
        if now >= end:
            span_s = min(2 * span_s, LONGEST_EXCLUSION_S)
            self._exclusions[key] = now + span_s, span_s

    def wait_s(self, key: Key, now: float) -> float:
        """Return how long a key is still excluded; 0: it may be tried."""
        return max(0.0, self._exclusions.get(key, (0.0, 0.0))[0] - now)
