"""The tables of a benchmark's page: leaderboard, heat maps, rates of each source, attacks, differences."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape

from trueface.benchmark.conditions import ACCESS
from trueface.benchmark.known_data import Setting
from trueface.benchmark.leaderboard import Column, Leaderboard, Line
from trueface.benchmark.measures import AREA, AT_THRESHOLD, BALANCED, Value
from trueface.benchmark.run_results import Result, RunResults
from trueface.evaluation.bootstrap import Measure
from trueface.evaluation.published.tables import OTHER_DATA, published_tables
from trueface.report.svg import breakable
from trueface.report.tables import NO_VALUE, heat_cell

TITLES = {
    AREA: "AUC",
    BALANCED: "balanced accuracy at threshold 0",
    AT_THRESHOLD: "balanced accuracy at the threshold of validation",
}


def labels(lines: Sequence[Line]) -> dict[str, str]:
    """Return a short name of each model: its network, where that tells them apart; else its ID."""
    networks = [line.architecture for line in lines]
    if len(set(networks)) == len(networks):
        return {line.model: line.architecture for line in lines}
    return {line.model: line.model for line in lines}


def leaderboard_table(board: Leaderboard) -> str:
    """Return the leaderboard: three columns, never one mean over them."""
    names = labels(board.lines)
    settings = [each for each in Setting if any(each in line.columns for line in board.lines)]
    head = "".join(
        f'<th scope="col">{setting}<small>mean AUC</small></th><th scope="col">worst cell</th>'
        '<th scope="col">P(best)<small>rank</small></th>'
        for setting in settings
    )
    body = "".join(_line(line, names, settings) for line in board.lines)
    return (
        '<div class="wide"><table class="measures"><caption>Sorted by the worst setting. 95 % intervals '
        "over images and, from three on, seeds. ECE on clean images as told, and scaled by the "
        'temperature of validation.</caption><thead><tr><th scope="col" class="left">model</th>'
        f'<th scope="col">seeds</th>{head}<th scope="col">ECE<small>with</small></th>'
        '<th scope="col">ms an image<small>parameters</small></th></tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def heat_maps(run: RunResults, board: Leaderboard, measure: str) -> str:
    """Return for each set of images a heat map of models × corruptions."""
    tests = dict.fromkeys(result.index.test for result in run.results)
    return "".join(_heat_map(run, board, test, measure) for test in tests)


def rates(run: RunResults, board: Leaderboard) -> str:
    """Return the TPR of each generator beside the TNR of each set of real images, images as they are."""
    values: dict[tuple[str, str], list[Value]] = {}
    columns: dict[str, str] = {}
    for result in run.results:
        if result.cell.condition.is_clean:
            for value in result.measured.values:
                kind, _, source = value.name.partition(":")
                if kind in {"tpr", "tnr"}:
                    column = f"{kind} {source} on {result.index.test}"
                    columns[column] = kind
                    values.setdefault((result.group, column), []).append(value)
    ordered = sorted(columns, key=lambda column: columns[column] == "tnr")
    heads = [column.replace("tpr ", "TPR ").replace("tnr ", "TNR ") for column in ordered]
    return _heat(
        "Called right at threshold 0: TPR of each generator, then TNR of each set of real images, "
        "with Wilson's intervals. A TPR says nothing without the TNR beside it",
        heads,
        board,
        lambda model: [heat_cell(_mean(values.get((model, column), ()))) for column in ordered],
    )


def attacks(run: RunResults, board: Leaderboard) -> str:
    """Return what attacks do, with the control of random signs beside them."""
    attacked = [result for result in run.results if result.cell.condition.is_attack]
    if not attacked:
        return ""
    names = labels(board.lines)
    rows = sorted(
        attacked,
        key=lambda result: (result.group, result.index.test, ACCESS.index(result.cell.access)),
    )
    body = "".join(_attack(result, names[result.group]) for result in rows)
    titles = (
        "called fake before", "after", "evasion", "defamation", "logit shift of fakes", "PSNR, dB",
    )  # fmt: skip
    head = "".join(f'<th scope="col">{title}</th>' for title in titles)
    return (
        '<div class="wide"><table class="measures"><caption>Evasion: fakes called fake before and real '
        "after; defamation: reals called real before and fake after. Read each attack beside the random "
        'control of its budget.</caption><thead><tr><th scope="col" class="left">model</th>'
        '<th scope="col" class="left">images</th><th scope="col" class="left">attack</th>'
        f'<th scope="col" class="left">access</th>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def difference_table(board: Leaderboard) -> str:
    """Return the paired differences of all models, by setting."""
    names = labels(board.lines)
    rows = "".join(
        f'<tr><th scope="row">{setting}</th><td class="left">{escape(names[pair.second])} minus '
        f"{escape(names[pair.first])}</td><td>{pair.value:+.3f}<small>{pair.low:+.3f} … "
        f"{pair.high:+.3f}</small></td><td>{pair.p_holm:.3f}</td>"
        f"<td>{NO_VALUE if pair.p_delong is None else f'{pair.p_delong:.3f}'}</td></tr>"
        for setting, pairs in board.pairs.items()
        for pair in pairs
    )
    if not rows:
        return ""
    return (
        '<div class="wide"><table><caption>Mean AUC on the same images, 95 % interval by the paired '
        "bootstrap; p values with Holm's correction for the pairs of a setting.</caption><thead><tr>"
        '<th scope="col" class="left">setting</th><th scope="col" class="left">models</th>'
        '<th scope="col">difference</th><th scope="col">p</th><th scope="col">p by DeLong</th></tr>'
        f"</thead><tbody>{rows}</tbody></table></div>"
    )


def published() -> str:
    """Return figures that others published, marked: none of them is of these images."""
    parts = []
    for table in published_tables():
        rows = "".join(
            f'<tr><th scope="row">{escape(row.detector)}</th><td class="left">{escape(row.trained_on)}</td>'
            f'<td class="left">{escape(row.tested_on)}</td><td class="left">{escape(row.metric)}</td>'
            f'<td>{row.value:.3f}</td><td class="left">{OTHER_DATA}</td></tr>'
            for row in table.rows
        )
        parts.append(
            f"<details><summary>{escape(table.title)}</summary><p>{escape(table.citation)}. "
            f'{escape(table.note)}.</p><div class="wide"><table><thead><tr>'
            '<th scope="col" class="left">detector</th><th scope="col" class="left">trained on</th>'
            '<th scope="col" class="left">tested on</th><th scope="col" class="left">measure</th>'
            f'<th scope="col">value</th><th scope="col" class="left">mark</th></tr></thead><tbody>{rows}'
            "</tbody></table></div></details>"
        )
    return "".join(parts)


def notes(title: str, texts: Iterable[str]) -> str:
    """Return a list of remarks below a title; nothing where there is none."""
    items = "".join(f"<li>{escape(text)}</li>" for text in texts)
    return f"<h3>{escape(title)}</h3><ul>{items}</ul>" if items else ""


def _line(line: Line, names: Mapping[str, str], settings: Sequence[Setting]) -> str:
    cells = "".join(_column(line.columns.get(setting)) for setting in settings)
    told, scaled = (
        NO_VALUE if value is None else f"{value:.3f}" for value in (line.ece, line.ece_scaled)
    )
    name = names[line.model]
    below = "" if name == line.model else f"<small>{escape(line.model)}</small>"
    return (
        f'<tr><th scope="row">{escape(name)}{below}</th><td>{line.seeds}</td>{cells}'
        f"<td>{told}<small>{scaled}</small></td>"
        f"<td>{line.ms_image:.1f}<small>{line.parameters:,}</small></td></tr>"
    )


def _column(column: Column | None) -> str:
    if column is None:
        return f"<td>{NO_VALUE}</td>" * 3
    mean, worst, ranked = column.mean, column.worst, column.ranked
    place = worst.place[0] if worst.place[1] == "none" else f"{worst.place[1]}, {worst.place[0]}"
    best = (
        f'<td title="{escape(column.reason)}">not ranked</td>'
        if ranked is None
        else f"<td>{ranked.best:.2f}<small>{ranked.low:.1f}–{ranked.high:.1f}</small></td>"
    )
    return (
        f"<td>{mean.value:.3f}<small>{mean.low:.3f}–{mean.high:.3f}</small></td>"
        f'<td title="{escape(place)}">{worst.value:.3f}<small>{escape(worst.place[1])}</small></td>{best}'
    )


def _heat_map(run: RunResults, board: Leaderboard, test: str, measure: str) -> str:
    cells: dict[tuple[str, str], list[Result]] = {}
    columns: dict[str, str] = {}
    for result in run.results:
        if result.index.test == test and not result.cell.condition.is_attack:
            columns.setdefault(result.cell.corrupt, result.cell.setting)
            cells.setdefault((result.group, result.cell.corrupt), []).append(result)
    return _heat(
        f"{TITLES[measure]} on {test}; blue above chance (0.5), brown below it",
        list(columns),
        board,
        lambda model: [_result_cell(cells.get((model, column), ()), measure) for column in columns],
    )


def _result_cell(results: Sequence[Result], measure: str) -> str:
    values = [value for result in results if (value := result.measured[measure]) is not None]
    marks = Counter(
        result.measured.marked.mark for result in results if result.measured.marked.mark
    )
    count = len(results)
    texts = (
        mark if seeds == count else f"{mark}, {seeds} of {count} seeds"
        for mark, seeds in marks.items()
    )
    return heat_cell(_mean(values), "; ".join(texts))


def _mean(values: Sequence[Value]) -> Measure | None:
    """Return the mean over seeds of a measure; its ends are those of the single ones, too."""
    known = [value for value in values if value.value is not None]
    if not known:
        return None

    def mean(numbers: Iterable[float | None], other: float) -> float:
        there = [number for number in numbers if number is not None]
        return sum(there) / len(there) if there else other

    middle = mean((value.value for value in known), 0.0)
    return Measure(
        value=middle,
        low=mean((value.low for value in known), middle),
        high=mean((value.high for value in known), middle),
    )


def _heat(
    caption: str, columns: Sequence[str], board: Leaderboard, row: Callable[[str], list[str]]
) -> str:
    if not columns:
        return ""
    names = labels(board.lines)
    head = "".join(f'<th scope="col">{breakable(column)}</th>' for column in columns)
    body = "".join(
        f'<tr><th scope="row">{escape(names[line.model])}</th>{"".join(row(line.model))}</tr>'
        for line in board.lines
    )
    return (
        f'<div class="wide"><table class="heat"><caption>{escape(caption)}</caption><thead><tr><td></td>'
        f"{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _attack(result: Result, name: str) -> str:
    measured = result.measured
    wanted = (
        "called_fake_before:fake", "called_fake:fake", "attack_success_evasion",
        "attack_success_defamation", "logit_shift:fake", "psnr",
    )  # fmt: skip
    cells = "".join(f"<td>{_shown(measured[each])}</td>" for each in wanted)
    if not result.cell.file:
        cells = f'<td class="left" colspan="{len(wanted)}">{escape(result.cell.reason)}</td>'
    seed = "" if result.index.seed is None else f"<small>seed {result.index.seed}</small>"
    return (
        f'<tr><th scope="row">{escape(name)}{seed}</th><td class="left">{breakable(result.index.test)}</td>'
        f'<td class="left">{escape(result.cell.attack)}</td><td class="left">{result.cell.access}</td>'
        f"{cells}</tr>"
    )


def _shown(value: Value | None) -> str:
    if value is None or value.value is None:
        return NO_VALUE
    if value.low is None or value.high is None:
        return f"{value.value:.2f}"
    return f"{value.value:.3f}<small>{value.low:.3f}–{value.high:.3f}</small>"
