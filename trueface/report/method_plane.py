"""Methods in the plane of quality and time."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from trueface.report.figures import (
    Axis,
    DrawnShape,
    Figure,
    Frame,
    Marks,
    Point,
    Polyline,
    Shape,
    level,
    level_name,
    log_axis,
    place_names,
    three_digits,
    ticks,
    upright_line,
)

Role = Literal["reference", "method", "broken"]
WIDTH, HEIGHT = 1050, 420
LEAST_MARKS = 3
BEFORE = "before"  # the mark of a model as it came, which may lie below the plane
RAISED_PX = 6  # marks below the plane are drawn on its edge
EDGE_DECADES = 0.18  # empty decades left and right
STRETCH = 2.0  # marks of broken models that would widen the second axis by more are drawn on its lower edge
ALWAYS = 0.12  # a second axis as long as this is never cut
LEAST_SPAN = 0.02  # least range of the second axis: finer differences are noise
FINE_DECADES = 3.2  # up to here the first axis has ticks at 2 and 5, too
SHAPES: Mapping[str, tuple[Shape, float]] = {  # shapes distinguish roles, not colour alone
    "reference": ("square", 4),
    "method": ("disc", 4.5),
    "broken": ("cross", 4),
    "below": ("triangle", 5),
}


def draw_mark(point: Point, role: Role, *, is_below: bool = False) -> Marks:
    """Return the mark of a method; `is_below` the plane it is a triangle on its edge."""
    shape, radius = SHAPES["below" if is_below else role]
    return Marks((point,), shape, role, radius=radius)


class TimedMethod(NamedTuple):
    """A method in the plane of quality and time."""

    name: str
    time: float  # > 0
    quality: float
    spread: float | None  # standard deviation of the quality over seeds
    role: Role

    @property
    def reach(self) -> Point:
        """The ends of its whisker."""
        return self.quality - (self.spread or 0.0), self.quality + (self.spread or 0.0)


def quality_by_time(
    methods: Sequence[TimedMethod],
    levels: Mapping[str, float],
    *,
    x_label: str,
    y_label: str,
) -> Figure | None:
    """Return the figure. None for fewer than three marks with a place, which a table shows in less room.

    Args:
        methods: those without a time stay out of it.
        levels: qualities that are level lines, by name.
        x_label: what the first axis is called.
        y_label: what the second one is called.
    """
    shown = [method for method in methods if method.time > 0 and math.isfinite(method.time)]
    if len(shown) < LEAST_MARKS:
        return None
    powers = [math.log10(method.time) for method in shown]
    low, high = min(powers) - EDGE_DECADES, max(powers) + EDGE_DECADES
    frame = Frame(WIDTH, HEIGHT, 54, x=(low, high), y=_range(shown, [*levels.values()]))
    inside = {name: value for name, value in levels.items() if value >= frame.y[0]}
    edge = frame.y[0] + RAISED_PX * (frame.y[1] - frame.y[0]) / (HEIGHT - frame.top - frame.bottom)
    points = [
        (power, edge if method.quality < frame.y[0] else method.quality)
        for power, method in zip(powers, shown, strict=True)
    ]
    drawn: list[DrawnShape] = [upright_line(frame, 0.0)] if low < 0 < high else []
    drawn += [level(frame, value) for value in inside.values()]
    for point, method in zip(points, shown, strict=True):
        below = method.quality < frame.y[0]
        if method.spread and not below:
            drawn.append(Polyline(tuple((point[0], end) for end in method.reach), "whisker"))
        drawn.append(draw_mark(point, method.role, is_below=below))
    taken = [frame.mark_box(point) for point in points]
    taken += [
        frame.line_box(*((x, end) for end in method.reach))
        for (x, _), method in zip(points, shown, strict=True)
    ]
    for name, value in inside.items():
        label = level_name(frame, f"{name} {value:.3f}", value, taken)
        taken.append(label.box(frame))
        drawn.append(label)
    names = [
        f"{method.name} {method.quality:.3f}" if method.quality < frame.y[0] else method.name
        for method in shown
    ]
    drawn += place_names(frame, names, points, taken)
    return Figure(
        frame,
        drawn,
        title=f"{y_label[:1].upper()}{y_label[1:]} by {x_label}",
        description="; ".join(
            f"{method.name}: {three_digits(method.time)} and {method.quality:.3f}"
            for method in shown
        ),
        x=log_axis(x_label, frame.x, (1, 2, 5) if high - low <= FINE_DECADES else (1,)),
        y=Axis(y_label, ticks(*frame.y, 6)),
    )


def _range(methods: Sequence[TimedMethod], levels: Sequence[float]) -> Point:
    """Return the ends of the second axis.

    Broken models, and the one before, may lie below it: beside them all others would look alike.
    """
    sound = [method for method in methods if method.role != "broken" and method.name != BEFORE]
    values = [value for method in sound for value in method.reach]
    every = [*levels, *(value for method in methods for value in method.reach)]
    chosen = values or every
    if max(every) - min(every) <= max(STRETCH * (max(chosen) - min(chosen)), ALWAYS):
        chosen = every
    low, high = min(chosen), max(chosen)
    pad = max((high - low) * 0.12, (LEAST_SPAN - (high - low)) / 2)
    return max(low - pad, 0.0), min(high + pad, 1.0)
