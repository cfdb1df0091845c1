"""AUC against the FPR gap: a dot a seed, a mark a method, and what chance gives shaded."""

from collections.abc import Iterator, Sequence
from html import escape

from trueface.report.fairness.content import Comparison, Method, Standing
from trueface.report.fairness.summary import GAP, verdict
from trueface.report.label_placement import Anchor, Box, Label, mark, placed
from trueface.report.over_seeds import over_seeds
from trueface.report.svg import SERIES, Frame, Point, axes, svg, ticks

WIDTH, HEIGHT = 860, 380
LEAST_SPAN = 0.04  # of the AUC
PAD = 0.12  # of the span, on either side
DOT_PX = 2.4


def gap_plot(comparison: Comparison) -> str:
    """Return the plot; nothing of fewer than two models."""
    drawn = [(method, points) for method in comparison.methods if (points := _points(method))]
    if sum(len(points) for _, points in drawn) < 2:
        return ""
    floor = over_seeds(
        row.at_half.gaps[GAP].floor
        for method, _ in drawn
        if method.standing is not Standing.CONSTANT  # shuffled, it has no gap either
        for row in method.rows
    )
    top = max([gap for _, points in drawn for _, gap in points] + ([floor.mean] if floor else []))
    areas = [area for _, points in drawn for area, _ in points]
    frame = Frame(
        width=WIDTH, height=HEIGHT, left=54, x=_range(areas), y=(0.0, max(top * 1.1, 1.0))
    )
    means = [_mean(points) for _, points in drawn]
    places = [frame.at(*mean) for mean in means]
    dots = [frame.at(*point) for _, points in drawn for point in points if len(points) > 1]
    taken = [mark(*place) for place in places]
    taken += [Box(left=x - 3, top=y - 3, right=x + 3, bottom=y + 3) for x, y in dots]
    parts = [_band(frame, floor.mean) if floor else ""]
    parts.append(
        axes(
            frame,
            "AUC",
            "FPR gap, points",
            x_ticks=ticks(*frame.x, 6),
            y_ticks=ticks(*frame.y, 6),
        )
    )
    if floor:
        label = _floor_name(frame, floor.mean, taken)
        taken.append(label.box)
        parts.append(_text(label, "weak-label"))
    for series, (method, points) in enumerate(drawn):
        parts += _seeds(frame, points, series)
        parts.append(_mark(method.standing, *places[series], series))
    parts += _names(frame, [method.name for method, _ in drawn], places, taken)
    title = f"FPR gap by AUC, {comparison.by}, {comparison.data}"
    description = "; ".join(
        f"{method.name}: AUC {area:.3f}, gap {gap:.1f}, {verdict(method)}"
        for (method, _), (area, gap) in zip(drawn, means, strict=True)
    )
    return f'<div class="wide">{svg(frame, parts, title=title, description=description)}</div>'


def _points(method: Method) -> list[Point]:
    pairs = ((row.auc.value, row.at_half.gaps[GAP].value) for row in method.rows)
    return [(auc, gap) for auc, gap in pairs if auc is not None and gap is not None]


def _mean(points: Sequence[Point]) -> Point:
    return (
        sum(area for area, _ in points) / len(points),
        sum(gap for _, gap in points) / len(points),
    )


def _range(areas: Sequence[float]) -> Point:
    low, high = min(areas), max(areas)
    pad = max((high - low) * PAD, (LEAST_SPAN - (high - low)) / 2)
    return max(low - pad, 0.0), min(high + pad, 1.0)


def _band(frame: Frame, floor: float) -> str:
    (left, base), (right, top) = frame.at(frame.x[0], 0), frame.at(frame.x[1], floor)
    return (
        f'<rect class="floor" x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" '
        f'height="{base - top:.1f}"/>'
    )


def _floor_name(frame: Frame, floor: float, taken: Sequence[Box]) -> Label:
    """Return the name of the shaded floor, at the end of its edge where least is in its way."""
    (left, y), (right, _) = frame.at(frame.x[0], floor), frame.at(frame.x[1], floor)
    text = f"95 % of shuffled groups: up to {floor:.1f}"
    ends: tuple[tuple[float, Anchor], ...] = ((left + 4, "start"), (right - 2, "end"))
    choices = [
        Label(text=text, x=x, y=y + down, anchor=anchor) for down in (12, -4) for x, anchor in ends
    ]
    return min(choices, key=lambda label: sum(label.box.overlap(other) for other in taken))


def _seeds(frame: Frame, points: Sequence[Point], series: int) -> Iterator[str]:
    if len(points) < 2:
        return
    for point in points:
        x, y = frame.at(*point)
        yield (
            f'<circle class="dot d{series % SERIES} seed" cx="{x:.1f}" cy="{y:.1f}" r="{DOT_PX}"/>'
        )


def _mark(standing: Standing, x: float, y: float, series: int) -> str:
    """Return the mark of a method's mean: its shape tells whether it may be compared."""
    colour = series % SERIES
    if standing is Standing.COMPARABLE:
        return f'<circle class="d{colour}" cx="{x:.1f}" cy="{y:.1f}" r="5"/>'
    if standing is Standing.LOWER_AUC:
        return f'<circle class="s{colour} hollow" cx="{x:.1f}" cy="{y:.1f}" r="5"/>'
    return f'<path class="s{colour} hollow" d="M{x - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8"/>'


def _names(
    frame: Frame, names: Sequence[str], places: Sequence[Point], taken: Sequence[Box]
) -> Iterator[str]:
    (left, bottom), (right, top) = (frame.at(x, y) for x, y in zip(frame.x, frame.y, strict=True))
    room = Box(left=left + 2, top=top, right=right + frame.right, bottom=bottom - 1)
    for label, (x, y) in zip(placed(names, places, room=room, taken=taken), places, strict=True):
        if label.leader:
            yield f'<path class="leader" d="M{x:.1f} {y:.1f}L{label.x:.1f} {label.y - 3:.1f}"/>'
        yield _text(label, "mark-label")


def _text(label: Label, kind: str) -> str:
    return (
        f'<text class="{kind}" x="{label.x:.1f}" y="{label.y:.1f}" '
        f'text-anchor="{label.anchor}">{escape(label.text)}</text>'
    )
