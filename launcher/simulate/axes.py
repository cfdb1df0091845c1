"""Where a value lies in a picture, and which round values its axes name."""

from dataclasses import dataclass
from math import ceil, floor, log10

_UNITS = (("days", 86_400.0), ("hours", 3_600.0), ("minutes", 60.0), ("seconds", 1.0))
_ROUND = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class Frame:
    """A part of a picture with time from left to right and rows from top to bottom."""

    x: float
    y: float
    width: float
    height: float
    end: float  # seconds at its right edge
    rows: int

    @property
    def row_height(self) -> float:
        """The height of a row."""
        return self.height / self.rows

    def across(self, at: float) -> float:
        """Return where a time lies."""
        return self.x + self.width * at / self.end


def steps(most: float, about: int) -> list[float]:
    """Return round whole numbers from 0, evenly spaced, until one is not less than `most`."""
    rough = most / about
    power = 10.0 ** floor(log10(rough))
    step = next(one * power for one in _ROUND if one * power >= rough * (1 - 1e-9))
    step = max(1.0, ceil(step))  # nobody counts half a job
    return [step * at for at in range(ceil(most / step - 1e-9) + 1)]


def moments(end: float) -> tuple[list[tuple[float, str]], str]:
    """Return times for an axis up to `end`, each with its name, and the unit of the names."""
    unit, unit_s = next((one for one in _UNITS if end >= 3 * one[1]), _UNITS[-1])
    rough = end / unit_s / 10
    power = 10.0 ** floor(log10(rough))
    step = next(one * power for one in _ROUND if one * power >= rough * (1 - 1e-9))
    count = floor(end / unit_s / step + 1e-9)
    return [(at * step * unit_s, f"{at * step:g}") for at in range(count + 1)], unit
