"""Plots of the page of erasing: bars of rates, and recovery against the attacker's steps."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from trueface.report.generation.made_folders import Made
from trueface.report.generation.rows import Row, has_several, named
from trueface.report.json_fields import list_of, number_of
from trueface.report.label_placement import CHARACTER_PX
from trueface.report.svg import SERIES, Frame, Point, axes, key, line, number, svg
from trueface.runtime.files import Json

RATES = (
    ("erased", "erased concept"),
    ("anchor", "drawn as the anchor"),
    ("others", "other concepts"),
)
COLOURS = (1, 3, 0)  # of the style sheet
BAR_PX, GAP_PX = 9, 10
BARS_WIDTH = 760
CURVE_WIDTH, CURVE_HEIGHT = 258, 220
Curve = Mapping[tuple[int, int], float]  # images, steps → rate


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """What an attacker with real images of the concept gets back, means over seeds."""

    method: str
    rates: Curve
    floor: Curve  # the same attack on a model that never saw the concept
    ceiling: Curve  # on the teacher


def rate_bars(rows: Sequence[Row]) -> str:
    """Return three bars a method: how often the concept, its anchor and the others are drawn."""
    known = [row for row in rows if any(row.mean(name) is not None for name, _ in RATES)]
    if not known:
        return ""
    left = max(round(max(len(row.name) for row in known) * CHARACTER_PX) + 14, 60)
    block = BAR_PX * len(RATES) + GAP_PX
    frame = Frame(
        width=max(BARS_WIDTH, left + 300),
        height=54 + block * len(known),
        left=left,
        right=44,
        x=(0.0, 1.0),
        y=(float(block * len(known)), 0.0),
    )
    parts = [axes(frame, "share of the samples", "", y_ticks=())]
    for place, row in enumerate(known):
        parts += _bars(frame, row, place * block + GAP_PX / 2)
    description = "; ".join(
        f"{row.name}: "
        + ", ".join(
            f"{title} {rate:.2f}" for name, title in RATES if (rate := row.mean(name)) is not None
        )
        for row in known
    )
    picture = svg(frame, parts, title="Rates of each method", description=description)
    swatches = "".join(
        f'<li><svg width="16" height="10" aria-hidden="true"><rect class="d{colour}" width="16" '
        f'height="9"/></svg><span>{escape(title)}</span></li>'
        for (_, title), colour in zip(RATES, COLOURS, strict=True)
    )
    return (
        f'<figure class="picture"><div class="wide">{picture}</div>'
        f'<ul class="key across">{swatches}</ul></figure>'
    )


def recoveries(folders: Sequence[Made], order: Sequence[str] = ()) -> tuple[Recovery, ...]:
    """Return what was recovered from each method; those named in `order` come first, as there."""
    groups: dict[str, list[Made]] = {name: [] for name in order}
    several = has_several(made.measures for made in folders)
    for made in folders:
        if list_of(made.measures, "recovery"):
            groups.setdefault(named(made.measures, several=several), []).append(made)
    return tuple(
        Recovery(
            method=method,
            rates=_curve(of, "recovery"),
            floor=_curve(of, "recovery_floor"),
            ceiling=_curve(of, "recovery_ceiling"),
        )
        for method, of in groups.items()
        if of
    )


def recovery_plots(made: Sequence[Recovery]) -> str:
    """Return a plot a method: a line for each number of images, and what is between floor and ceiling."""
    return "".join(map(_recovery, made))


def _bars(frame: Frame, row: Row, top: float) -> Iterator[str]:
    middle = top + BAR_PX * len(RATES) / 2
    left, y = frame.at(0, middle)
    yield f'<text x="{left - 6:.1f}" y="{y + 4:.1f}" text-anchor="end">{escape(row.name)}</text>'
    for at, ((name, _), colour) in enumerate(zip(RATES, COLOURS, strict=True)):
        value = row.value(name)
        if value is None:
            continue
        end, y = frame.at(value.mean, top + at * BAR_PX)
        yield (
            f'<rect class="d{colour}" x="{left:.1f}" y="{y:.1f}" '
            f'width="{max(end - left, 1):.1f}" height="{BAR_PX - 1}"/>'
        )
        if value.sd:
            (low, _), (high, _) = (frame.at(value.mean + side * value.sd, top) for side in (-1, 1))
            yield f'<path class="whisker" d="M{low:.1f} {y + BAR_PX / 2:.1f}H{high:.1f}"/>'
            end = max(end, high)
        yield f'<text x="{end + 5:.1f}" y="{y + BAR_PX - 1:.1f}">{value.mean:.2f}</text>'


def _curve(folders: Sequence[Made], name: str) -> Curve:
    values: dict[tuple[int, int], list[float]] = {}
    for made in folders:
        for point in list_of(made.measures, name):
            where = _point(point)
            if where is not None:
                values.setdefault(where[0], []).append(where[1])
    return {place: sum(rates) / len(rates) for place, rates in sorted(values.items())}


def _point(record: Json) -> tuple[tuple[int, int], float] | None:
    if not isinstance(record, dict):
        return None
    images, steps, rate = (number_of(record, name) for name in ("images", "steps", "rate"))
    if images is None or steps is None or rate is None or steps <= 0:
        return None
    return (int(images), int(steps)), rate


def _recovery(each: Recovery) -> str:
    images = sorted({images for images, _ in each.rates})
    steps = sorted({steps for _, steps in each.rates})
    if not images:
        return ""
    ends = math.log10(steps[0]), math.log10(steps[-1])
    pad = 0.0 if ends[1] > ends[0] else 0.5
    frame = Frame(
        width=CURVE_WIDTH,
        height=CURVE_HEIGHT,
        left=46,
        right=16,
        x=(ends[0] - pad, ends[1] + pad),
        y=(0.0, 1.0),
    )
    parts = [_between(frame, each, images[-1])]
    parts.append(
        axes(
            frame,
            "steps of the attacker",
            "rate of the concept",
            x_ticks=[math.log10(step) for step in steps],
            x_names=[number(step) for step in steps],
        )
    )
    parts += [
        line(frame, _points(each.rates, count), series, marks=True)
        for series, count in enumerate(images)
    ]
    description = "; ".join(
        f"{_counted(count)}: "
        + ", ".join(f"{10**x:.0f} steps {y:.2f}" for x, y in _points(each.rates, count))
        for count in images
    )
    picture = svg(frame, parts, title=f"Recovery from {each.method}", description=description)
    names = key([_counted(count) for count in images])
    return f"<figure><figcaption>{escape(each.method)}</figcaption>{picture}{names}</figure>"


def _counted(images: int) -> str:
    return f"{images} image{'' if images == 1 else 's'}"


def _points(curve: Curve, images: int) -> list[Point]:
    return [(math.log10(steps), rate) for (count, steps), rate in curve.items() if count == images]


def _between(frame: Frame, each: Recovery, images: int) -> str:
    """Return the shade between floor and ceiling, of the same number of images, and both lines."""
    floor, ceiling = _points(each.floor, images), _points(each.ceiling, images)
    lines = "".join(
        f'<path class="chance" d="M{"L".join(f"{x:.1f} {y:.1f}" for x, y in _at(frame, points))}"/>'
        for points in (floor, ceiling)
        if points
    )
    if not floor or not ceiling:
        return lines
    around = "L".join(
        f"{x:.1f} {y:.1f}" for x, y in (*_at(frame, floor), *reversed(_at(frame, ceiling)))
    )
    return f'<path class="band d{5 % SERIES}" d="M{around}Z"/>{lines}'


def _at(frame: Frame, points: Sequence[Point]) -> list[Point]:
    return [frame.at(*point) for point in points]
