"""Plots as inline SVG: a frame with axes, and lines, steps and bars in it; and quality against time.

Colours are classes of the page's style sheet, so that they follow light and dark; every plot has a
title and a description for those who cannot see it. Coordinates have one decimal: a tenth of a pixel.

In a scatter plot every mark is named where it stands, so that no name lies on another.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape, unescape
from typing import Literal

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


CHARACTER_PX = 6.6  # a wide guess for 11 px letters of any sans serif
ABOVE_PX, BELOW_PX = 9.0, 3.0  # of a base line
MARK_PX = 6.0  # half the side of a mark, with some air
RINGS_PX = (16, 26, 38, 52, 68, 88)  # how far a name may go from its mark, on a leader
ANGLES = 16

Anchor = Literal["start", "middle", "end"]


Role = Literal["reference", "method", "broken"]
WIDTH, HEIGHT = 1050, 420
LEAST_MARKS = 3
BEFORE = "before"  # the mark of a model as it came, which may lie below the plot
RAISED_PX = 6  # marks that lie below the plot stand on its edge
EDGE_DECADES = 0.18  # of air left and right
STRETCH = (
    2.0  # marks of broken models that would widen the second axis by more lie on its lower edge
)
ALWAYS = 0.12  # a second axis as long as this is never cut
LEAST_SPAN = 0.02  # of the second axis: finer differences are noise
FINE_DECADES = 3.2  # up to here the first axis has ticks at 2 and 5, too


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A rectangle in pixels, y downwards."""

    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: "Box") -> float:
        """Return the area that both cover."""
        across = min(self.right, other.right) - max(self.left, other.left)
        down = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(across, 0.0) * max(down, 0.0)

    def outside(self, room: "Box") -> float:
        """Return by how many pixels it leaves a room."""
        return (
            max(room.left - self.left, 0)
            + max(self.right - room.right, 0)
            + max(room.top - self.top, 0)
            + max(self.bottom - room.bottom, 0)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A name at its place; `x` and `y` are of its base line."""

    text: str
    x: float
    y: float
    anchor: Anchor
    leader: bool = False  # so far from its mark that a line must lead there

    @property
    def box(self) -> Box:
        """What the text covers, by guess."""
        wide = len(self.text) * CHARACTER_PX
        left = self.x - {"start": 0.0, "middle": wide / 2, "end": wide}[self.anchor]
        return Box(left=left, top=self.y - ABOVE_PX, right=left + wide, bottom=self.y + BELOW_PX)


def mark(x: float, y: float) -> Box:
    """Return what a mark covers."""
    return Box(left=x - MARK_PX, top=y - MARK_PX, right=x + MARK_PX, bottom=y + MARK_PX)


def placed(
    names: Sequence[str],
    places: Sequence[Point],
    *,
    room: Box,
    taken: Sequence[Box] = (),
) -> list[Label]:
    """Return a label for each mark: near it, inside the room, and on nothing else if that can be.

    Args:
        names: what to write.
        places: of the marks, in pixels.
        room: that labels must not leave.
        taken: what else labels must not cover.
    """
    marks = [mark(*place) for place in places]
    covered = [*taken, *marks]
    labels: dict[int, Label] = {}
    for index in sorted(range(len(names)), key=lambda index: -_crowd(places, index)):
        best: tuple[float, Label] | None = None
        for label in _candidates(names[index], *places[index]):
            cost = sum(label.box.overlap(other) for other in covered)
            cost += 1000 * label.box.outside(room)
            if label.leader:
                cost += _crossed(label, places[index], covered, own=marks[index])
            if best is None or cost < best[0]:
                best = cost, label
            if not cost:
                break
        if best is not None:
            labels[index] = best[1]
            covered.append(best[1].box)
    return [labels[index] for index in range(len(names))]


def _crowd(places: Sequence[Point], index: int) -> int:
    return sum(math.dist(places[index], other) < RINGS_PX[-2] for other in places)


def _candidates(text: str, x: float, y: float) -> Iterator[Label]:
    middle = (ABOVE_PX - BELOW_PX) / 2
    near: tuple[tuple[float, float, Anchor], ...] = (
        (MARK_PX + 2, middle, "start"),
        (-MARK_PX - 2, middle, "end"),
        (0, -MARK_PX - BELOW_PX, "middle"),
        (0, MARK_PX + ABOVE_PX, "middle"),
        (MARK_PX, -MARK_PX, "start"),
        (MARK_PX, MARK_PX + ABOVE_PX - 1, "start"),
        (-MARK_PX, -MARK_PX, "end"),
        (-MARK_PX, MARK_PX + ABOVE_PX - 1, "end"),
    )
    for across, down, anchor in near:
        yield Label(text=text, x=x + across, y=y + down, anchor=anchor)
    for ring in RINGS_PX:
        for step in range(ANGLES):
            angle = 2 * math.pi * (step + 0.5) / ANGLES
            across, down = ring * math.cos(angle), ring * math.sin(angle)
            anchor = "start" if across >= 0 else "end"
            yield Label(text=text, x=x + across, y=y + down + middle, anchor=anchor, leader=True)


def _crossed(label: Label, place: Point, covered: Sequence[Box], *, own: Box) -> float:
    """Return how much of a leader lies on other things, in samples of it."""
    end = (label.x, label.y - (ABOVE_PX - BELOW_PX) / 2)
    cost = 0.0
    for step in range(1, 10):
        x = place[0] + (end[0] - place[0]) * step / 10
        y = place[1] + (end[1] - place[1]) * step / 10
        point = Box(left=x - 0.5, top=y - 0.5, right=x + 0.5, bottom=y + 0.5)
        cost += sum(point.overlap(other) for other in covered if other is not own)
    return cost


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A method in the plot."""

    name: str
    time: float  # > 0
    quality: float
    spread: float | None  # standard deviation of the quality over seeds
    role: Role


def scatter(
    marks: Sequence[Mark],
    *,
    before: float | None,
    retrain: float | None,
    across: str,
    up: str,
) -> str:
    """Return the plot; nothing of fewer than three marks with a place: a table says as much in less room.

    Args:
        marks: the methods; those without a time stay out of it.
        before: the quality before any unlearning, a line.
        retrain: that of the retrained model, a line.
        across: what the first axis is called.
        up: what the second one is called.
    """
    shown = [method for method in marks if method.time > 0 and math.isfinite(method.time)]
    if len(shown) < LEAST_MARKS:
        return ""
    references = ((BEFORE, before), ("retrain", retrain))
    levels = [(name, value) for name, value in references if value is not None]
    frame = Frame(
        width=WIDTH,
        height=HEIGHT,
        left=54,
        x=_decades([method.time for method in shown]),
        y=_range(shown, [value for _, value in levels]),
    )
    levels = [(name, value) for name, value in levels if value >= frame.y[0]]
    places = [_place(frame, method) for method in shown]
    low, high = frame.x
    times, names = log_ticks(low, high, (1, 2, 5) if high - low <= FINE_DECADES else (1,))
    parts = [
        axes(frame, across, up, x_ticks=times, x_names=names, y_ticks=ticks(*frame.y, 6)),
        upright(frame, 0.0) if frame.x[0] < 0 < frame.x[1] else "",
        *(level(frame, value) for _, value in levels),
        *(_mark(frame, method, *place) for method, place in zip(shown, places, strict=True)),
        *_names(frame, shown, places, levels),
    ]
    description = "; ".join(
        f"{method.name}: {three_digits(method.time)} and {method.quality:.3f}" for method in shown
    )
    title = f"{up[:1].upper()}{up[1:]} by {across}"
    return svg(frame, parts, title=title, description=description)


def _names(
    frame: Frame,
    shown: Sequence[Mark],
    places: Sequence[Point],
    levels: Sequence[tuple[str, float]],
) -> Iterator[str]:
    taken = [mark(*place) for place in places] + [
        _whisker(frame, method, place[0]) for method, place in zip(shown, places, strict=True)
    ]
    for name, value in levels:
        chosen = level_name(frame, f"{name} {value:.3f}", value, taken)
        taken.append(chosen.box)
        yield label_text(chosen, "weak-label")
    texts = [
        f"{method.name} {method.quality:.3f}" if method.quality < frame.y[0] else method.name
        for method in shown
    ]
    yield from names_beside(frame, texts, places, taken)


def names_beside(
    frame: Frame, names: Sequence[str], places: Sequence[Point], taken: Sequence[Box]
) -> Iterator[str]:
    """Yield a name for each mark, with a leader where it stands far off; arguments as of `placed`."""
    (left, bottom), (right, top) = (frame.at(x, y) for x, y in zip(frame.x, frame.y, strict=True))
    room = Box(left=left + 2, top=top, right=right + frame.right, bottom=bottom - 1)
    for label, (x, y) in zip(placed(names, places, room=room, taken=taken), places, strict=True):
        if label.leader:
            yield f'<path class="leader" d="M{x:.1f} {y:.1f}L{label.x:.1f} {label.y - 3:.1f}"/>'
        yield label_text(label, "mark-label")


def level_name(
    frame: Frame,
    text: str,
    value: float,
    taken: Sequence[Box],
    *,
    downs: Sequence[float] = (-4, 12),
    inset: float = 0,
) -> Label:
    """Return the name of a level line: at the end and side of it where least is in its way.

    Args:
        frame: the plane.
        text: the name.
        value: of the line, on the second axis.
        taken: what the name shall not cover.
        downs: how far below the line its base line may be, in pixels; the first one is preferred.
        inset: how far from the right end of the line it ends, in pixels.
    """
    (left, y), (right, _) = frame.at(frame.x[0], value), frame.at(frame.x[1], value)
    ends: tuple[tuple[float, Anchor], ...] = ((left + 4, "start"), (right - inset, "end"))
    choices = [
        Label(text=text, x=x, y=y + down, anchor=anchor) for down in downs for x, anchor in ends
    ]
    return min(choices, key=lambda label: sum(label.box.overlap(other) for other in taken))


def label_text(label: Label, kind: str) -> str:
    """Return a label as text; `kind` is a class of the style sheet."""
    return (
        f'<text class="{kind}" x="{label.x:.1f}" y="{label.y:.1f}" '
        f'text-anchor="{label.anchor}">{escape(label.text)}</text>'
    )


def _mark(frame: Frame, method: Mark, x: float, y: float) -> str:
    """Return a mark: its shape tells its role, not its colour alone."""
    whisker = ""
    if method.spread and method.quality >= frame.y[0]:
        box = _whisker(frame, method, x)
        whisker = f'<path class="whisker" d="M{x:.1f} {box.top:.1f}V{box.bottom:.1f}"/>'
    return whisker + _shape(method.role, x, y, below=method.quality < frame.y[0])


def _place(frame: Frame, method: Mark) -> tuple[float, float]:
    x, y = frame.at(math.log10(method.time), method.quality)
    return x, y - (RAISED_PX if method.quality < frame.y[0] else 0)


def _shape(role: Role, x: float, y: float, *, below: bool) -> str:
    if below:
        return f'<path class="of-{role}" d="M{x - 5:.1f} {y - 4:.1f}h10l-5 8z"/>'
    if role == "reference":
        return f'<rect class="of-reference" x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8"/>'
    if role == "method":
        return f'<circle class="of-method" cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>'
    return f'<path class="of-broken" d="M{x - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8"/>'


def _whisker(frame: Frame, method: Mark, x: float) -> Box:
    spread = method.spread or 0.0
    _, top = frame.at(0, method.quality + spread)
    _, bottom = frame.at(0, method.quality - spread)
    return Box(left=x - 1, top=top, right=x + 1, bottom=bottom)


def _decades(times: Sequence[float]) -> tuple[float, float]:
    powers = [math.log10(time) for time in times]
    return min(powers) - EDGE_DECADES, max(powers) + EDGE_DECADES


def _range(shown: Sequence[Mark], levels: Sequence[float]) -> tuple[float, float]:
    """Return the ends of the second axis.

    Broken models, and the one before, may lie below it: beside them all others would look alike.
    """
    sound = [method for method in shown if method.role != "broken" and method.name != BEFORE]
    values = [value for method in sound for value in _reach(method)]
    every = [*levels, *(value for method in shown for value in _reach(method))]
    chosen = values or every
    if max(every) - min(every) <= max(STRETCH * (max(chosen) - min(chosen)), ALWAYS):
        chosen = every
    low, high = min(chosen), max(chosen)
    pad = max((high - low) * 0.12, (LEAST_SPAN - (high - low)) / 2)
    return max(low - pad, 0.0), min(high + pad, 1.0)


def _reach(method: Mark) -> tuple[float, float]:
    return method.quality - (method.spread or 0.0), method.quality + (method.spread or 0.0)
