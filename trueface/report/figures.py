"""Figures as values: a plane with axes and a key, and the lines, marks and words drawn in it.

This module knows no format: `svg` draws figures for pages and `matplotlib_figures` for files, both with the
styles of `style`. Pixels are only sizes of figures and distances of words from their marks.

Names of marks are placed so that no name overlaps another.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

CHARACTER_PX = 6.6  # a wide guess for 11 px letters of any sans serif
ABOVE_PX, BELOW_PX = 9.0, 3.0  # space above and below a base line
MARK_PX = 6.0  # half the side of a mark, with some air
RINGS_PX = (16, 26, 38, 52, 68, 88)  # distances of a name from its mark, on a leader
ANGLES = 16
QUARTERS = (0, 0.25, 0.5, 0.75, 1)

Point = tuple[float, float]
Anchor = Literal["start", "middle", "end"]
Shape = Literal["disc", "square", "cross", "triangle"]


class Box(NamedTuple):
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

    def overhang(self, room: "Box") -> float:
        """Return by how many pixels it leaves a room."""
        return (
            max(room.left - self.left, 0)
            + max(self.right - room.right, 0)
            + max(room.top - self.top, 0)
            + max(self.bottom - room.bottom, 0)
        )


class Frame(NamedTuple):
    """The plane of a figure: its size in pixels, and which values it shows."""

    width: int = 238
    height: int = 220
    left: int = 48
    bottom: int = 44
    top: int = 10
    right: int = 12
    x: Point = (0.0, 1.0)  # values at its left and right end
    y: Point = (0.0, 1.0)  # at its lower and upper end

    def data_to_pixels(self, x: float, y: float) -> Point:
        """Return the position of a value, in pixels; values outside are on the edge."""
        across = _share(x, self.x) * (self.width - self.left - self.right)
        up = _share(y, self.y) * (self.height - self.top - self.bottom)
        return self.left + across, self.height - self.bottom - up

    def mark_box(self, point: Point, reach: float = MARK_PX) -> Box:
        """Return the area of a mark, by half its side in pixels."""
        x, y = self.data_to_pixels(*point)
        return Box(x - reach, y - reach, x + reach, y + reach)

    def line_box(self, first: Point, second: Point) -> Box:
        """Return the area of a vertical or horizontal line."""
        (left, top), (right, bottom) = self.data_to_pixels(*first), self.data_to_pixels(*second)
        return Box(min(left, right) - 1, min(top, bottom), max(left, right) + 1, max(top, bottom))


class Polyline(NamedTuple):
    """A line through points, or the surface within them."""

    points: Sequence[Point]
    style: str
    series: int = 0  # number of its colour, where the style says so
    closed: bool = False


class Marks(NamedTuple):
    """A mark at each of some points."""

    points: Sequence[Point]
    shape: Shape
    style: str
    series: int = 0
    radius: float = 4.5  # half its height, in pixels


class Label(NamedTuple):
    """Words next to a point."""

    point: Point
    text: str
    anchor: Anchor = "start"
    right: float = 0.0  # ends of the base line, from the point, in pixels
    down: float = 0.0
    style: Literal["", "mark-label", "weak-label"] = ""
    leader: bool = False  # so far from the point that a line must lead there
    turned: bool = False  # read upwards

    def box(self, frame: Frame) -> Box:
        """Return the estimated area of the words."""
        x, y = frame.data_to_pixels(*self.point)
        wide = len(self.text) * CHARACTER_PX
        left = x + self.right - {"start": 0.0, "middle": wide / 2, "end": wide}[self.anchor]
        base = y + self.down
        return Box(left, base - ABOVE_PX, left + wide, base + BELOW_PX)


DrawnShape = Polyline | Marks | Label


class Axis(NamedTuple):
    """An axis: its name, and where it has ticks."""

    name: str
    ticks: Sequence[float] = QUARTERS
    names: Sequence[str] = ()  # names of the ticks; (): their numbers


class FigureLegend(NamedTuple):
    """The key of lines and marks: words, and the symbols before them, in pixels, y downwards."""

    entries: Sequence[tuple[str, Sequence[DrawnShape]]] = ()
    width: int = 26  # width of the symbol, in pixels
    height: int = 10
    beside: bool = False  # the entries are side by side, not below each other

    @property
    def frame(self) -> Frame:
        """The plane of the drawn items."""
        return Frame(self.width, self.height, 0, 0, 0, 0, x=(0, self.width), y=(self.height, 0))


class Figure(NamedTuple):
    """A figure; `title` and `description` are read out in its place."""

    frame: Frame
    drawn: Sequence[DrawnShape]
    title: str
    description: str
    x: Axis | None = None  # None: neither axis is shown
    y: Axis = Axis("", ())
    caption: str = ""  # shown in a page
    note: str = ""  # small, below the caption
    key: FigureLegend = FigureLegend()

    @property
    def layers(self) -> Iterator[DrawnShape]:
        """Everything in the order in which it is drawn: surfaces behind the axes, the axes, the rest."""
        yield from (each for each in self.drawn if each.style in BEHIND)
        yield from self._axes()
        yield from (each for each in self.drawn if each.style not in BEHIND)

    def _axes(self) -> Iterator[DrawnShape]:
        if self.x is None:
            return
        frame, (left, right), (low, high) = self.frame, self.frame.x, self.frame.y
        for value, name in _ticks(self.x):
            yield Polyline(((value, low), (value, high)), "grid")
            yield Label((value, low), name, "middle", down=14)
        for value, name in _ticks(self.y):
            yield Polyline(((left, value), (right, value)), "grid")
            yield Label((left, value), name, "end", right=-5, down=3.5)
        yield Polyline(((left, high), (left, low), (right, low)), "axis")
        middle = (left + right) / 2, (low + high) / 2
        yield Label((middle[0], low), self.x.name, "middle", down=frame.bottom - 8)
        if self.y.name:
            yield Label((left, middle[1]), self.y.name, "middle", 12 - frame.left, turned=True)


BEHIND = frozenset({"floor", "band"})  # styles of surfaces


def line(points: Sequence[Point], series: int, *, marks: bool = False) -> list[DrawnShape]:
    """Return a line through points. A single point, or `marks`, gives dots; no point gives nothing."""
    drawn: list[DrawnShape] = [Polyline(points, "line", series)] if points else []
    if drawn and (marks or len(points) == 1):
        drawn.append(Marks(points, "disc", "dot", series, 2.5))
    return drawn


def diagonal(frame: Frame) -> Polyline:
    """Return the line from the lower left to the upper right corner."""
    return Polyline(tuple(zip(frame.x, frame.y, strict=True)), "chance")


def upright_line(frame: Frame, value: float) -> Polyline:
    """Return an upright line at a value of the first axis."""
    return Polyline(tuple((value, end) for end in frame.y), "chance")


def level(frame: Frame, value: float) -> Polyline:
    """Return a line across at a value of the second axis."""
    return Polyline(tuple((end, value) for end in frame.x), "chance")


def rectangle(style: str, x: Point, y: Point, series: int = 0) -> Polyline:
    """Return the area between two values of each axis."""
    (left, right), (low, high) = x, y
    around = ((left, low), (left, high), (right, high), (right, low))
    return Polyline(around, style, series, closed=True)


def band(lower: Sequence[Point], upper: Sequence[Point], series: int) -> Polyline:
    """Return the area between two lines."""
    return Polyline((*upper, *reversed(lower)), "band", series, closed=True)


def steps(edges: Sequence[float], heights: Sequence[float], style: str) -> Polyline:
    """Return a histogram: its outline, filled."""
    tops = (
        (edge, height)
        for ends, height in zip(pairwise(edges), heights, strict=True)
        for edge in ends
    )
    return Polyline(((edges[0], 0), *tops, (edges[-1], 0)), style, closed=True)


def lines_key(names: Sequence[str]) -> FigureLegend:
    """Return the key of the colours and dashes of `line`."""
    return FigureLegend([
        (name, line(((1, 5), (25, 5)), series)) for series, name in enumerate(names)
    ])  # fmt: skip


def swatches(styles: Iterable[str]) -> FigureLegend:
    """Return the key of surfaces, named by their styles."""
    entries = [(style, [rectangle(style, (1, 15), (1, 9))]) for style in styles]
    return FigureLegend(entries, width=16, beside=True)


def ticks(least: float, greatest: float, count: int = 5) -> tuple[float, ...]:
    """Return about `count` round values within a range."""
    span = greatest - least
    if span <= 0:
        return (least,)
    size = 10.0 ** math.floor(math.log10(span / count))
    step = next(
        size * factor for factor in (1, 2, 5, 10) if size * factor * count >= span * (1 - 1e-9)
    )
    first = -int(-least / step // 1) if least > 0 else int(least / step)
    values = (round((first + exponent) * step, 10) for exponent in range(count * 3))
    return tuple(value for value in values if least - 1e-9 <= value <= greatest + 1e-9)


def whole_ticks(least: float, greatest: float) -> tuple[float, ...]:
    """Return the whole numbers among the ticks of a range, such as epochs."""
    return tuple(tick for tick in ticks(least, greatest) if tick == int(tick))


def number(value: float) -> str:
    """Return a number as short as it can be."""
    return f"{value:.6g}".replace("-", "\N{MINUS SIGN}")


def three_digits(value: float) -> str:
    """Return a number in three digits, as short as it can be."""
    return number(float(f"{value:.3g}"))


def log_axis(name: str, ends: Point, factors: Sequence[int] = (1, 2, 5)) -> Axis:
    """Return a logarithmic axis, its ticks at these multiples of each power of ten.

    Args:
        name: of the axis.
        ends: exponents of ten of its least and its greatest value.
        factors: from 1 to 9.
    """
    low, high = ends
    values = [
        factor * 10.0**power
        for power in range(math.floor(low), math.ceil(high) + 1)
        for factor in factors
    ]
    inside = [value for value in values if low <= math.log10(value) <= high]
    return Axis(name, [math.log10(value) for value in inside], [*map(three_digits, inside)])


def _share(value: float, ends: Point) -> float:
    first, last = ends
    return min(max((value - first) / (last - first or 1), 0), 1)


def _ticks(axis: Axis) -> Iterator[tuple[float, str]]:
    return zip(axis.ticks, axis.names or map(number, axis.ticks), strict=True)


def place_names(
    frame: Frame, names: Sequence[str], points: Sequence[Point], occupied_boxes: Sequence[Box] = ()
) -> list[Label]:
    """Return a name for each mark: near it, inside the plane, and on nothing else if that can be.

    Args:
        frame: the plane; names may reach into the air right of it.
        names: what to write.
        points: of the marks.
        occupied_boxes: what else names must not cover.
    """
    (left, bottom), (right, top) = (
        frame.data_to_pixels(x, y) for x, y in zip(frame.x, frame.y, strict=True)
    )
    room = Box(left + 2, top, right + frame.right, bottom - 1)
    places = [frame.data_to_pixels(*point) for point in points]
    marks = [frame.mark_box(point) for point in points]
    covered = [*occupied_boxes, *marks]
    labels: dict[int, Label] = {}
    for index in sorted(range(len(names)), key=lambda index: -_crowd(places, index)):
        best: tuple[float, Label] | None = None
        for label in _candidates(names[index], points[index]):
            box = label.box(frame)
            cost = sum(box.overlap(other) for other in covered) + 1000 * box.overhang(room)
            if label.leader:
                cost += _leader_overlap(label, places[index], covered, label_box=marks[index])
            if best is None or cost < best[0]:
                best = cost, label
            if not cost:
                break
        if best is not None:
            labels[index] = best[1]
            covered.append(best[1].box(frame))
    return [labels[index] for index in range(len(names))]


def _crowd(places: Sequence[Point], index: int) -> int:
    return sum(math.dist(places[index], other) < RINGS_PX[-2] for other in places)


def _candidates(text: str, point: Point) -> Iterator[Label]:
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
    for right, down, anchor in near:
        yield Label(point, text, anchor, right, down, "mark-label")
    for ring in RINGS_PX:
        for step in range(ANGLES):
            angle = 2 * math.pi * (step + 0.5) / ANGLES
            right, down = ring * math.cos(angle), ring * math.sin(angle) + middle
            anchor = "start" if right >= 0 else "end"
            yield Label(point, text, anchor, right, down, "mark-label", leader=True)


def _leader_overlap(
    label: Label, point: Point, occupied_boxes: Sequence[Box], *, label_box: Box
) -> float:
    """Return how much of a leader overlaps other items, in samples of it."""
    down = label.down - (ABOVE_PX - BELOW_PX) / 2
    cost = 0.0
    for step in range(1, 10):
        x, y = point[0] + label.right * step / 10, point[1] + down * step / 10
        sample = Box(x - 0.5, y - 0.5, x + 0.5, y + 0.5)
        cost += sum(sample.overlap(other) for other in occupied_boxes if other is not label_box)
    return cost


def level_name(
    frame: Frame,
    text: str,
    value: float,
    occupied_boxes: Sequence[Box],
    *,
    downs: Sequence[float] = (-4, 12),
    inset: float = 0,
) -> Label:
    """Return the name of a level line: at the end and side of it where least is in its way.

    Args:
        frame: the plane.
        text: the name.
        value: of the line, on the second axis.
        occupied_boxes: what the name shall not cover.
        downs: how far below the line its base line may be, in pixels; the first one is preferred.
        inset: how far from the right end of the line it ends, in pixels.
    """
    left, right = frame.x
    choices = [
        label
        for down in downs
        for label in (
            Label((left, value), text, "start", 4, down, "weak-label"),
            Label((right, value), text, "end", -inset, down, "weak-label"),
        )
    ]
    return min(
        choices, key=lambda label: sum(label.box(frame).overlap(other) for other in occupied_boxes)
    )
