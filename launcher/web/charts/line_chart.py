"""Curves over steps: axes with numbers, a legend, and what the script needs to read values off."""

from collections.abc import Iterator, Sequence

from markupsafe import Markup

from launcher.screens.chart import number
from launcher.web.charts.scales import FLAT_STEPS, Scale, scale_of
from launcher.web.charts.series import Point, Series, finite, smoothed, thinned

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
    for value in up.ticks(_TICKS_Y):
        y = _y(up, value)
        yield Markup('<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(
            _LEFT, WIDTH - _RIGHT, y, y
        )
        yield Markup('<text class="tick" x="{}" y="{:.1f}" text-anchor="end">{}</text>').format(
            _LEFT - 6, y + 4, number(value)
        )
    for value in across.ticks(_TICKS_X):
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
