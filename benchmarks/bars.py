"""Bar charts of the documentation as SVG, readable on a light and on a dark page."""

import math
from collections.abc import Iterator, Sequence
from html import escape
from typing import NamedTuple

LEFT, BAR, GAP, WIDTH, RIGHT = 260, 22, 12, 420, 80  # pixels; LEFT and RIGHT are for labels
TOP, BOTTOM = 8, 44  # pixels; BOTTOM is for the axis and its name
STYLE = """
text { font: 13px sans-serif; fill: #24292f; }
.axis { stroke: #8c959f; stroke-width: 1; }
.more { fill: #0969da; }
.less { fill: #bf8700; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .more { fill: #58a6ff; }
  .less { fill: #d29922; }
}
"""


class Bar(NamedTuple):
    """A bar: its label of one or two lines, its value, and the text behind it."""

    label: str
    value: float
    text: str


def draw_bars(
    bars: Sequence[Bar], axis: str, *, base: float = 0.0, logarithmic: bool = False
) -> str:
    """Return a chart with a horizontal bar for each value.

    Args:
        bars: From top to bottom.
        axis: Name of the axis, with the unit.
        base: Value at which all bars begin. Smaller values have another colour.
        logarithmic: Whether the axis is logarithmic. All values and the base are then positive.
    """
    ends = _axis_ends([bar.value for bar in bars], base, logarithmic=logarithmic)
    height = TOP + len(bars) * (BAR + GAP) + BOTTOM
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + RIGHT} {height}" role="img">',
        f"<title>{escape(axis)}</title>",
        f"<style>{STYLE}</style>",
    ]

    def place(value: float) -> float:
        """Return the horizontal place of a value."""
        low, high = ends
        if logarithmic:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return LEFT + WIDTH * (value - low) / (high - low)

    for at, bar in enumerate(bars):
        lines += _draw_bar(bar, TOP + at * (BAR + GAP), place(base), place(bar.value))
    foot = height - BOTTOM
    lines.append(f'<path class="axis" d="M{place(base):.1f} {TOP} V{foot}"/>')
    lines.append(f'<path class="axis" d="M{LEFT} {foot} H{LEFT + WIDTH}"/>')
    for value in _ticks(ends, logarithmic=logarithmic):
        lines.append(
            f'<text x="{place(value):.1f}" y="{foot + 16}" text-anchor="middle">{value:g}</text>'
        )
    middle = LEFT + WIDTH / 2
    name = f"{axis} (log scale)" if logarithmic else axis
    lines.append(f'<text x="{middle}" y="{foot + 36}" text-anchor="middle">{escape(name)}</text>')
    return "\n".join([*lines, "</svg>", ""])


def _draw_bar(bar: Bar, top: float, start: float, end: float) -> Iterator[str]:
    left, width = min(start, end), max(abs(end - start), 1.0)
    kind = "more" if end >= start else "less"
    yield f'<rect class="{kind}" x="{left:.1f}" y="{top}" width="{width:.1f}" height="{BAR}"/>'
    names = bar.label.split("\n")
    first = top + BAR / 2 + 5 - 7 * (len(names) - 1)
    for line, name in enumerate(names):
        yield f'<text x="{LEFT - 10}" y="{first + 14 * line}" text-anchor="end">{escape(name)}</text>'
    behind = max(start, end) + 6
    yield f'<text x="{behind:.1f}" y="{top + BAR / 2 + 5}">{escape(bar.text)}</text>'


def _axis_ends(values: Sequence[float], base: float, *, logarithmic: bool) -> tuple[float, float]:
    """Return the ends of the axis: round numbers beyond all values."""
    low, high = min(base, *values), max(base, *values)
    if logarithmic:
        return 10 ** math.floor(math.log10(low)), 10 ** math.ceil(math.log10(high))
    step = _step(high - low)
    return math.floor(low / step) * step, math.ceil(high / step) * step


def _ticks(ends: tuple[float, float], *, logarithmic: bool) -> Iterator[float]:
    low, high = ends
    if logarithmic:
        for power in range(round(math.log10(low)), round(math.log10(high)) + 1):
            yield 10.0**power
    else:
        step = _step(high - low)
        for number in range(round((high - low) / step) + 1):
            yield round(low + number * step, 10)


def _step(span: float) -> float:
    """Return a round distance of about five ticks."""
    size = 10.0 ** math.floor(math.log10(span / 4))
    return next(size * factor for factor in (1, 2, 5, 10) if size * factor >= span / 5)
