"""Axes: where a value lies between two ends, and which values get a number."""

import math
from dataclasses import dataclass

_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
FLAT = 0.005  # of values: noise of that size makes no mountains
FLAT_STEPS = 1e-9  # of steps: a program that goes on at step 10,000,000 counts by ones


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """An axis from `low` to `high`, by equal steps or by equal factors."""

    low: float
    high: float
    log: bool = False

    def place(self, value: float) -> float:
        """Return where a value lies: 0 at the low end, 1 at the high one, and cut to that."""
        if self.log:
            low, high = math.log(self.low), math.log(self.high)
            share = (math.log(max(value, self.low)) - low) / (high - low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return min(max(share, 0.0), 1.0)

    def ticks(self, most: int) -> list[float]:
        """Return the values that get a number."""
        return _decades(self, most) if self.log else _even(self.low, self.high, most)


def scale_of(values: list[float], *, log: bool = False, flat: float = FLAT) -> Scale:
    """Return the axis that holds all values.

    Args:
        values: at least one, as `series.finite` returns them.
        log: by factors; values that are not above 0 have no place there. Where none is, by steps.
        flat: values that vary by a smaller share of themselves are drawn as if they varied by so much.
    """
    above = [value for value in values if value > 0]
    if log and above:
        low, high = min(above), max(above)
        if math.log(high) - math.log(low) < flat:
            low, high = low * (1 - flat), high * (1 + flat)
        return Scale(low=low, high=high, log=True)
    low, high = min(values), max(values)
    middle = (low + high) / 2
    least = abs(middle) * flat or 1.0
    if (high - low) / 2 < least:
        low, high = middle - least, middle + least
    return Scale(low=low, high=high)


def _even(low: float, high: float, most: int) -> list[float]:
    """Return round numbers at equal distances."""
    rough = (high - low) / max(1, most)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in _STEPS if factor * power >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    count = math.floor(high / step + 1e-9) - first + 1
    return [(first + number) * step for number in range(min(count, most + 2))]


def _decades(scale: Scale, most: int) -> list[float]:
    """Return powers of ten; where there are fewer than two, round numbers between the ends."""
    first = math.ceil(math.log10(scale.low) - 1e-9)
    last = math.floor(math.log10(scale.high) + 1e-9)
    if last - first < 1:
        return [value for value in _even(scale.low, scale.high, most) if value > 0]
    every = max(1, math.ceil((last - first + 1) / max(1, most)))
    return [10.0**power for power in range(first, last + 1, every)]
