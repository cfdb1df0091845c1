"""The page of fairness; templates/fairness.html, which escapes what comes from the run.

The gap does not decide the order of the methods. Sentences say which gaps exceed chance, and which methods
are comparable. The first plot shows AUC against the FPR gap, one dot per seed and one mark per method,
with the chance level shaded. The other plots show bars of gaps, and FPR and FNR of each group. Tables show
counts and rates of each seed, and the leaderboard, method × AUC × gaps. Rates, gaps and floors are in percent,
AUC in [0, 1].
"""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import NamedTuple

from markupsafe import Markup

from trueface.evaluation.estimate import Estimate, Interval, Over
from trueface.evaluation.fairness import (
    Comparability,
    FairnessMethod,
    FairnessRow,
    methods,
)
from trueface.evaluation.group_rates import (
    GAP,
    OF_BOTH,
    GapVerdict,
    GroupRow,
    GroupTable,
)
from trueface.evaluation.over_seeds import (
    NO_MODELS,
    MissingModels,
    SeedSummary,
    format_seed_summary,
    seed_of,
    summarize_seeds,
)
from trueface.evaluation.published_gaps import PUBLISHED_LEGEND
from trueface.report.fairness_tables import (
    AT_COMMON,
    GROUP_INTERVALS,
    further_table,
    groups_table,
    methods_table,
    verdict,
)
from trueface.report.figures import (
    CHARACTER_PX,
    Axis,
    DrawnShape,
    Figure,
    Frame,
    Label,
    Marks,
    Point,
    Polyline,
    Shape,
    level_name,
    place_names,
    rectangle,
    ticks,
    upright_line,
)
from trueface.report.page import Page, render_template
from trueface.report.svg import allow_line_breaks, render_framed, side_by_side
from trueface.report.tables import study_table

UNFOLDED = 1  # methods whose groups are shown at once
SCATTER_WIDTH, HEIGHT = 860, 380
LEAST_SPAN = 0.04  # least range of the AUC
PAD = 0.12  # fraction of the range, on either side
DOT_PX = 2.4
BARS_WIDTH = 340
ROW_PX, BAR_PX = 22, 12
LEAST_PLOT_PX = 180  # beside long names
MARKS: Mapping[
    Comparability, tuple[Shape, str, float]
] = {  # shapes show whether methods may be compared
    Comparability.COMPARABLE: ("disc", "dot", 5),
    Comparability.LOWER_AUC: ("disc", "hollow", 5),
    Comparability.CONSTANT: ("cross", "hollow", 4),
}
BAR_RATES = (("fpr", "FPR", "fpr_gap"), ("fnr", "FNR", "tpr_gap"))  # a gap of FNR is one of TPR
COLUMNS = ("fpr", "tpr", "acc", OF_BOTH, "positive")  # columns of the tables of groups
SENTENCES = {
    GapVerdict.ABOVE: "The FPR gap is above chance",
    GapVerdict.NEAR: "The FPR gap is near its floor (at most twice the floor)",
    GapVerdict.WITHIN: "The FPR gap is not above chance",
}


class FairnessComparison(NamedTuple):
    """All methods on one test, by one column of groups."""

    data: str
    by: str
    methods: tuple[FairnessMethod, ...]  # by their comparability, else in the run's order

    @property
    def unit(self) -> Over:
        """What is counted: images, or videos."""
        return self.methods[0].rows[0].unit

    def with_comparability(self, comparability: Comparability) -> list[FairnessMethod]:
        """Return the methods with the same verdict."""
        return [method for method in self.methods if method.comparability is comparability]


def comparisons(
    rows: Sequence[FairnessRow], missing: MissingModels = NO_MODELS
) -> list[FairnessComparison]:
    """Return the rows by test and column, each in the order of their first row."""
    places: dict[tuple[str, str], list[FairnessMethod]] = {}
    for method in methods(rows, missing):
        places.setdefault(method.comparison_key, []).append(method)
    return [
        FairnessComparison(*key, tuple(sorted(methods, key=lambda method: method.comparability)))
        for key, methods in places.items()
    ]


def sentences(comparison: FairnessComparison) -> Iterator[str]:
    """Yield the sentences of one test and column; plain text, to be escaped."""
    yield from _chance(comparison)
    yield from _comparable(comparison)
    for comparability, words in (
        (
            Comparability.LOWER_AUC,
            "Lower AUC, not comparable (gaps can be compared only at similar AUC)",
        ),
        (Comparability.CONSTANT, "Constant detector, so no gap"),
    ):
        which = [method for method in comparison.with_comparability(comparability) if method.auc]
        if which:
            yield f"{words}: {_areas(which)}."
    without = [method.name for method in comparison.methods if not method.auc]
    if without:
        yield f"No AUC, because all {comparison.unit} are of one class: {'; '.join(without)}."
    rates = {
        text
        for method in comparison.methods
        for each in method.rows
        for text in _undefined_rates(each.table)
    }
    if rates:
        number = f"{len(rates)} rate{'s are' if len(rates) > 1 else ' is'}"
        yield f"{number} not defined. See the list below the groups."
    rows = [row for method in comparison.methods for row in method.rows]
    left_out = max(rows, key=lambda row: row.ungrouped, default=None)
    if left_out and left_out.ungrouped:
        yield f"Left out: {left_out.ungrouped} {left_out.unit} without a group."
    for note in dict.fromkeys(row.note for row in rows if row.note):
        yield f"{note[:1].upper()}{note[1:]}."


def _chance(comparison: FairnessComparison) -> Iterator[str]:
    sound = [
        method
        for method in comparison.methods
        if method.comparability is not Comparability.CONSTANT
    ]
    for word, sentence in SENTENCES.items():
        which = [_gap_and_floor(method) for method in sound if method.verdict is word]
        if which:
            yield f"{sentence}: {'; '.join(which)}."
    others = [method.name for method in sound if method.verdict is GapVerdict.UNDEFINED]
    if others:
        yield f"The FPR gap is not defined: {'; '.join(others)}."


def _comparable(comparison: FairnessComparison) -> Iterator[str]:
    alike = comparison.with_comparability(Comparability.COMPARABLE)
    if len(alike) < 2:
        if len(comparison.methods) > 1:
            yield "No two methods have a similar AUC, so their gaps cannot be compared."
        return
    yield f"Comparable, because their AUC is similar: {_areas(alike)}."
    gaps = [(gap, method) for method in alike if (gap := method.measure(GAP)) is not None]
    if len(gaps) < 2:
        return
    gaps.sort(key=lambda pair: pair[0].mean)
    (least, first), (second, other) = gaps[:2]
    yield f"{first.name} has the smallest mean FPR gap of these: {format_seed_summary(least, 1)}."
    if _overlap(least, second):
        spread = "one seed" if least.sd is None else "the spread over seeds"
        yield f"The next gap, {format_seed_summary(second, 1)} of {other.name}, cannot be distinguished from it: {spread} is not enough."


def _overlap(first: SeedSummary, second: SeedSummary) -> bool:
    if first.sd is None or second.sd is None:
        return True
    return first.mean + first.sd >= second.mean - second.sd


def _gap_and_floor(method: FairnessMethod) -> str:
    floor = method.floor(GAP)
    against = "" if floor is None else f" (floor {floor.mean:.1f})"
    return f"{method.name} {format_seed_summary(method.measure(GAP), 1)}{against}"


def _undefined_rates(table_of: GroupTable) -> list[str]:
    """Return the rates that are not defined, "TPR of male (no fake image of male)", and why."""
    return [
        f"{f'{each.rate.upper()} of {each.group}' if each.group else each.rate} ({each.reason})"
        for each in table_of.undefined
    ]


def _areas(methods: Sequence[FairnessMethod]) -> str:
    return "; ".join(
        f"{method.name} (AUC {format_seed_summary(method.auc, 3)})" for method in methods
    )


def gap_plot(comparison: FairnessComparison) -> Figure | None:
    """Return the figure; None of fewer than two models."""
    drawn = [(method, points) for method in comparison.methods if (points := _points(method))]
    if sum(len(points) for _, points in drawn) < 2:
        return None
    floor = summarize_seeds(
        row.table.permutation_p95(GAP)
        for method, _ in drawn
        if method.comparability is not Comparability.CONSTANT  # shuffled, it has no gap either
        for row in method.rows
    )
    top = max([gap for _, points in drawn for _, gap in points] + ([floor.mean] if floor else []))
    areas = [area for _, points in drawn for area, _ in points]
    frame = Frame(
        width=SCATTER_WIDTH, height=HEIGHT, left=54, x=_range(areas), y=(0.0, max(top * 1.1, 1.0))
    )
    means = [_mean(points) for _, points in drawn]
    shapes: list[DrawnShape] = []
    taken = [frame.mark_box(mean) for mean in means]
    for series, (method, points) in enumerate(drawn):
        if len(points) > 1:
            shapes.append(Marks(points, "disc", "seed", series, DOT_PX))
            taken += [frame.mark_box(point, 3) for point in points]
        shape, style, radius = MARKS[method.comparability]
        shapes.append(Marks((means[series],), shape, style, series, radius))
    if floor:
        text = f"floor: {floor.mean:.1f}"
        label = level_name(frame, text, floor.mean, taken, downs=(12, -4), inset=2)
        taken.append(label.box(frame))
        shapes = [rectangle("floor", frame.x, (0.0, floor.mean)), label, *shapes]
    names = [method.name for method, _ in drawn]
    return Figure(
        frame,
        [*shapes, *place_names(frame, names, means, taken)],
        title=f"FPR gap by AUC, {comparison.by}, {comparison.data}",
        description="; ".join(
            f"{method.name}: AUC {area:.3f}, gap {gap:.1f}, {verdict(method)}"
            for (method, _), (area, gap) in zip(drawn, means, strict=True)
        ),
        x=Axis("AUC", ticks(*frame.x, 6)),
        y=Axis("FPR gap, %", ticks(*frame.y, 6)),
    )


def _points(method: FairnessMethod) -> list[Point]:
    pairs = ((row.auc, row.table.measures[GAP]) for row in method.rows)
    return [(auc.value, gap) for auc, gap in pairs if auc is not None and gap is not None]


def _mean(points: Sequence[Point]) -> Point:
    return (
        sum(area for area, _ in points) / len(points),
        sum(gap for _, gap in points) / len(points),
    )


def _range(areas: Sequence[float]) -> Point:
    low, high = min(areas), max(areas)
    pad = max((high - low) * PAD, (LEAST_SPAN - (high - low)) / 2)
    return max(low - pad, 0.0), min(high + pad, 1.0)


def bars(method: FairnessMethod, *, common: bool = False) -> Iterator[Figure]:
    """Yield the figures of FPR and FNR over the groups, the mean over seeds with a dot a seed."""
    for rate, title, gap in BAR_RATES:
        tables = [*filter(None, method.tables(common=common))]
        rates: dict[str, list[Estimate | None]] = {}
        for group in (group for table_of in tables for group in table_of.groups):
            rates.setdefault(group.name, []).append(_rate(group, rate))
        if any(each for group_rates in rates.values() for each in group_rates):
            overall = _summarize_rates([_rate(table_of.overall, rate) for table_of in tables])
            floor = method.floor(gap, common=common)
            yield _bars(f"{title} of {method.name} by group", title, rates, overall, floor)


def _bars(
    name: str,
    title: str,
    rates: Mapping[str, Sequence[Estimate | None]],
    overall: SeedSummary | None,
    floor: SeedSummary | None,
) -> Figure:
    means = {group: _summarize_rates(group_rates) for group, group_rates in rates.items()}
    ends = [
        each.interval.high
        for group_rates in rates.values()
        for each in group_rates
        if each is not None and each.interval is not None
    ]
    ends += [value for mean in means.values() if mean for value in mean.values]
    left = max(round(max(map(len, rates)) * CHARACTER_PX) + 12, 48)
    frame = Frame(
        width=max(BARS_WIDTH, left + LEAST_PLOT_PX),
        height=54 + ROW_PX * len(rates),
        left=left,
        right=14,
        x=(0.0, min(max(max(ends) * 1.04, 1.0), 100.0)),
        y=(len(rates) + 0.5, 0.5),
    )
    drawn: list[DrawnShape] = []
    if overall and floor:  # groups within it do not differ more than by chance
        around = (overall.mean - floor.mean / 2, overall.mean + floor.mean / 2)
        drawn.append(rectangle("floor", around, frame.y))
    for position, group in enumerate(rates, start=1):
        drawn.append(Label((0, position), group, "end", -6, 4))
        drawn += _bar(position, means[group], rates[group])
    if overall:
        drawn.append(upright_line(frame, overall.mean))
    return Figure(
        frame,
        drawn,
        title=name,
        description="; ".join(
            f"{group} {mean.text(1)}" if mean else f"{group} not defined"
            for group, mean in means.items()
        ),
        x=Axis(f"{title}, %", ticks(*frame.x, 5)),
        caption=title,
        note=f"all: {overall.text(1)} %" if overall else "",
    )


def _summarize_rates(rates: Sequence[Estimate | None]) -> SeedSummary | None:
    return summarize_seeds(None if rate is None else rate.value for rate in rates)


def _rate(group: GroupRow, name: str) -> Estimate | None:
    """Return a rate of a group; "fnr" is 100 % - TPR."""
    if name != "fnr":
        return group.rates.get(name)
    tpr = group.rates.get("tpr")
    if tpr is None or tpr.interval is None:
        return None
    low, high = tpr.interval
    return Estimate(value=100 - tpr.value, interval=Interval(100 - high, 100 - low))


def _bar(
    position: int, mean: SeedSummary | None, rates: Sequence[Estimate | None]
) -> Iterator[DrawnShape]:
    if mean is None:
        yield Label((0, position), "not defined", right=5, down=4)
        return
    half = BAR_PX / ROW_PX / 2
    yield rectangle("gap-bar", (0, mean.mean), (position + half, position - half))
    if mean.sd is not None:
        yield Marks([(value, position) for value in mean.values], "disc", "seed", 6, 2)
    elif len(rates) == 1 and rates[0] is not None and (ends := rates[0].interval) is not None:
        yield Polyline(((ends.low, position), (ends.high, position)), "whisker")


def render_groups(method: FairnessMethod, figures: list[Figure], *, is_open: bool) -> Markup:
    """Return a method's bars and tables, folded; those of several seeds once more.

    Args:
        method: with the rows of its seeds.
        figures: of the page, to which its own are added.
        is_open: whether it is shown unfolded.
    """
    pictures = ""
    for common, title in ((False, "threshold 0.5"), (True, AT_COMMON)):
        if common and not any(method.tables(common=True)):
            pictures += (
                f"<p>No threshold at a common FPR: {escape(method.rows[0].validation.reason)}.</p>"
            )
            continue
        drawn = list(bars(method, common=common))
        figures += drawn
        pictures += f"<h4>At {title}</h4>{side_by_side(drawn) or '<p>No rate is defined.</p>'}"
    return Markup(
        f"<details{' open' if is_open else ''}><summary>{allow_line_breaks(method.name)}: FPR gap "
        f"{format_seed_summary(method.measure(GAP), 1)}</summary>{pictures}{_tables(method)}</details>"
    )


def _tables(method: FairnessMethod) -> str:
    if len(method.rows) == 1:
        return _seed(method.rows[0])
    return "".join(
        f"<details><summary>seed {escape(seed_of(row.model))}</summary>{_seed(row)}</details>"
        for row in method.rows
    )


def _seed(row: FairnessRow) -> str:
    text = _groups(row.table, "threshold 0.5", row.unit)
    return text + (_groups(row.common, AT_COMMON, row.unit) if row.common else "")


def _groups(group_table: GroupTable, where: str, unit: Over) -> str:
    undefined = "; ".join(_undefined_rates(group_table))
    below = f"<p>Not defined: {escape(undefined)}.</p>" if undefined else ""
    caption = f"At {where}. Small numbers are {GROUP_INTERVALS} {unit}."
    return f"{study_table(groups_table(group_table, COLUMNS), caption=caption)}{below}"


def _methods(comparison: FairnessComparison) -> str:
    """Return the table of all methods: comparable ones in the task's order, constant ones last."""
    has_common = any(table for method in comparison.methods for table in method.tables(common=True))
    return study_table(
        methods_table(comparison.methods, common=has_common),
        text_above="Comparable methods first, in the order of the run. Gaps are at threshold 0.5. ± is the "
        "standard deviation over seeds. Below each gap is its floor: the 95th percentile of the gap over 200 "
        "shuffles of the groups within classes.",
        kind="measures ladder",
    )


def fairness_page(
    rows: Sequence[FairnessRow], name: str, missing: MissingModels = NO_MODELS
) -> Page:
    """Return the page: the same rows give the same page.

    Args:
        rows: one per model (seed), test and column.
        name: of the run.
        missing: models of the run without a result.
    """
    figures: list[Figure] = []
    sections = [_section(each, figures) for each in comparisons(rows, missing)]
    html = render_template("fairness.html", _describe_run(rows), name=name, sections=sections)
    return Page(html, {"": figures})


def _section(comparison: FairnessComparison, figures: list[Figure]) -> dict[str, object]:
    """Return the template's values of a test and column; add its figures to those of the page."""
    opened = len(comparison.methods) <= UNFOLDED
    plot = gap_plot(comparison)
    figures += [plot] if plot else []
    return {
        # predictions from elsewhere name no test
        "title": f"By {comparison.by}" + (f", {comparison.data}" if comparison.data else ""),
        "sentences": list(sentences(comparison)),
        "unit": comparison.unit,
        "ladder": _methods(comparison),
        "further": study_table(
            further_table(comparison.methods), text_above=f"{PUBLISHED_LEGEND}."
        ),
        "plot": render_framed(plot),
        "groups": [render_groups(method, figures, is_open=opened) for method in comparison.methods],
    }


def _describe_run(rows: Sequence[FairnessRow]) -> Iterator[tuple[str, object]]:
    yield "models", len({row.model for row in rows})
    tests = dict.fromkeys(row.data for row in rows if row.data)
    if tests:
        yield "tests", ", ".join(tests)
    yield "group columns", ", ".join(dict.fromkeys(row.by for row in rows))
    files = dict.fromkeys(file for row in rows for file in row.attributes)
    if files:
        yield "attributes", ", ".join(files)
