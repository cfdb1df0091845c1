"""Drawings of the page as SVG: shares as bars, a little curve, and curves over steps.

Curves have axes with numbers, a legend, and what the script needs to read values off; their points are smoothed, and
thinned to what a picture can show.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from markupsafe import Markup

from launcher.screens.chart import Scale, finite, number, scale_of
from launcher.workers.progress.steps import Point

_WIDTH = 100.0  # units of a bar, which is as wide as its place
_SPARK = (60, 16)


def stacked_bar(shares: Sequence[tuple[str, float]], note: str) -> Markup:
    """Return a bar of pieces from the left; what goes beyond its end is cut.

    Args:
        shares: the class of each piece in the style sheet, and how much of the bar it is, 0 to 1.
        note: the same in words.
    """
    pieces, begin = [], 0.0
    for name, share in shares:
        end = min(1.0, begin + max(0.0, share))
        if end > begin:
            pieces.append(
                Markup('<rect class="{}" x="{:.2f}" width="{:.2f}" height="10"/>').format(
                    name, begin * _WIDTH, (end - begin) * _WIDTH
                )
            )
        begin = end
    return Markup(
        '<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" role="img"'
        ' aria-label="{0}"><title>{0}</title>{1}</svg>'
    ).format(note, Markup("").join(pieces))


def spark(values: Sequence[float]) -> Markup:
    """Return values from 0 to 1 as a little curve, the newest at the right; '' for fewer than two."""
    if len(values) < 2:
        return Markup()
    width, height = _SPARK
    step = width / (len(values) - 1)
    places = " ".join(
        f"{number * step:.1f},{height - 1 - min(max(value, 0.0), 1.0) * (height - 2):.1f}"
        for number, value in enumerate(values)
    )
    return Markup(
        '<svg class="spark" viewBox="0 0 {} {}" aria-hidden="true"><polyline points="{}"/></svg>'
    ).format(width, height, places)


_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
FLAT_STEPS = 1e-9  # of steps: a program that goes on at step 10,000,000 counts by ones


def ticks(scale: Scale, most: int) -> list[float]:
    """Return the values of an axis that get a number."""
    return _decades(scale, most) if scale.log else _even(scale, most)


def _even(scale: Scale, most: int) -> list[float]:
    """Return round numbers at equal distances."""
    low, high = scale.low, scale.high
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
        return [value for value in _even(scale, most) if value > 0]
    every = max(1, math.ceil((last - first + 1) / max(1, most)))
    return [10.0**power for power in range(first, last + 1, every)]


class Series(NamedTuple):
    """A named curve. Those of one `colour` have one colour; `dashed` ones differ by that."""

    name: str
    points: Sequence[Point]
    colour: int = 0
    dashed: bool = False


def smoothed(points: Sequence[Point], weight: float) -> list[Point]:
    """Return the running mean in which older values count less and less.

    Args:
        points: in the order of their steps.
        weight: of what came before, from 0 (nothing changes) to below 1.

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


def thinned(points: Sequence[Point], most: int) -> list[Point]:
    """Return at most so many points: of each stretch its lowest and its highest, in their order."""
    if len(points) <= most:
        return list(points)
    stretches = max(1, most // 2 - 1)
    size = len(points) / stretches
    kept: list[Point] = []
    for place in range(stretches):
        stretch = points[round(place * size) : round((place + 1) * size)]
        ends = {min(stretch, key=lambda point: point[1]), max(stretch, key=lambda point: point[1])}
        kept += sorted(ends)
    return [points[0], *kept[1:-1], points[-1]]


WIDTH, HEIGHT = 640, 260  # units of the picture, which has the width of its place
COLOURS = 8
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 10, 24
_MOST_POINTS = 500  # of a curve: there are about as many columns
_TICKS_X, _TICKS_Y = 6, 5
_LARGEST_STEP = 1e10  # that is written in full


def line_chart(
    series: Sequence[Series], *, title: str, log: bool = False, smoothing: float = 0.0
) -> Markup:
    """Return a chart as SVG; '' where no curve has a point.

    Args:
        series: the curves.
        title: what is drawn, for who does not see it.
        log: the values by factors.
        smoothing: weight of what came before, from 0 to below 1; the curve as it is stays behind it.
    """
    drawn = [(each, finite(each.points, above_zero=log)) for each in series]
    drawn = [(each, points) for each, points in drawn if points]
    if not drawn:
        return Markup()
    across = scale_of([x for _, points in drawn for x, _ in points], flat=FLAT_STEPS)
    up = scale_of([y for _, points in drawn for _, y in points], log=log)
    parts = [*_grid(across, up)]
    for each, points in drawn:
        if smoothing:
            parts.append(_curve(each, points, across, up, behind=True))
            parts.append(_curve(each, smoothed(points, smoothing), across, up))
        else:
            parts.append(_curve(each, points, across, up))
    return Markup(
        '<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}" data-x="{} {} {} {}"'
        ' data-y="{} {} {} {}" data-log="{}">{}</svg>'
    ).format(
        WIDTH,
        HEIGHT,
        title,
        *(_LEFT, WIDTH - _RIGHT, repr(across.low), repr(across.high)),
        *(HEIGHT - _BOTTOM, _TOP, repr(up.low), repr(up.high)),
        int(up.log),
        Markup("").join(parts),
    )


def legend(series: Sequence[Series]) -> Markup:
    """Return the names of curves with their colours and newest values."""
    items = []
    for each in series:
        points = finite(each.points)
        items.append(
            Markup('<li><span class="key {}"></span>{} <b>{}</b></li>').format(
                _class(each), each.name, number(points[-1][1]) if points else "–"
            )
        )
    return Markup('<ul class="legend">{}</ul>').format(Markup("").join(items))


def _grid(across: Scale, up: Scale) -> Iterator[Markup]:
    """Give the lines behind the curves, and the numbers beside them."""
    for value in ticks(up, _TICKS_Y):
        y = _y(up, value)
        yield Markup('<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(
            _LEFT, WIDTH - _RIGHT, y, y
        )
        yield Markup('<text class="tick" x="{}" y="{:.1f}" text-anchor="end">{}</text>').format(
            _LEFT - 6, y + 4, number(value)
        )
    for value in ticks(across, _TICKS_X):
        yield Markup('<text class="tick" x="{:.1f}" y="{}" text-anchor="middle">{}</text>').format(
            _x(across, value), HEIGHT - 6, _step(value)
        )
    yield Markup('<line class="axis" x1="{0}" x2="{1}" y1="{2}" y2="{2}"/>').format(
        _LEFT, WIDTH - _RIGHT, HEIGHT - _BOTTOM
    )


def _step(value: float) -> str:
    """Return a step as it stands on the axis: four digits do not tell 10,000,020 from 10,000,040."""
    whole = value.is_integer() and abs(value) < _LARGEST_STEP
    return f"{value:,.0f}" if whole else number(value)


def _curve(
    series: Series, points: Sequence[Point], across: Scale, up: Scale, *, behind: bool = False
) -> Markup:
    shown = thinned(points, _MOST_POINTS)
    # the script reads values off these places, where a thousandth is seen
    places = " ".join(f"{_x(across, x):.3f},{_y(up, y):.3f}" for x, y in shown)
    classes = f"curve {_class(series)}{' behind' if behind else ''}"
    if len(shown) == 1:
        x, y = shown[0]
        return Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="3"/>').format(
            f"{classes} point", _x(across, x), _y(up, y)
        )
    return Markup('<polyline class="{}" points="{}" data-name="{}"/>').format(
        classes, places, series.name
    )


def _class(series: Series) -> str:
    return f"c{series.colour % COLOURS}{' dashed' if series.dashed else ''}"


def _x(scale: Scale, value: float) -> float:
    return _LEFT + scale.place(value) * (WIDTH - _LEFT - _RIGHT)


def _y(scale: Scale, value: float) -> float:
    return HEIGHT - _BOTTOM - scale.place(value) * (HEIGHT - _TOP - _BOTTOM)
