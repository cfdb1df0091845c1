"""Figures of the page of qualities: AUC and mean scores against the quality."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from trueface.evaluation.over_seeds import (
    SeedSummary,
)
from trueface.evaluation.qualities import (
    ComparedQualities,
    QualityMethod,
)
from trueface.report.figures import (
    CHARACTER_PX,
    Axis,
    DrawnShape,
    Figure,
    Frame,
    Point,
    band,
    line,
    lines_key,
    ticks,
)

LEFT, RIGHT = 54, 24
WIDE_STEP_PX, STEP_PX = 120, 64  # between two qualities, at least
AIR_PX = 14  # between their names
SMALL_WIDTH = 340  # least width of a plot
LEAST_SPAN = 0.05  # least range of the AUC: finer differences are noise


def quality_curves(comparison: ComparedQualities) -> Figure | None:
    """Return the AUC against the quality, one line a method; None of fewer than two qualities."""
    names = comparison.qualities
    drawn = [
        (method, points) for method in comparison.methods if (points := _points(names, method.area))
    ]
    if len(names) < 2 or not drawn:
        return None
    ends = [_ends(method, names) for method, _ in drawn]
    every = [points for _, points in drawn] + [points for both in ends for points in both]
    values = [value for points in every for _, value in points]
    low, high = _padded_range(values, (LEAST_SPAN - (max(values) - min(values))) / 2)
    y = (max(low, 0.0), min(high, 1.0))
    shapes: list[DrawnShape] = [
        band(*both, series) for series, both in enumerate(ends) if len(both[0]) > 1
    ]
    for series, (_, points) in enumerate(drawn):
        shapes += line(points, series, marks=True)
    return Figure(
        _frame(names, height=340, y=y, least=WIDE_STEP_PX),
        shapes,
        title=f"AUC by quality, {comparison.data}",
        description="; ".join(
            _describe_line(method.name, names, points, 3) for method, points in drawn
        ),
        x=_axis(names),
        y=Axis("AUC", ticks(*y, 5)),
        key=lines_key([method.name for method, _ in drawn]),
    )


def score_curves(comparison: ComparedQualities) -> Iterator[Figure]:
    """Yield for each method the mean score of reals and fakes against the quality."""
    names = comparison.qualities
    drawn = {
        method.name: [
            _points(names, partial(method.mean_probability, fake=fake)) for fake in (False, True)
        ]
        for method in comparison.methods
    }
    values = [value for lines in drawn.values() for points in lines for _, value in points]
    if len(names) < 2 or not values:
        return
    frame = _frame(names, height=230, y=_padded_range(values))
    for name, lines in drawn.items():
        if any(lines):
            yield Figure(
                frame,
                [
                    shape
                    for series, points in enumerate(lines)
                    for shape in line(points, series, marks=True)
                ],
                title=f"Mean probability of fake, {name}",
                description="; ".join(
                    _describe_line(which, names, points, 2)
                    for which, points in zip(("reals", "fakes"), lines, strict=True)
                ),
                x=_axis(names),
                y=Axis("mean probability", ticks(*frame.y, 5)),
                caption=name,
                key=lines_key(("real images", "fakes")),
            )


def _points(names: Sequence[str], value: Callable[[str], SeedSummary | None]) -> list[Point]:
    """Return the places of the qualities that have a value, each with its mean over seeds."""
    values = enumerate(map(value, names))
    return [(float(place), each.mean) for place, each in values if each is not None]


def _ends(method: QualityMethod, names: Sequence[str]) -> tuple[list[Point], list[Point]]:
    """Return the ends of each AUC: ± the seeds' deviation, of one seed its interval over images."""
    lower, upper = [], []
    for position, name in enumerate(names):
        area, only = method.area(name), method.over_images(name)
        if area is not None and area.sd is not None:
            ends = area.mean - area.sd, area.mean + area.sd
        elif only is not None and only.interval is not None:
            ends = only.interval
        else:
            continue
        lower.append((float(position), ends[0]))
        upper.append((float(position), ends[1]))
    return lower, upper


def _describe_line(name: str, names: Sequence[str], points: Sequence[Point], digits: int) -> str:
    values = (f"{names[int(place)]} {value:.{digits}f}" for place, value in points)
    return f"{name}: {', '.join(values)}"


def _axis(names: Sequence[str]) -> Axis:
    return Axis("quality", range(len(names)), names)


def _frame(names: Sequence[str], *, height: int, y: Point, least: float = STEP_PX) -> Frame:
    """Return a plane wide enough for the names of qualities side by side."""
    widest = max(len(name) for name in names) * CHARACTER_PX
    step = max(widest + AIR_PX, least)
    half = max(round(widest / 2) + 4, RIGHT)
    left = max(LEFT, half)
    width = max(round(left + half + step * (len(names) - 1)), SMALL_WIDTH)
    return Frame(width=width, height=height, left=left, right=half, x=(0.0, len(names) - 1.0), y=y)


def _padded_range(values: Sequence[float], least: float = 0.01) -> Point:
    low, high = min(values), max(values)
    pad = max((high - low) * 0.08, least)
    return low - pad, high + pad
