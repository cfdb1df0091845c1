"""Charts of the page as SVG: bars of shares, sparklines, and curves over steps.

Curves have axes with numbers, a legend, and the data from which the script reads values. Their points are smoothed and
thinned to the resolution of the picture.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from launcher.screens.chart import Scale, finite, number, scale_of
from launcher.workers.progress.steps import Point

_SPARK = (60, 16)
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
_TOLERANCE = 1e-9  # where a sum of fractions may miss a round number
FLAT_STEPS = 1e-9  # of steps: a program that goes on at step 10,000,000 counts by ones
COLOURS = 8
WIDTH, HEIGHT = 640, 260  # units of the picture, which has the width of its place
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, WIDTH - 12, 10, HEIGHT - 24  # of the curves in it
_MOST_POINTS = 500  # of a curve: there are about as many columns
_TICKS_X, _TICKS_Y = 6, 5
_LARGEST_STEP = 1e10  # that is written in full


def stacked_bar(shares: Sequence[tuple[str, float]], note: str) -> Markup:
    """Return a bar of pieces from the left; what goes beyond its end is cut.

    Args:
        shares: the class of each piece in the style sheet, and how much of the bar it is, 0 to 1.
        note: the same in words.
    """
    pieces, begin = Markup(), 0.0
    for name, share in shares:
        end = min(100.0, begin + 100 * max(0.0, share))  # units of the bar, as wide as its place
        if end > begin:
            pieces += Markup('<rect class="{}" x="{:.2f}" width="{:.2f}" height="10"/>').format(
                name, begin, end - begin
            )
        begin = end
    return Markup(
        '<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" role="img"'
        ' aria-label="{0}"><title>{0}</title>{1}</svg>'
    ).format(note, pieces)


def spark(values: Sequence[float]) -> Markup:
    """Return values from 0 to 1 as a little curve, the newest at the right; '' for fewer than two."""
    if len(values) < 2:
        return Markup()
    width, height = _SPARK
    step = width / (len(values) - 1)
    places = " ".join(
        f"{at * step:.1f},{height - 1 - min(max(value, 0.0), 1.0) * (height - 2):.1f}"
        for at, value in enumerate(values)
    )
    return Markup(
        '<svg class="spark" viewBox="0 0 {} {}" aria-hidden="true"><polyline points="{}"/></svg>'
    ).format(width, height, places)


def ticks(scale: Scale, most: int) -> list[float]:
    """Return the values of an axis that get a number: round ones, or powers of ten where there are two."""
    low, high, log = scale
    if log:
        first = math.ceil(math.log10(low) - _TOLERANCE)
        last = math.floor(math.log10(high) + _TOLERANCE)
        if last > first:
            return [
                10.0**power
                for power in range(first, last + 1, math.ceil((last - first + 1) / most))
            ]
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(each * power for each in _STEPS if each * power >= rough * (1 - _TOLERANCE))
    first = math.ceil(low / step - _TOLERANCE)
    count = math.floor(high / step + _TOLERANCE) - first + 1
    even = [(first + place) * step for place in range(min(count, most + 2))]
    return [value for value in even if value > 0] if log else even


class Series(NamedTuple):
    """A named curve. Those of one `colour` have one colour; `dashed` ones differ by that."""

    name: str
    points: Sequence[Point]
    colour: int = 0
    dashed: bool = False

    @property
    def style(self) -> str:
        """Its classes in the style sheet."""
        return f"c{self.colour % COLOURS}{' dashed' if self.dashed else ''}"


def smooth(points: Sequence[Point], weight: float) -> list[Point]:
    """Return the running mean in which older values count less and less.

    Args:
        points: in the order of their steps.
        weight: of the previous mean, in [0, 1); 0 changes nothing.

    Source: the exponential moving average of TensorBoard, divided by the sum of its weights, so that
        it begins at the first value.
    """
    mean, total = 0.0, 0.0
    result = []
    for x, y in points:
        mean = weight * mean + (1 - weight) * y
        total = weight * total + (1 - weight)
        result.append((x, mean / total))
    return result


def thin(points: Sequence[Point], most: int) -> Sequence[Point]:
    """Return at most this many points: of each stretch its lowest and its highest, in their order."""
    if len(points) <= most:
        return points
    stretches = max(1, most // 2 - 1)
    size = len(points) / stretches
    kept: list[Point] = []
    for place in range(stretches):
        stretch = points[round(place * size) : round((place + 1) * size)]
        kept += sorted({pick(stretch, key=lambda point: point[1]) for pick in (min, max)})
    return [points[0], *kept[1:-1], points[-1]]


def line_chart(
    series: Sequence[Series], *, title: str, log: bool = False, smoothing: float = 0.0
) -> Markup:
    """Return a chart as SVG; '' if no curve has a point.

    Args:
        series: the curves.
        title: accessible name of the chart.
        log: draw the values on a logarithmic axis.
        smoothing: weight of the previous mean, in [0, 1); the original curve is drawn behind it.
    """
    drawn = [(each, points) for each in series if (points := finite(each.points, above_zero=log))]
    if not drawn:
        return Markup()
    across = scale_of([x for _, points in drawn for x, _ in points], flat=FLAT_STEPS)
    up = scale_of([y for _, points in drawn for _, y in points], log=log)
    parts = _grid(across, up)
    for each, points in drawn:
        if smoothing:
            parts += _curve(each, points, across, up, " behind")
        parts += _curve(each, smooth(points, smoothing) if smoothing else points, across, up)
    return Markup(
        '<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}" data-x="{} {} {!r} {!r}"'
        ' data-y="{} {} {!r} {!r}" data-log="{:d}">{}</svg>'
    ).format(
        *(WIDTH, HEIGHT, title, _LEFT, _RIGHT, across.low, across.high),
        *(_BOTTOM, _TOP, up.low, up.high, up.log, parts),
    )


def legend(series: Sequence[Series]) -> Markup:
    """Return the names of curves with their colours and newest values."""
    items = Markup()
    for each in series:
        points = finite(each.points)
        items += Markup('<li><span class="key {}"></span>{} <b>{}</b></li>').format(
            each.style, each.name, number(points[-1][1]) if points else "–"
        )
    return Markup('<ul class="legend">{}</ul>').format(items)


def _grid(across: Scale, up: Scale) -> Markup:
    """Return the lines behind the curves, and the numbers beside them."""
    parts = Markup()
    for value in ticks(up, _TICKS_Y):
        y = _y(up, value)
        parts += Markup(
            '<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>'
            '<text class="tick" x="{}" y="{:.1f}" text-anchor="end">{}</text>'
        ).format(_LEFT, _RIGHT, y, y, _LEFT - 6, y + 4, number(value))
    for value in ticks(across, _TICKS_X):
        # four digits do not distinguish 10,000,020 from 10,000,040
        whole = value.is_integer() and abs(value) < _LARGEST_STEP
        parts += Markup(
            '<text class="tick" x="{:.1f}" y="{}" text-anchor="middle">{}</text>'
        ).format(_x(across, value), HEIGHT - 6, f"{value:,.0f}" if whole else number(value))
    return parts + Markup('<line class="axis" x1="{0}" x2="{1}" y1="{2}" y2="{2}"/>').format(
        _LEFT, _RIGHT, _BOTTOM
    )


def _curve(
    series: Series, points: Sequence[Point], across: Scale, up: Scale, further: str = ""
) -> Markup:
    # the script reads values off these places, where a thousandth is seen
    places = [(_x(across, x), _y(up, y)) for x, y in thin(points, _MOST_POINTS)]
    classes = f"curve {series.style}{further}"
    if len(places) == 1:
        return Markup('<circle class="{} point" cx="{:.1f}" cy="{:.1f}" r="3"/>').format(
            classes, *places[0]
        )
    return Markup('<polyline class="{}" points="{}" data-name="{}"/>').format(
        classes, " ".join(f"{x:.3f},{y:.3f}" for x, y in places), series.name
    )


def _x(scale: Scale, value: float) -> float:
    return _LEFT + scale.place(value) * (_RIGHT - _LEFT)


def _y(scale: Scale, value: float) -> float:
    return _BOTTOM - scale.place(value) * (_BOTTOM - _TOP)
