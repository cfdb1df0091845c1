"""The page of a benchmark. The template is templates/benchmark.html; it escapes all text from the run.

Tables: leaderboard, attacks, differences, published figures. Heat maps: models × corruptions, × sources of
images, × attacks. Plots: reliability, cost against the worst AUC, ranks.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from html import escape
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from trueface.audit.finding import count as counted
from trueface.benchmark.conditions import Setting
from trueface.benchmark.leaderboard import Leaderboard
from trueface.benchmark.results import AREA, AT_THRESHOLD, BALANCED, CellResult, MeasureValue
from trueface.benchmark.videos import UNIT
from trueface.evaluation.arrays import Floats
from trueface.evaluation.calibration import probabilities
from trueface.evaluation.curves import Labels
from trueface.evaluation.estimate import Estimate, Interval
from trueface.evaluation.estimates import rate
from trueface.evaluation.over_seeds import NO_VALUE
from trueface.evaluation.published_tables import (
    SelectedDetector,
    published_tables,
    selected_detectors,
)
from trueface.models.registry import is_network
from trueface.report.figures import (
    Axis,
    DrawnShape,
    Figure,
    Frame,
    Label,
    Marks,
    Point,
    Polyline,
    diagonal,
    line,
    lines_key,
)
from trueface.report.leaderboard_tables import differences_table, leaderboard_table
from trueface.report.method_plane import TimedMethod, quality_by_time
from trueface.report.outcome import join_names
from trueface.report.page import Page, render_template
from trueface.report.svg import allow_line_breaks, render_framed, side_by_side
from trueface.report.tables import (
    SIGN,
    heat_cell,
    heat_scale,
    render_published,
    study_table,
    table,
    table_row,
)

TITLES = {
    AREA: "AUC",
    BALANCED: "Balanced accuracy at threshold 0",
    AT_THRESHOLD: "Balanced accuracy at the validation threshold",
}
BEFORE, AFTER = "called_fake_before:fake", "called_fake:fake"

ResultGrid = dict[tuple[str, str], list[CellResult]]  # results of each seed by (model, column)


BELIEFS = 10  # bins of a reliability diagram
LEAST = 5  # images; bins with fewer have no point
CHANCE = 0.5  # the AUC of a random guess
LEAST_RANK = 0.8  # start of the axis of ranks, left of rank 1
LONGEST_NAME = 24  # characters; longer names in the figure of ranks are cut at their start


def heat_maps(board: Leaderboard, measure: str) -> str:
    """Return a heat map of models × corruptions for each set of images."""
    return "".join(_corruptions(board, test, measure) for test in _tests(board))


def rates(board: Leaderboard) -> str:
    """Return the TPR for each generator and the TNR for each set of real images, on clean images."""
    return "".join(_rates(board, test) for test in _tests(board))


def attack_rates(board: Leaderboard) -> str:
    """Return the fraction of fakes that are called fake before and after each attack, with its control."""
    return "".join(_attacks(board, test) for test in _tests(board))


def _corruptions(board: Leaderboard, test: str, measure: str) -> str:
    cells: ResultGrid = {}
    settings: dict[str, dict[str, None]] = {}
    for result in board.run.results:
        if result.index.test == test and not result.cell.condition.is_attack:
            column = result.cell.corrupt
            settings.setdefault(column, {})[result.cell.setting] = None
            cells.setdefault((result.group, column), []).append(result)
    heads = [
        f"{allow_line_breaks(name)}<small>{' or '.join(each)}</small>"
        for name, each in settings.items()
    ]
    return _heat(
        f"{TITLES[measure]} on {test}.",
        heads,
        board,
        lambda model: [_cell(cells.get((model, column), ()), measure) for column in settings],
    )


def _rates(board: Leaderboard, test: str) -> str:
    values: dict[tuple[str, str], list[MeasureValue]] = {}
    for result in board.run.results:
        if result.cell.condition.is_clean and result.index.test == test:
            for value in result.measured.values:
                if value.name.partition(":")[0] in {"tpr", "tnr"}:
                    values.setdefault((result.group, value.name), []).append(value)
    columns = sorted(
        dict.fromkeys(column for _, column in values), key=lambda name: name.startswith("tnr")
    )
    heads = [f"{name[:3].upper()}<small>{escape(name[4:])}</small>" for name in columns]
    return _heat(
        f"TPR of each generator and TNR of each set of real images at threshold 0, on {test}. Read each TPR "
        "together with the TNR. Intervals are Wilson's.",
        heads,
        board,
        lambda model: [heat_cell(_mean(values.get((model, column), ()))) for column in columns],
    )


def _attacks(board: Leaderboard, test: str) -> str:
    cells: ResultGrid = {}
    columns: dict[str, str] = {}
    for result in board.run.results:
        if result.index.test == test and result.cell.condition.is_attack:
            columns.setdefault(result.cell.attack, result.cell.access)
            cells.setdefault((result.group, result.cell.attack), []).append(result)
    heads = [
        "before<small>without attack</small>",
        *(f"{escape(name)}<small>{escape(access)}</small>" for name, access in columns.items()),
    ]

    def row(model: str) -> list[str]:
        scored = [results for column in columns if (results := cells.get((model, column)))]
        clean_cells = next((each for each in scored if each[0].scores is not None), [])
        after = (_cell(cells.get((model, column), ()), AFTER) for column in columns)
        return [_cell(clean_cells, BEFORE), *after]

    return _heat(
        f"Share of fakes that are predicted fake, on {test}. random: random signs with the same budget, the control "
        "of the attacks to its right. Intervals are Wilson's.",
        heads if columns else [],
        board,
        row,
    )


def _cell(results: Sequence[CellResult], measure: str) -> str:
    values = [value for result in results if (value := result.measured[measure]) is not None]
    marks = Counter(
        result.measured.marked.mark
        for result in results
        if result.measured.marked.mark not in {"", "attack"}
    )
    count = len(results)
    texts = (
        mark if seeds == count else f"{mark}, {seeds} of {count} seeds"
        for mark, seeds in marks.items()
    )
    return heat_cell(_mean(values), note="; ".join(texts))


def _mean(values: Sequence[MeasureValue]) -> Estimate | None:
    """Return the mean over seeds of a measure and of the ends of its intervals, if it has intervals."""
    there = [value for value in values if value.value is not None]
    if not there:
        return None

    def mean(numbers: Iterable[float | None]) -> float:
        given = [number for number in numbers if number is not None]
        return sum(given) / len(given)

    middle = mean(value.value for value in there)
    intervals = [value.interval for value in there if value.interval is not None]
    if len(intervals) < len(there):
        reasons = (value.reason for value in there if value.reason)
        return Estimate(value=middle, why=next(reasons, "").removeprefix("no interval: "))
    ends = Interval(*(mean(numbers) for numbers in zip(*intervals, strict=True)))
    return Estimate(value=middle, interval=ends)


def _heat(
    caption: str, heads: Sequence[str], board: Leaderboard, row: Callable[[str], list[str]]
) -> str:
    """Return a heat map below its caption and scale, or nothing if it has no column.

    Args:
        caption: caption as plain text.
        heads: heads of the columns as HTML.
        board: leaderboard whose models are the rows.
        row: function that returns the cells of a model.
    """
    if not heads:
        return ""
    head = "".join(f'<th scope="col">{each}</th>' for each in heads)
    body = "".join(
        f'<tr><th scope="row">{escape(board.names[line.model])}</th>{"".join(row(line.model))}</tr>'
        for line in board.lines
    )
    return (
        f'<p class="caption">{escape(caption)} {heat_scale()}</p>'
        f'<div class="wide"><table class="heat"><thead><tr><td></td>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _tests(board: Leaderboard) -> Iterable[str]:
    return dict.fromkeys(result.index.test for result in board.run.results)


def cost(board: Leaderboard) -> Figure | None:
    """Return the plot of time per image against the AUC of the worst cell, for models that have one."""
    names = board.names
    methods = [
        TimedMethod(
            name=names[entry.model],
            time=entry.ms_image,
            quality=worst.value,
            spread=worst.half_width,
            role="method",
        )
        for entry in board.lines
        if entry.columns
        for worst in [
            min(
                (column.worst.value for column in entry.columns.values()), key=lambda row: row.value
            )
        ]
    ]
    return quality_by_time(
        methods, {}, x_label=f"time per {_input(board)}, ms", y_label="AUC of the worst cell"
    )


def _input(board: Leaderboard) -> str:
    return "image" if board.unit is None else "clip or frame"


def reliability(board: Leaderboard) -> Iterator[Figure]:
    """Yield the reliability diagram of each model, without and with the temperature."""
    for entry in board.lines:
        results = [
            result
            for result in board.run.results
            if result.group == entry.model and result.cell.condition.is_clean
            if result.scores is not None
        ]
        if not results:
            continue
        fakes: Labels = np.concatenate(
            [result.scores.predictions.labels for result in results if result.scores is not None]
        )
        plain, scaled = (
            np.concatenate([_logits(board, result, change(result)) for result in results])
            for change in (_without_temperature, _with_temperature)
        )
        frame, name = Frame(), board.names[entry.model]
        yield Figure(
            frame,
            [diagonal(frame), *_curve(fakes, plain, 0), *_curve(fakes, scaled, 1)],
            title=f"Reliability of {name}",
            description="without and with temperature scaling",
            x=Axis("predicted probability of fake"),
            y=Axis("share of fakes"),
            caption=name,
            key=lines_key(("without temperature scaling", "with temperature scaling")),
        )


def _logits(board: Leaderboard, result: CellResult, change: Callable[[Floats], Floats]) -> Floats:
    """Return the logits of a cell after a change of those of its images, frames or clips."""
    if board.unit is not None:
        return board.unit.change_logits(result, change)
    return change(result.scores.predictions.margin) if result.scores is not None else np.zeros(0)


def _without_temperature(result: CellResult) -> Callable[[Floats], Floats]:
    return result.facts.calibration.undo_temperature


def _with_temperature(result: CellResult) -> Callable[[Floats], Floats]:
    return result.facts.calibration.apply_temperature


def _curve(fakes: Labels, logits: Floats, series: int) -> Iterator[DrawnShape]:
    """Yield a curve of a reliability diagram, with Wilson's interval at each bin."""
    beliefs = probabilities(logits)
    bins = np.minimum((beliefs * BELIEFS).astype(int), BELIEFS - 1)
    points: list[Point] = []
    for place in np.unique(bins):
        inside = bins == place
        if np.sum(inside) < LEAST:
            continue
        share = rate(float((fakes[inside] == 1).mean()), int(np.sum(inside)))
        x = float(beliefs[inside].mean())
        points.append((x, share.value))
        if share.interval is not None:
            low, high = share.interval
            yield Polyline(((x, low), (x, high)), "interval", series)
    yield from line(points, series, marks=True)


def ranks(board: Leaderboard) -> Iterator[Figure]:
    """Yield the rank of each model in each setting, with its interval."""
    names = board.names
    for setting in Setting:
        ranked = [
            (names[entry.model], column.ranked)
            for entry in board.lines
            if (column := entry.columns.get(setting)) is not None and column.ranked is not None
        ]
        if not ranked:
            continue
        ranked.sort(key=lambda pair: pair[1].rank)
        count = len(ranked)
        drawn: list[DrawnShape] = []
        for rank, (name, at) in enumerate(ranked, start=1):
            drawn += [
                Polyline(((at.interval.low, rank), (at.interval.high, rank)), "whisker"),
                Marks(((at.rank, rank),), "disc", "method", radius=4),
                Label((LEAST_RANK, rank), name[-LONGEST_NAME:], "end", -6, 4),
            ]
        yield Figure(
            Frame(
                width=360,
                height=58 + 22 * count,
                left=150,
                x=(LEAST_RANK, count + 0.2),
                y=(count + 0.5, 0.5),
            ),
            drawn,
            title=f"Ranks, {setting}",
            description="; ".join(
                f"{name}: {at.rank:.1f} ({at.interval.text('.1f')})" for name, at in ranked
            ),
            x=Axis("rank", range(1, count + 1)),
            caption=setting,
        )


def _leaderboard(board: Leaderboard) -> str:
    """Return the leaderboard with columns for each setting and no mean over settings."""
    over = _counted_noun(board)
    return study_table(
        leaderboard_table(board),
        text_above="Sorted by the lowest mean AUC of the tiers. A cell is one image set under one condition. Small "
        f"numbers are 95 % intervals over {over} and, from three seeds on, over seeds. P(best): share of resamples in "
        "which the model has the best mean rank over the cells of the tier, with the interval of its rank. ECE: mean "
        "expected calibration error on clean images, and below it the ECE after temperature scaling.",
    )


def _counted_noun(board: Leaderboard) -> str:
    return "images" if board.unit is None else "videos"


def _differences(board: Leaderboard) -> str:
    """Return the paired differences of all models, by setting; nothing if there is no pair."""
    table_of = differences_table(board)
    if table_of is None:
        return ""
    return study_table(
        table_of,
        text_above=f"Difference of the mean AUC on the same {_counted_noun(board)}, with its 95 % interval. The "
        "interval is not corrected. p is from the bootstrap over all cells, and p (DeLong) from clean images. Both have Holm's "
        "correction for the pairs of a tier.",
        kind="",
    )


def attacks(board: Leaderboard) -> str:
    """Return the effects of attacks, with the control of random signs."""
    attacked = [result for result in board.run.results if result.cell.condition.is_attack]
    if not attacked:
        return ""
    names = board.names
    rows = sorted(
        attacked,
        key=lambda result: (result.group, result.index.test),  # a control stays before its attack
    )
    head = (
        "model", "images", "attack", "access", "predicted fake before", "after", "evasion rate", "defamation rate", "logit shift of fakes", "PSNR, dB",
    )  # fmt: skip
    return table(
        head,
        (_attack(result, names[result.group]) for result in rows),
        words=head[:4],
        text_above="Evasion: fakes predicted fake before and real after the attack. Defamation: real images predicted real "
        "before and fake after it. Logit shift and PSNR are medians over images.",
    )


def selected_table(board: Leaderboard) -> str:
    """Return a row for each detector that SoK selected: its mean AUC here, its published figure, or why one is missing."""
    head = ("detector", "model", "tier", "mean AUC here", "published", "measure", "remark")
    return table(
        head,
        (_selected_row(each, board) for each in selected_detectors()),
        words=("model", "tier", "measure", "remark"),
        text_above="The sixteen detectors that SoK selected. The AUC here is that of the first model of the leaderboard "
        "with this network, in the tier in which it is worst. Published figures are of FaceForensics++, other data."
        + (" The AUC here counts videos." if board.unit is not None else ""),
    )


def _selected_row(detector: SelectedDetector, board: Leaderboard) -> str:
    lines = (
        each for each in board.lines if each.architecture in detector.networks and each.columns
    )
    entry, figure = next(lines, None), detector.published
    here, tier, name, remarks = NO_VALUE, NO_VALUE, NO_VALUE, [detector.remark]
    if entry is not None:
        worst = min(entry.columns, key=lambda each: entry.columns[each].mean.value)
        mean, tier, name = entry.columns[worst].mean, str(worst), board.names[entry.model]
        ends = "" if mean.interval is None else f"<small>{mean.interval.text('.3f')}</small>"
        here = f"{mean.value:.3f}{ends}"
    elif detector.networks:
        known = [each for each in detector.networks if is_network(each)]
        reason = f"no model {' or '.join(known)} with an AUC in this run" if known else "no network"
        remarks.insert(0, reason)
    value, measure = (NO_VALUE,) * 2 if figure is None else (f"{figure.value:.3f}", figure.metric)
    cells = (
        f'<td class="left">{allow_line_breaks(name)}</td><td class="left">{tier}</td><td>{here}</td>',
        f'<td>{value}</td><td class="left">{measure}</td>',
        f'<td class="left words">{escape("; ".join(filter(None, remarks)))}</td>',
    )
    return table_row(escape(detector.detector), cells)


def notes(title: str, texts: Iterable[str]) -> str:
    """Return a list of remarks below a title, or nothing if there are none."""
    items = "".join(f"<li>{escape(text)}</li>" for text in texts)
    return f"<h3>{escape(title)}</h3><ul>{items}</ul>" if items else ""


def _attack(result: CellResult, name: str) -> str:
    measured = result.measured
    columns = (
        "called_fake_before:fake", "called_fake:fake", "attack_success_evasion",
        "attack_success_defamation", "logit_shift:fake", "psnr",
    )  # fmt: skip
    cells = "".join(f"<td>{_value_cell(measured[each])}</td>" for each in columns)
    if not result.cell.file:
        cells = f'<td class="left" colspan="{len(columns)}">{escape(result.cell.reason)}</td>'
    seed = "" if result.index.seed is None else f"<small>seed {result.index.seed}</small>"
    return (
        f'<tr><th scope="row">{escape(name)}{seed}</th><td class="left">{allow_line_breaks(result.index.test)}</td>'
        f'<td class="left">{escape(result.cell.attack)}</td><td class="left">{escape(result.cell.access)}</td>'
        f"{cells}</tr>"
    )


def _value_cell(value: MeasureValue | None) -> str:
    if value is None or value.value is None:
        return NO_VALUE
    if value.interval is None:
        sign = f'<abbr title="{escape(value.reason)}">{SIGN}</abbr>' if value.reason else ""
        return f"{value.value:.2f}{sign}"
    return f"{value.value:.3f}<small>{value.interval.text('.3f')}</small>"


def benchmark_page(board: Leaderboard) -> Page:
    """Return the page of a benchmark. It depends only on the results of the run."""
    run = board.run
    by_time, calibration, places = cost(board), list(reliability(board)), list(ranks(board))
    parts = {
        "leaderboard": _leaderboard(board),
        "areas": heat_maps(board, AREA),
        # validation gives a threshold of images or clips, not of videos
        "at_threshold": heat_maps(board, AT_THRESHOLD) if board.unit is None else "",
        "at_zero": heat_maps(board, BALANCED),
        "rates": rates(board),
        "attack_rates": attack_rates(board),
        "attacks": attacks(board),
        "reliability": side_by_side(calibration),
        "cost": render_framed(by_time),
        "ranks": side_by_side(places),
        "differences": _differences(board),
        "unranked": notes("Not ranked", board.missing_ranks),
        "selected": selected_table(board),
        "published": "".join(render_published(each, 3) for each in published_tables()),
        "not_run": notes("Not run", run.not_run(board.names)),
        "problems": notes("Left out", run.problems),
        "confounds": notes("Predictable from the file format", run.confounds),
        "friedman": notes("Friedman's test", [board.omnibus.text]),
        "settings": notes("Reasons for the tiers", run.settings),
    }
    # escaped by the functions that return it
    html = {name: Markup(text) for name, text in parts.items()}
    figures = [*places, *calibration, *([by_time] if by_time else [])]
    page = render_template(
        "benchmark.html", _describe_run(board), [*outcome(board)], run=run, unit=board.unit, **html
    )
    return Page(page, {"": figures})


class RankedModel(NamedTuple):
    """A model with the mean AUC of the setting in which it is worst."""

    name: str
    setting: Setting
    area: Estimate

    def __str__(self) -> str:
        return f"{self.name} ({self.area.value:.3f}, {self.area.ends_text('.3f')}, {self.setting})"


def outcome(board: Leaderboard) -> Iterator[str]:
    """Yield the outcome as plain text: the best model by the sort key of the leaderboard.

    A model is called the winner only if the intervals of all others are below its own.
    """
    ranked = [
        RankedModel(board.names[entry.model], setting, entry.columns[setting].mean)
        for entry in board.lines
        if entry.columns
        for setting in [min(entry.columns, key=lambda each: entry.columns[each].mean.value)]
    ]
    if not ranked:
        return
    ranked.sort(key=lambda each: -each.area.value)
    first, *others = ranked
    near = [other for other in others if not _is_below(other.area, first.area)]
    guess = (
        ""
        if first.area.excludes(CHANCE)
        else f" The interval of {first.name} contains 0.5, a random guess."
    )
    by = "by the lowest mean AUC of its tiers"
    if not others:
        yield f"One model has an AUC, {by}, with its 95 % interval: {first}.{guess}"
    elif not near:
        yield (
            f"{first.name} is the best of {len(ranked)} models {by}, with its 95 % interval: {first}. Next is "
            f"{others[0]}.{guess}"
        )
    else:
        alike = join_names([str(each) for each in (first, *near)])
        yield (
            f"None of {len(ranked)} models is the best {by}. The 95 % intervals of {alike} overlap.{guess}"
        )


def _is_below(other: Estimate, first: Estimate) -> bool:
    """Return whether the interval of one value is below that of another; without intervals it is not."""
    if other.interval is None or first.interval is None:
        return False
    return other.interval.high < first.interval.low


def _list_timing_devices(board: Leaderboard) -> Iterator[str]:
    """Yield the devices on which the time per image was measured."""
    facts = {(result.facts.device, result.facts.threads) for result in board.run.results}
    for device, threads in sorted(facts):
        yield f"{device}, {counted(threads, 'thread')}"


def _describe_run(board: Leaderboard) -> list[tuple[str, object]]:
    run = board.run
    unit = board.unit
    conditions = dict.fromkeys(result.cell.condition.name for result in run.results)
    images = "images" if unit is None else "frames and clips"
    versions = ", ".join(f"{name} {value}" for name, value in run.manifest.versions.items())
    return [
        ("benchmark", f"{run.manifest.name} (SHA-256 of {len(run.manifest.entries)} {images})"),
        *([("unit", UNIT.removeprefix("unit: ")), ("videos", unit.count)] if unit else []),
        *([("left out", ". ".join(unit.notes))] if unit and unit.notes else []),
        ("models", len(board.lines)),
        ("image sets", ", ".join(_tests(board))),
        ("conditions", ", ".join(conditions)),
        *([("training", run.training)] if run.training else []),
        ("versions", versions),
        ("timed on", ", ".join(_list_timing_devices(board))),
    ]
