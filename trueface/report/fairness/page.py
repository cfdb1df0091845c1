"""The page of fairness; templates/fairness.html, which escapes what comes from the run.

AUC against the FPR gap, a dot a seed, a mark a method, what chance gives shaded; gap bars, FPR and FNR of each
group beside that of all; of each seed the table of counts and rates; the ladder, method × AUC × gaps.
It is made of the records of `trueface fairness --json`. Absent and null are the same there: not defined. Rates,
gaps and floors are in percent, AUC in 0 … 1.
"""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Protocol

from markupsafe import Markup

from trueface.evaluation.over_seeds import NO_VALUE, OverSeeds, cell, over_seeds, seed_of, shown
from trueface.report.fairness.content import (
    GAP,
    LOWER,
    UNDEFINED,
    Comparison,
    Gap,
    Group,
    Method,
    Point,
    Rate,
    Row,
    Standing,
    comparisons,
    sentences,
    verdict,
)
from trueface.report.json_fields import list_of, mapping_of, number_of, text_of
from trueface.report.page import environment
from trueface.report.scatter import CHARACTER_PX, Anchor, Box, Label, mark, placed
from trueface.report.style import CSS
from trueface.report.svg import SERIES, Frame, axes, breakable, svg, ticks
from trueface.report.svg import Point as Place
from trueface.report.tables import facts, table, table_row
from trueface.runtime.errors import DataError
from trueface.runtime.files import Json, write_atomic

SCATTER_WIDTH, HEIGHT = 860, 380
LEAST_SPAN = 0.04  # of the AUC
PAD = 0.12  # of the span, on either side
DOT_PX = 2.4


BARS_WIDTH = 340
ROW_PX, BAR_PX = 22, 12
LEAST_PLOT_PX = 180  # beside long names
BAR_RATES = (("fpr", "FPR", "fpr_gap"), ("fnr", "FNR", "tpr_gap"))  # a gap of FNR is one of TPR
COLUMNS = (
    ("fpr", "FPR"), ("tpr", "TPR"), ("acc", "accuracy"), ("auc", "AUC"), ("positive", "called fake"),
)  # fmt: skip
SHOWN = (("fpr_gap", "FPR gap"), ("f_fpr", "F_FPR"), ("f_eo", "F_EO"))
FURTHER = (
    ("tpr_gap", "TPR gap"), ("f_oae", "F_OAE"), ("f_dp", "F_DP"), ("f_meo", "F_MEO"), ("auc_gap", "AUC gap"),
)  # fmt: skip
GROUP_OF = {
    Standing.COMPARABLE: "method",
    Standing.LOWER_AUC: "reference",
    Standing.CONSTANT: "reference",
}
GAPS = ("fpr_gap", "tpr_gap", "f_fpr", "f_eo", "f_oae", "f_dp", "f_meo", "auc_gap")
RATES = ("fpr", "tpr", "acc", "auc", "positive")
FILE = "fairness.html"  # in a run's folder, where its report links to it
UNFOLDED = 1  # methods whose groups are shown at once


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
        width=SCATTER_WIDTH, height=HEIGHT, left=54, x=_range(areas), y=(0.0, max(top * 1.1, 1.0))
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


def _points(method: Method) -> list[Place]:
    pairs = ((row.auc.value, row.at_half.gaps[GAP].value) for row in method.rows)
    return [(auc, gap) for auc, gap in pairs if auc is not None and gap is not None]


def _mean(points: Sequence[Place]) -> Place:
    return (
        sum(area for area, _ in points) / len(points),
        sum(gap for _, gap in points) / len(points),
    )


def _range(areas: Sequence[float]) -> Place:
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


def _seeds(frame: Frame, points: Sequence[Place], series: int) -> Iterator[str]:
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
    frame: Frame, names: Sequence[str], places: Sequence[Place], taken: Sequence[Box]
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


def bars(method: Method, *, common: bool = False) -> str:
    """Return the plots of FPR and FNR over the groups, the mean over seeds with a dot a seed."""
    points = method.points(common=common)
    plots = [_plot(method, points, *names, common=common) for names in BAR_RATES] if points else []
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
        width=max(BARS_WIDTH, left + LEAST_PLOT_PX),
        height=54 + ROW_PX * len(names),
        left=left,
        right=14,
        x=(0.0, min(max(max(ends) * 1.04, 1.0), 100.0)),
        y=(len(names) + 0.5, 0.5),
    )
    floor = method.floor(gap, common=common)
    parts = [
        _bar_band(frame, overall, floor),
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


def _bar_band(frame: Frame, overall: OverSeeds | None, floor: OverSeeds | None) -> str:
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


def groups_of(method: Method, *, opened: bool) -> str:
    """Return a method's bars and tables, folded; those of several seeds once more.

    Args:
        method: with the rows of its seeds.
        opened: whether it is shown unfolded.
    """
    common = next((row.common for row in method.rows if row.at_common), "")
    pictures = f"<h4>At threshold .5</h4>{_grid(bars(method))}"
    if common:
        pictures += f"<h4>At {escape(common)}</h4>{_grid(bars(method, common=True))}"
    else:
        reason = next((row.common for row in method.rows if row.common), "")
        pictures += f"<p>No common FPR: {escape(reason)}.</p>" if reason else ""
    return (
        f"<details{' open' if opened else ''}><summary>{breakable(method.name)}: FPR gap "
        f"{shown(method.gap(GAP), 1)}</summary>{pictures}{_tables(method)}</details>"
    )


def _grid(plots: str) -> str:
    return f'<div class="grid-of">{plots}</div>' if plots else "<p>No rate is defined.</p>"


def _tables(method: Method) -> str:
    if len(method.rows) == 1:
        return _seed(method.rows[0])
    return "".join(
        f"<details><summary>seed {escape(seed_of(row.model))}</summary>{_seed(row)}</details>"
        for row in method.rows
    )


def _seed(row: Row) -> str:
    text = _table(row.at_half, "threshold .5")
    return text + (_table(row.at_common, row.common) if row.at_common else "")


def _table(point: Point, where: str) -> str:
    titles = (title for _, title in COLUMNS)
    lines = [*point.groups, *([point.overall] if point.overall else [])]
    undefined = "; ".join(point.undefined)
    below = f"<p>Not defined: {escape(undefined)}.</p>" if undefined else ""
    caption = f"At {escape(where)}; percent, with Wilson's 95 % intervals; the AUC in 0 … 1."
    return table(("group", "real", "fake", *titles), map(_line, lines), caption=caption) + below


def _line(group: Group) -> str:
    cells = "".join(_cell(group.rate(name), 3 if name == "auc" else 1) for name, _ in COLUMNS)
    return (
        f'<tr><th scope="row">{escape(group.name)}</th><td>{group.n_real}</td>'
        f"<td>{group.n_fake}</td>{cells}</tr>"
    )


def _cell(rate: Rate, digits: int) -> str:
    if rate.value is None:
        return f"<td>{NO_VALUE}</td>"
    if rate.low is None or rate.high is None:
        return f"<td>{rate.value:.{digits}f}</td>"
    return f"<td>{rate.value:.{digits}f}<small>{rate.low:.{digits}f}–{rate.high:.{digits}f}</small></td>"


def ladder(comparison: Comparison) -> str:
    """Return the table of all methods: comparable ones in the task's order, constant ones last."""
    common = common_name(comparison)
    extra = (f"FPR gap<small>at {escape(common)}</small>",) if common else ()
    gaps = (title for _, title in SHOWN)
    head = ("method", "seeds", "AUC", "AUC of the worst group", *gaps, *extra, "verdict")
    rungs = (_rung_line(method, has_common=bool(common)) for method in comparison.methods)
    return (
        '<p class="caption">Comparable methods first, in the order of the run: no gap decides it. '
        "Gaps in percent at threshold .5; ± is the standard deviation over seeds; below each gap its "
        "floor, the 95 % point of the same measure over groups shuffled within classes.</p>"
        + table(head, rungs, words=("verdict",), kind="measures ladder", grouped=True)
    )


def further(comparison: Comparison) -> str:
    """Return the measures that the ladder leaves out."""
    lines = (
        table_row(breakable(method.name), (_gap(method, name) for name, _ in FURTHER))
        for method in comparison.methods
    )
    return table(("method", *(title for _, title in FURTHER)), lines)


def common_name(comparison: Comparison) -> str:
    """Return which common operating point the methods have; "" where none has one."""
    names = [row.common for method in comparison.methods for row in method.rows if row.at_common]
    return names[0] if names else ""


def _rung_line(method: Method, *, has_common: bool) -> str:
    worst = sorted({row.worst_group for row in method.rows if row.worst_group})
    below = f"<small>{escape(worst[0])}</small>" if len(worst) == 1 else ""
    cells = "".join(_gap(method, name) for name, _ in SHOWN)
    cells += _gap(method, SHOWN[0][0], common=True) if has_common else ""
    row = (
        f'<tr><th scope="row">{breakable(method.name)}</th><td>{len(method.rows)}</td>'
        f"<td>{cell(method.auc, 3)}{_interval(method)}</td>"
        f"<td>{cell(method.worst_auc, 3)}{below}</td>{cells}"
        f'<td class="left">{escape(verdict(method))}{_reason(method)}</td></tr>'
    )
    return f'<tbody class="{GROUP_OF[method.standing]}">{row}</tbody>'


def _interval(method: Method) -> str:
    """Return the interval of the AUC over images, of one seed alone."""
    auc = method.rows[0].auc
    if len(method.rows) > 1 or auc.low is None or auc.high is None:
        return ""
    return f"<small>{auc.low:.3f}–{auc.high:.3f}</small>"


def _reason(method: Method) -> str:
    """Return why it is not comparable, without what its verdict says already."""
    reason = next((row.reason for row in method.rows if row.reason), "")
    if not reason:
        return ""
    return f'<small class="id">AUC {breakable(reason.removeprefix(f"{LOWER}: "))}</small>'


def _gap(method: Method, name: str, *, common: bool = False) -> str:
    floor = method.floor(name, common=common)
    below = "" if floor is None else f"<small>floor {floor.mean:.1f}</small>"
    return f"<td>{cell(method.gap(name, common=common), 1)}{below}</td>"


def row_of(record: Mapping[str, Json]) -> Row:
    """Return one record of `models`.

    Raises:
        DataError: it does not say of which model, test and column it is.
    """
    missing = [name for name in ("model", "data", "by") if not isinstance(record.get(name), str)]
    if missing:
        raise DataError(
            f"a record of fairness lacks {', '.join(missing)}; make it anew with trueface fairness"
        )
    at_common = mapping_of(record, "at_common_fpr")
    has_common = bool(at_common.get("groups"))
    return Row(
        model=text_of(record, "model"),
        data=text_of(record, "data"),
        by=text_of(record, "by"),
        auc=_rate(record, "auc"),
        worst_group=text_of(record, "worst_group"),
        worst_auc=number_of(record, "worst_group_auc"),
        constant=record.get("constant") is True,
        comparable=record.get("comparable") is not False,
        verdict=text_of(record, "verdict") or UNDEFINED,
        reason=text_of(record, "why_not"),
        at_half=_point(record),
        at_common=_point(at_common) if has_common else None,
        common=_common(at_common) if has_common else text_of(at_common, "reason"),
        note=text_of(record, "note"),
        ungrouped=int(number_of(record, "ungrouped") or 0),
        attributes=tuple(map(str, list_of(record, "attributes"))),
    )


def _common(record: Mapping[str, Json]) -> str:
    target = number_of(record, "target")
    return "common FPR" if target is None else f"FPR {target:g} % of validation"


def _point(record: Mapping[str, Json]) -> Point:
    gaps = {
        name: Gap(value=number_of(record, name), floor=number_of(record, f"{name}_floor"))
        for name in GAPS
    }
    groups = [_group(group) for group in list_of(record, "groups") if isinstance(group, dict)]
    overall = mapping_of(record, "overall")
    return Point(
        gaps=gaps,
        overall=_group({"name": "all", **overall}) if overall else None,
        groups=tuple(groups),
        undefined=tuple(map(_undefined, list_of(record, "undefined"))),
    )


def _group(record: Mapping[str, Json]) -> Group:
    return Group(
        name=text_of(record, "name"),
        n_real=int(number_of(record, "n_real") or 0),
        n_fake=int(number_of(record, "n_fake") or 0),
        rates={name: _rate(record, name) for name in RATES},
    )


def _undefined(cell: Json) -> str:
    if not isinstance(cell, dict):
        return str(cell)
    group, rate, reason = (text_of(cell, name) for name in ("group", "rate", "reason"))
    what = f"{rate.upper()} of {group}" if group else rate
    return f"{what} ({reason})" if reason else what


def _rate(record: Mapping[str, Json], name: str) -> Rate:
    return Rate(
        value=number_of(record, name),
        low=number_of(record, f"{name}_low"),
        high=number_of(record, f"{name}_high"),
    )


class Recorded(Protocol):
    """A row of `trueface fairness`."""

    @property
    def record(self) -> Mapping[str, Json]:
        """What `--json` prints of it."""


def write_fairness_page(rows: Sequence[Recorded], path: Path, *, name: str = "") -> None:
    """Write the page of a run's rows, atomically; folders are made as needed.

    Args:
        rows: one a model (a seed), test and column.
        path: the file.
        name: of the run; by default that of the file's folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    text = fairness_page([row.record for row in rows], name or path.absolute().parent.name)
    write_atomic(path, text)


def fairness_page(records: Sequence[Mapping[str, Json]], name: str) -> str:
    """Return the page: it needs no other file, and the same rows give the same page."""
    rows = [row_of(record) for record in records]
    template = environment().get_template("fairness.html")
    return template.render(
        name=name,
        css=Markup(CSS),
        about=Markup(facts(_about(rows))),  # escaped where made
        sections=[_section(each) for each in comparisons(rows)],
    )


def _section(comparison: Comparison) -> dict[str, object]:
    opened = len(comparison.methods) <= UNFOLDED
    groups = (groups_of(method, opened=opened) for method in comparison.methods)
    return {
        # predictions from elsewhere name no test
        "title": f"By {comparison.by}" + (f", {comparison.data}" if comparison.data else ""),
        "sentences": list(sentences(comparison)),
        "ladder": Markup(ladder(comparison)),
        "further": Markup(further(comparison)),
        "plot": Markup(gap_plot(comparison)),
        "groups": [Markup(text) for text in groups],
    }


def _about(rows: Sequence[Row]) -> Iterator[tuple[str, object]]:
    yield "models", len({row.model for row in rows})
    tests = dict.fromkeys(row.data for row in rows if row.data)
    if tests:
        yield "tests", ", ".join(tests)
    yield "columns of groups", ", ".join(dict.fromkeys(row.by for row in rows))
    files = dict.fromkeys(file for row in rows for file in row.attributes)
    if files:
        yield "attributes", ", ".join(files)
