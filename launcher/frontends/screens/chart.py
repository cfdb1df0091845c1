"""Numbers over steps as lines of text: an axis with numbers, and a curve of blocks below it."""

from collections.abc import Sequence
from typing import NamedTuple

from launcher.queue.workers.progress.steps import Point
from launcher.system.text_table import TextLine, TextSpan, TextStyle, line, width_of

_BLOCKS = "▁▂▃▄▅▆▇█"
_LEAST_HEIGHT, _LEAST_WIDTH = 3, 12  # with less room there is no curve
_MIDDLE = 7  # rows from which the axis has a number in its middle
FLAT = 0.005  # part of the values: noise of that size makes no mountains
MOST = 1e300  # larger numbers are left out: the difference of two of them may exceed the range of floats
LEAST = 1e-300  # smaller ones are drawn as zero: a tenth of their difference may be none


class Scale(NamedTuple):
    """An axis from `low` to `high`."""

    low: float
    high: float

    def place(self, value: float) -> float:
        """Return the position of a value on the scale: 0 at the low end, 1 at the high one, clipped to these."""
        return min(max((value - self.low) / (self.high - self.low), 0.0), 1.0)


def scale_of(values: Sequence[float]) -> Scale:
    """Return the axis that holds all values; values that hardly vary are drawn flat.

    Args:
        values: at least one, as `drawable_points` returns them.
    """
    low, high = min(values), max(values)
    middle = (low + high) / 2
    least = abs(middle) * FLAT or 1.0
    if (high - low) / 2 < least:
        low, high = middle - least, middle + least
    return Scale(low=low, high=high)


def drawable_points(points: Sequence[Point], *, above_zero: bool = False) -> list[Point]:
    """Return the points that have a place on the axes.

    Args:
        points: any.
        above_zero: the axis is logarithmic.
    """
    return [
        (x, y if abs(y) >= LEAST else 0.0)
        for x, y in points
        if abs(x) <= MOST and abs(y) <= MOST and (y >= LEAST or not above_zero)  # NaN is not
    ]


def chart(
    points: Sequence[Point], width: int, height: int, *, floor: float | None = None
) -> list[TextLine]:
    """Return a curve in this many columns and rows, the axes and their numbers among them.

    Each column shows the mean of its points, or the value of the previous column if it has none.

    Args:
        points: steps in ascending order, and values. Values that are not finite are left out.
        width: columns.
        height: rows.
        floor: a value that the axis includes, or None if it begins at the lowest value.
    """
    drawn = drawable_points(points)
    if not drawn:
        return [line("no numbers yet", TextStyle.DIM).truncate(width)]
    scale = scale_of([*(y for _, y in drawn), *([] if floor is None else [floor])])
    rows = height - 2
    if rows < _LEAST_HEIGHT - 2 or width < _LEAST_WIDTH:
        return [line(number(drawn[-1][1])).truncate(width)]
    labels = {0: number(scale.high), rows - 1: number(scale.low)}
    if rows >= _MIDDLE:
        down = (scale.low - scale.high) * (rows // 2) / (rows - 1)
        labels[rows // 2] = number(scale.high + down)
    margin = max(map(width_of, labels.values()))
    columns = _columns(drawn, width - margin - 1)
    lines = [
        TextLine(
            (
                TextSpan(f"{labels.get(row, ''):>{margin}}", TextStyle.DIM),
                TextSpan("┤" if row in labels else "│", TextStyle.DIM),
                TextSpan(_row(columns, row, rows, scale), TextStyle.OURS),
            )
        )
        for row in range(rows)
    ]
    lines.append(line(" " * margin + "└" + "─" * len(columns), TextStyle.DIM))
    first, last = number(drawn[0][0]), number(drawn[-1][0])
    gap = max(1, len(columns) - len(first) - len(last))
    lines.append(line(f"{' ' * (margin + 1)}{first}{' ' * gap}{last}", TextStyle.DIM))
    return [row.truncate(width) for row in lines]


def sparkline(points: Sequence[Point], width: int) -> str:
    """Return a curve in one line of this many columns at most; '' if there are no finite numbers.

    Args:
        points: steps, which do not fall, and values.
        width: columns; with fewer points there are as many as points.
    """
    drawn = drawable_points(points)
    if not drawn:
        return ""
    columns = _columns(drawn, min(width, len(drawn)))
    return _row(columns, 0, 1, scale_of([y for _, y in drawn]))


def blocks(values: Sequence[float], low: float, high: float) -> str:
    """Return values between two others as one line, a block each; even the lowest one is seen."""
    return _row(values, 0, 1, Scale(low, high))


def number(value: float) -> str:
    """Return the label of an axis for a number, with at most four digits."""
    return f"{value:.4g}"


def _columns(points: Sequence[Point], width: int) -> list[float]:
    """Return a value for each column."""
    first, last = points[0][0], points[-1][0]
    span = last - first
    sums, counts = [0.0] * width, [0] * width
    for x, y in points:
        place = round((x - first) / span * (width - 1)) if span > 0 else width - 1
        place = min(max(place, 0), width - 1)
        sums[place] += y
        counts[place] += 1
    values: list[float] = []
    shown = points[0][1]
    for total, count in zip(sums, counts, strict=True):
        shown = total / count if count else shown
        values.append(shown)
    return values


def _row(values: Sequence[float], row: int, rows: int, scale: Scale) -> str:
    """Return the characters of a row, one per column; even the lowest value is visible."""
    steps = len(_BLOCKS)
    below = (rows - 1 - row) * steps
    drawn = []
    for value in values:
        full = 1 + round(scale.place(value) * (rows * steps - 1))
        part = min(max(full - below, 0), steps)
        drawn.append(_BLOCKS[part - 1] if part else " ")
    return "".join(drawn)
