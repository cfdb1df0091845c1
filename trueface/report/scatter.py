"""Quality against time: one mark for each unlearning method, named where it stands."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

from trueface.report.label_placement import Box, Label, mark, placed
from trueface.report.svg import Frame, axes, level, number, svg, ticks, upright
from trueface.unlearning.evaluation.measurement import BEFORE

Role = Literal["reference", "method", "broken"]
WIDTH, HEIGHT = 1050, 420
RAISED_PX = 6  # marks that lie below the plot stand on its edge
EDGE_DECADES = 0.18  # of air left and right
STRETCH = (
    2.0  # marks of broken models that would widen the second axis by more lie on its lower edge
)
ALWAYS = 0.12  # a second axis as long as this is never cut
LEAST_SPAN = 0.02  # of the second axis: finer differences are noise
FINE_DECADES = 3.2  # up to here the first axis has ticks at 2 and 5, too


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
    """Return the plot; nothing where no mark has a place.

    Args:
        marks: the methods; those without a time stay out of it.
        before: the quality before any unlearning, a line.
        retrain: that of the retrained model, a line.
        across: what the first axis is called.
        up: what the second one is called.
    """
    shown = [method for method in marks if method.time > 0 and math.isfinite(method.time)]
    if not shown:
        return ""
    references = (("before", before), ("retrain", retrain))
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
    times, names = _log_ticks(*frame.x)
    parts = [
        axes(frame, across, up, x_ticks=times, x_names=names, y_ticks=ticks(*frame.y, 6)),
        upright(frame, 0.0) if frame.x[0] < 0 < frame.x[1] else "",
        *(level(frame, value) for _, value in levels),
        *(_mark(frame, method, *place) for method, place in zip(shown, places, strict=True)),
        *_names(frame, shown, places, levels),
    ]
    description = "; ".join(
        f"{method.name}: {number(_short(method.time))} and {method.quality:.3f}" for method in shown
    )
    title = f"{up[:1].upper()}{up[1:]} by {across}"
    return svg(frame, parts, title=title, description=description)


def _names(
    frame: Frame,
    shown: Sequence[Mark],
    places: Sequence[tuple[float, float]],
    levels: Sequence[tuple[str, float]],
) -> Iterator[str]:
    (left, bottom), (right, top) = (
        frame.at(frame.x[0], frame.y[0]),
        frame.at(frame.x[1], frame.y[1]),
    )
    room = Box(left=left + 2, top=top, right=right + frame.right, bottom=bottom - 1)
    taken = [mark(*place) for place in places] + [
        _whisker(frame, method, place[0]) for method, place in zip(shown, places, strict=True)
    ]
    for name, value in levels:
        _, y = frame.at(frame.x[0], value)
        chosen = _line_name(f"{name} {value:.3f}", y, (left, right), taken)
        taken.append(chosen.box)
        yield _text(chosen, "weak-label")
    texts = [
        f"{method.name} {method.quality:.3f}" if method.quality < frame.y[0] else method.name
        for method in shown
    ]
    for label, place in zip(placed(texts, places, room=room, taken=taken), places, strict=True):
        if label.leader:
            end = label.y - 3
            yield f'<path class="leader" d="M{place[0]:.1f} {place[1]:.1f}L{label.x:.1f} {end:.1f}"/>'
        yield _text(label, "mark-label")


def _line_name(text: str, y: float, ends: tuple[float, float], taken: Sequence[Box]) -> Label:
    """Return the name of a level line: at the end and side of it where least is in its way."""
    left, right = ends
    choices = [
        Label(text=text, x=x, y=y + down, anchor="start" if x < right else "end")
        for down in (-4, 12)
        for x in (left + 4, right)
    ]
    return min(choices, key=lambda label: sum(label.box.overlap(other) for other in taken))


def _text(label: Label, kind: str) -> str:
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


def _log_ticks(low: float, high: float) -> tuple[list[float], list[str]]:
    factors = (1, 2, 5) if high - low <= FINE_DECADES else (1,)
    values = [
        factor * 10.0**power
        for power in range(math.floor(low), math.ceil(high) + 1)
        for factor in factors
    ]
    inside = [value for value in values if low <= math.log10(value) <= high]
    return [math.log10(value) for value in inside], [number(_short(value)) for value in inside]


def _short(value: float) -> float:
    return float(f"{value:.3g}")
