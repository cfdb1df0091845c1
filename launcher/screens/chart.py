"""Numbers over steps as lines of text: an axis with numbers, and a curve of blocks below it."""

import math
from collections.abc import Sequence

from launcher.screens.text_table import Line, Span, Tone, line, width_of
from launcher.workers.progress.steps import Point

_BLOCKS = "▁▂▃▄▅▆▇█"
_LEAST_HEIGHT, _LEAST_WIDTH = 3, 12  # with less room there is no curve
_MIDDLE = 7  # rows from which the axis has a number in its middle

_FLAT = 0.005  # a curve that varies by less is drawn as if it varied by so much


def chart(
    points: Sequence[Point],
    width: int,
    height: int,
    *,
    floor: float | None = None,
    tone: Tone = Tone.OURS,
) -> list[Line]:
    """Return a curve in so many columns and rows, the axes and their numbers among them.

    Each column shows the mean of what falls on it, or what the column before it shows.

    Args:
        points: steps, which do not fall, and values; what is no finite number is left out.
        width: columns.
        height: rows.
        floor: where the axis begins; None: at the lowest value.
        tone: the curve's.
    """
    finite = [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
    if not finite:
        return [line("no numbers yet", Tone.DIM).cut(width)]
    low, high = _range([y for _, y in finite], floor)
    rows = height - 2
    if rows < _LEAST_HEIGHT - 2 or width < _LEAST_WIDTH:
        return [line(number(finite[-1][1])).cut(width)]
    labels = {0: number(high), rows - 1: number(low)}
    if rows >= _MIDDLE:
        labels[rows // 2] = number(high + 2 * (low / 2 - high / 2) * (rows // 2) / (rows - 1))
    margin = max(map(width_of, labels.values()))
    columns = _columns(finite, width - margin - 1)
    lines = [
        Line(
            (
                Span(f"{labels.get(row, ''):>{margin}}", Tone.DIM),
                Span("┤" if row in labels else "│", Tone.DIM),
                Span(_row(columns, row, rows, low, high), tone),
            )
        )
        for row in range(rows)
    ]
    lines.append(line(" " * margin + "└" + "─" * len(columns), Tone.DIM))
    first, last = number(finite[0][0]), number(finite[-1][0])
    gap = max(1, len(columns) - len(first) - len(last))
    lines.append(line(f"{' ' * (margin + 1)}{first}{' ' * gap}{last}", Tone.DIM))
    return [row.cut(width) for row in lines]


def sparkline(points: Sequence[Point], width: int) -> str:
    """Return a curve in one line of so many columns at most; '' where there are no finite numbers.

    Args:
        points: steps, which do not fall, and values.
        width: columns; with fewer points there are as many as points.
    """
    finite = [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
    if not finite:
        return ""
    low, high = _range([y for _, y in finite], None)
    return blocks(_columns(finite, min(width, len(finite))), low, high)


def blocks(values: Sequence[float], low: float, high: float) -> str:
    """Return values between two others as one line, a block each; even the lowest one is seen."""
    return _row(values, 0, 1, low, high)


def number(value: float) -> str:
    """Return a number with four digits at most, as it stands on an axis."""
    return f"{value:.4g}"


def _range(values: Sequence[float], floor: float | None) -> tuple[float, float]:
    """Return where the axis begins and ends; values that hardly differ make no mountains."""
    low, high = min(values), max(values)
    if floor is not None:
        low = min(low, floor)
    middle = low / 2 + high / 2
    least = abs(middle) * _FLAT or 1.0
    if high / 2 - low / 2 >= least:
        return low, high
    return middle - least, middle + least


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


def _row(values: Sequence[float], row: int, rows: int, low: float, high: float) -> str:
    """Return what a row shows of each column; even the lowest value is seen."""
    steps = len(_BLOCKS)
    below = (rows - 1 - row) * steps
    drawn = []
    for value in values:
        share = min(max((value / 2 - low / 2) / (high / 2 - low / 2), 0.0), 1.0)
        full = 1 + round(share * (rows * steps - 1))
        part = min(max(full - below, 0), steps)
        drawn.append(_BLOCKS[part - 1] if part else " ")
    return "".join(drawn)
