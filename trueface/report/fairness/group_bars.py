"""Gap bars: FPR and FNR of each group beside that of all, and how far apart chance brings them."""

from collections.abc import Iterator, Sequence
from html import escape

from trueface.report.fairness.content import Method, Point, Rate
from trueface.report.label_placement import CHARACTER_PX
from trueface.report.over_seeds import OverSeeds, over_seeds
from trueface.report.svg import Frame, axes, svg, ticks

WIDTH = 340
ROW_PX, BAR_PX = 22, 12
LEAST_PLOT_PX = 180  # beside long names
RATES = (("fpr", "FPR", "fpr_gap"), ("fnr", "FNR", "tpr_gap"))  # a gap of FNR is one of TPR


def bars(method: Method, *, common: bool = False) -> str:
    """Return the plots of FPR and FNR over the groups, the mean over seeds with a dot a seed."""
    points = method.points(common=common)
    plots = [_plot(method, points, *names, common=common) for names in RATES] if points else []
    return "".join(plots)


def _plot(
    method: Method, points: Sequence[Point], rate: str, title: str, gap: str, *, common: bool
) -> str:
    names = list(dict.fromkeys(group.name for point in points for group in point.groups))
    rates = {name: _rates(points, name, rate) for name in names}
    means = {name: over_seeds(each.value for each in rates[name]) for name in names}
    overall = over_seeds(point.overall.rate(rate).value for point in points if point.overall)
    ends = [each.high for name in names for each in rates[name] if each.high is not None]
    ends += [value for mean in means.values() if mean for value in mean.values]
    if not ends:
        return ""
    left = max(round(max(map(len, names)) * CHARACTER_PX) + 12, 48)
    frame = Frame(
        width=max(WIDTH, left + LEAST_PLOT_PX),
        height=54 + ROW_PX * len(names),
        left=left,
        right=14,
        x=(0.0, min(max(max(ends) * 1.04, 1.0), 100.0)),
        y=(len(names) + 0.5, 0.5),
    )
    floor = method.floor(gap, common=common)
    parts = [
        _band(frame, overall, floor),
        axes(frame, f"{title}, %", "", x_ticks=ticks(*frame.x, 5), y_ticks=()),
    ]
    for place, name in enumerate(names, start=1):
        parts += _bar(frame, place, name, means[name], rates[name])
    if overall:
        (x, low), (_, high) = frame.at(overall.mean, frame.y[0]), frame.at(overall.mean, frame.y[1])
        parts.append(f'<path class="chance" d="M{x:.1f} {low:.1f}V{high:.1f}"/>')
    description = "; ".join(
        f"{name} {mean.text(1)}" if mean else f"{name} not defined" for name, mean in means.items()
    )
    picture = svg(frame, parts, title=f"{title} of {method.name} by group", description=description)
    below = "" if overall is None else f"<small>all: {overall.text(1)} %</small>"
    return f'<figure class="picture"><figcaption>{title}{below}</figcaption>{picture}</figure>'


def _rates(points: Sequence[Point], name: str, rate: str) -> list[Rate]:
    return [group.rate(rate) for point in points for group in point.groups if group.name == name]


def _band(frame: Frame, overall: OverSeeds | None, floor: OverSeeds | None) -> str:
    """Return the shade: groups that all lie within it are no further apart than by chance."""
    if overall is None or floor is None:
        return ""
    (left, low), (right, high) = (
        frame.at(overall.mean + side * floor.mean / 2, end)
        for side, end in ((-1, frame.y[0]), (1, frame.y[1]))
    )
    return (
        f'<rect class="floor" x="{left:.1f}" y="{high:.1f}" width="{right - left:.1f}" '
        f'height="{low - high:.1f}"/>'
    )


def _bar(
    frame: Frame, place: int, name: str, mean: OverSeeds | None, rates: Sequence[Rate]
) -> Iterator[str]:
    left, y = frame.at(0, place)
    yield f'<text x="{left - 6:.1f}" y="{y + 4:.1f}" text-anchor="end">{escape(name)}</text>'
    if mean is None:
        yield f'<text x="{left + 5:.1f}" y="{y + 4:.1f}">not defined</text>'
        return
    end, _ = frame.at(mean.mean, place)
    yield (
        f'<rect class="gap-bar" x="{left:.1f}" y="{y - BAR_PX / 2:.1f}" '
        f'width="{end - left:.1f}" height="{BAR_PX}"/>'
    )
    if mean.sd is not None:
        for value in mean.values:
            x, _ = frame.at(value, place)
            yield f'<circle class="d6 seed" cx="{x:.1f}" cy="{y:.1f}" r="2"/>'
    elif len(rates) == 1 and rates[0].low is not None and rates[0].high is not None:
        (low, _), (high, _) = frame.at(rates[0].low, place), frame.at(rates[0].high, place)
        yield f'<path class="whisker" d="M{low:.1f} {y:.1f}H{high:.1f}"/>'
