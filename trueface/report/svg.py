"""Plots as inline SVG: a frame with axes, and lines, steps and bars in it.

Colours are classes of the page's style sheet, so that they follow light and dark; every plot has a
title and a description for those who cannot see it. Coordinates have one decimal: a tenth of a pixel.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape, unescape

SERIES = 8  # colours of the style sheet; further series repeat them with other dashes
DASHES = ("", "6 3", "2 3", "8 3 2 3")

Point = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """The plane of a plot: its size in pixels, and which values it shows."""

    width: int = 238
    height: int = 220
    left: int = 48
    bottom: int = 44
    top: int = 10
    right: int = 12
    x: Point = (0.0, 1.0)  # least and greatest value
    y: Point = (0.0, 1.0)

    def at(self, x: float, y: float) -> Point:
        """Return where a value lies, in pixels; values outside lie on the edge."""
        across = _share(x, self.x) * (self.width - self.left - self.right)
        up = _share(y, self.y) * (self.height - self.top - self.bottom)
        return self.left + across, self.height - self.bottom - up


def svg(frame: Frame, parts: Iterable[str], *, title: str, description: str) -> str:
    """Return a whole plot; `title` and `description` are read out in its place."""
    return (
        f'<svg class="plot" viewBox="0 0 {frame.width} {frame.height}" width="{frame.width}" '
        f'height="{frame.height}" role="img" aria-label="{escape(f"{title}. {description}")}">'
        f"<title>{escape(title)}</title>{''.join(parts)}</svg>"
    )


def plots_in(html: str, css: str) -> Iterator[tuple[str, str]]:
    """Give title and SVG file of each plot that `svg` put into some HTML.

    Args:
        html: holds the plots.
        css: the style sheet, which each file takes along.
    """
    for part in html.split('<svg class="plot"')[1:]:
        start, _, rest = part.partition("</svg>")[0].partition("<title>")
        title, _, drawn = rest.partition("</title>")
        style = f"<style>{escape(css, quote=False)}</style>"
        head = f'<svg xmlns="http://www.w3.org/2000/svg" class="plot"{start}'
        yield unescape(title), f"{head}<title>{title}</title>{style}{drawn}</svg>"


def axes(
    frame: Frame,
    across: str,
    up: str,
    *,
    x_ticks: Sequence[float] = (0, 0.25, 0.5, 0.75, 1),
    y_ticks: Sequence[float] = (0, 0.25, 0.5, 0.75, 1),
    x_names: Sequence[str] = (),
) -> str:
    """Return grid, ticks and names of both axes; `x_names` stand for the numbers of `x_ticks`."""
    (left, low), (right, high) = frame.at(*_corner(frame, 0)), frame.at(*_corner(frame, 1))
    parts = []
    for value, name in zip(x_ticks, x_names or map(number, x_ticks), strict=True):
        x, _ = frame.at(value, frame.y[0])
        parts.append(f'<path class="grid" d="M{x:.1f} {low:.1f}V{high:.1f}"/>')
        parts.append(_text(x, low + 14, name, "middle"))
    for value in y_ticks:
        _, y = frame.at(frame.x[0], value)
        parts.append(f'<path class="grid" d="M{left:.1f} {y:.1f}H{right:.1f}"/>')
        parts.append(_text(left - 5, y + 3.5, number(value), "end"))
    parts.append(f'<path class="axis" d="M{left:.1f} {high:.1f}V{low:.1f}H{right:.1f}"/>')
    parts.append(_text((left + right) / 2, frame.height - 8, across, "middle"))
    middle = (low + high) / 2
    parts.append(
        f'<text transform="translate(12 {middle:.1f}) rotate(-90)" text-anchor="middle">'
        f"{escape(up)}</text>"
    )
    return "".join(parts)


def line(frame: Frame, points: Sequence[Point], series: int, *, marks: bool = False) -> str:
    """Return a line through points; a single one, or `marks`, shows dots."""
    places = [frame.at(*point) for point in points]
    if not places:
        return ""
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    drawn = f'<path class="line s{series % SERIES}"{_dash(series)} d="M{path}"/>'
    if marks or len(places) == 1:
        dots = (
            f'<circle class="dot d{series % SERIES}" cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>'
            for x, y in places
        )
        drawn += "".join(dots)
    return drawn


def diagonal(frame: Frame) -> str:
    """Return the line from the lower left to the upper right corner."""
    (x, y), (right, high) = frame.at(*_corner(frame, 0)), frame.at(*_corner(frame, 1))
    return f'<path class="chance" d="M{x:.1f} {y:.1f}L{right:.1f} {high:.1f}"/>'


def steps(frame: Frame, edges: Sequence[float], heights: Sequence[float], name: str) -> str:
    """Return the outline of a histogram, filled; `name` is a class of the style sheet."""
    x, base = frame.at(edges[0], 0)
    path = f"M{x:.1f} {base:.1f}"
    for place, height in enumerate(heights):
        _, y = frame.at(edges[place], height)
        end, _ = frame.at(edges[place + 1], height)
        path += f"V{y:.1f}H{end:.1f}"
    return f'<path class="{name}" d="{path}V{base:.1f}Z"/>'


def upright(frame: Frame, value: float) -> str:
    """Return an upright line at a value of the first axis."""
    (x, low), (_, high) = frame.at(value, frame.y[0]), frame.at(value, frame.y[1])
    return f'<path class="chance" d="M{x:.1f} {low:.1f}V{high:.1f}"/>'


def level(frame: Frame, value: float) -> str:
    """Return a line across at a value of the second axis."""
    (left, y), (right, _) = frame.at(frame.x[0], value), frame.at(frame.x[1], value)
    return f'<path class="chance" d="M{left:.1f} {y:.1f}H{right:.1f}"/>'


def rectangle(frame: Frame, name: str, x: Point, y: Point) -> str:
    """Return what lies between two values of each axis, filled; `name` is a class of the style sheet."""
    (left, low), (right, high) = (frame.at(*corner) for corner in zip(x, y, strict=True))
    return (
        f'<rect class="{name}" x="{left:.1f}" y="{high:.1f}" width="{right - left:.1f}" '
        f'height="{low - high:.1f}"/>'
    )


def key(names: Sequence[str]) -> str:
    """Return what the colours and dashes of `line` stand for, as HTML."""
    items = "".join(
        f'<li><svg width="26" height="10" aria-hidden="true"><path class="line s{series % SERIES}"'
        f'{_dash(series)} d="M1 5H25"/></svg><span>{breakable(name)}</span></li>'
        for series, name in enumerate(names)
    )
    return f'<ul class="key">{items}</ul>'


def signs(pairs: Iterable[tuple[str, str]], *, width: int, height: int = 10) -> str:
    """Return what shapes stand for, beside each other, as HTML.

    Args:
        pairs: a shape, and the HTML of what it says.
        width: of each shape, in px.
        height: likewise.
    """
    items = "".join(
        f'<li><svg width="{width}" height="{height}" aria-hidden="true">{shape}</svg>'
        f"<span>{words}</span></li>"
        for shape, words in pairs
    )
    return f'<ul class="key across">{items}</ul>'


def breakable(text: str) -> str:
    """Return a name as HTML that may go on in the next line after each of its parts."""
    return escape(text).replace("&amp;", "&amp;<wbr>").replace("@", "<wbr>@").replace("=", "=<wbr>")


def ticks(least: float, greatest: float, count: int = 5) -> tuple[float, ...]:
    """Return about `count` round values within a range."""
    span = greatest - least
    if span <= 0:
        return (least,)
    size = 10.0 ** _magnitude(span / count)
    step = next(
        size * factor for factor in (1, 2, 5, 10) if size * factor * count >= span * (1 - 1e-9)
    )
    first = -int(-least / step // 1) if least > 0 else int(least / step)
    values = (round((first + place) * step, 10) for place in range(count * 3))
    return tuple(value for value in values if least - 1e-9 <= value <= greatest + 1e-9)


def number(value: float) -> str:
    """Return a number as short as it can be."""
    return f"{value:.6g}".replace("-", "\N{MINUS SIGN}")


def three_digits(value: float) -> str:
    """Return a number in three digits, as short as it can be."""
    return number(float(f"{value:.3g}"))


def log_ticks(
    low: float, high: float, factors: Sequence[int] = (1, 2, 5)
) -> tuple[list[float], list[str]]:
    """Return the ticks of a logarithmic axis, at these multiples of each power of ten, and their names.

    Args:
        low: exponent of ten of its least value.
        high: that of its greatest one.
        factors: from 1 to 9.
    """
    values = [
        factor * 10.0**power
        for power in range(math.floor(low), math.ceil(high) + 1)
        for factor in factors
    ]
    inside = [value for value in values if low <= math.log10(value) <= high]
    return [math.log10(value) for value in inside], [three_digits(value) for value in inside]


def _share(value: float, limits: Point) -> float:
    least, greatest = limits
    return min(max((value - least) / (greatest - least or 1), 0), 1)


def _corner(frame: Frame, end: int) -> Point:
    return frame.x[end], frame.y[end]


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _dash(series: int) -> str:
    dash = DASHES[(series // SERIES + series) % len(DASHES)]
    return f' stroke-dasharray="{dash}"' if dash else ""


def _magnitude(value: float) -> int:
    exponent = 0
    while value >= 10:
        value, exponent = value / 10, exponent + 1
    while value < 1:
        value, exponent = value * 10, exponent - 1
    return exponent
