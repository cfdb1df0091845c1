"""What could not be started for lack of something is passed over for a while, so that others are tried."""

from collections.abc import Hashable
from typing import Generic, TypeVar

FIRST_BAR_S = 2.0  # longer than the first pause of an outage: its single try is somebody else's
LONGEST_BAR_S = 60.0

Key = TypeVar("Key", bound=Hashable)


class Bars(Generic[Key]):
    """Who is not to be tried before when; each bar is twice as long as the one before, up to a minute.

    All times are monotonic seconds.
    """

    def __init__(self) -> None:
        """Begin with nobody barred."""
        self._bars: dict[Key, tuple[float, float]] = {}  # its end, how long it is

    def bar(self, key: Key, now: float) -> None:
        """Pass one over from now on; who failed in the same pause is not punished twice."""
        self._bars = {
            other: (end, span_s)
            for other, (end, span_s) in self._bars.items()
            if now < end + LONGEST_BAR_S
        }
        end, span_s = self._bars.get(key, (0.0, FIRST_BAR_S / 2))
        if now >= end:
            span_s = min(2 * span_s, LONGEST_BAR_S)
            self._bars[key] = now + span_s, span_s

    def wait_s(self, key: Key, now: float) -> float:
        """Return how long one is still passed over; 0: it may be tried."""
        return max(0.0, self._bars.get(key, (0.0, 0.0))[0] - now)
