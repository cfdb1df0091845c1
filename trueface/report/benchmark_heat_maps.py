"""The heat maps of a benchmark's page: models × corruptions, × sources of images, × attacks."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from html import escape

from trueface.benchmark.leaderboard import Leaderboard
from trueface.benchmark.measures import AREA, AT_THRESHOLD, BALANCED, Value
from trueface.benchmark.run_results import Result, RunResults
from trueface.evaluation.intervals import Measure
from trueface.report.svg import breakable
from trueface.report.tables import heat_cell, heat_scale

TITLES = {
    AREA: "AUC",
    BALANCED: "Balanced accuracy at threshold 0",
    AT_THRESHOLD: "Balanced accuracy at the threshold of validation",
}
BEFORE, AFTER = "called_fake_before:fake", "called_fake:fake"

Cells = dict[tuple[str, str], list[Result]]  # of a model in a column, of each seed


def heat_maps(run: RunResults, board: Leaderboard, measure: str) -> str:
    """Return for each set of images a heat map of models × corruptions."""
    return "".join(_corruptions(run, board, test, measure) for test in _tests(run))


def rates(run: RunResults, board: Leaderboard) -> str:
    """Return the TPR of each generator beside the TNR of each set of real images, images as they are."""
    return "".join(_rates(run, board, test) for test in _tests(run))


def attack_rates(run: RunResults, board: Leaderboard) -> str:
    """Return how many fakes are called fake before and after each attack, its control beside it."""
    return "".join(_attacks(run, board, test) for test in _tests(run))


def _corruptions(run: RunResults, board: Leaderboard, test: str, measure: str) -> str:
    cells: Cells = {}
    settings: dict[str, dict[str, None]] = {}
    for result in run.results:
        if result.index.test == test and not result.cell.condition.is_attack:
            column = result.cell.corrupt
            settings.setdefault(column, {})[result.cell.setting] = None
            cells.setdefault((result.group, column), []).append(result)
    heads = [
        f"{breakable(name)}<small>{' or '.join(each)}</small>" for name, each in settings.items()
    ]
    return _heat(
        f"{TITLES[measure]} on {test}.",
        heads,
        board,
        lambda model: [_cell(cells.get((model, column), ()), measure) for column in settings],
    )


def _rates(run: RunResults, board: Leaderboard, test: str) -> str:
    values: dict[tuple[str, str], list[Value]] = {}
    for result in run.results:
        if result.cell.condition.is_clean and result.index.test == test:
            for value in result.measured.values:
                if value.name.partition(":")[0] in {"tpr", "tnr"}:
                    values.setdefault((result.group, value.name), []).append(value)
    columns = sorted(
        dict.fromkeys(column for _, column in values), key=lambda name: name.startswith("tnr")
    )
    heads = [f"{name[:3].upper()}<small>{escape(name[4:])}</small>" for name in columns]
    return _heat(
        f"Called right at threshold 0, on {test}: TPR of each generator, TNR of each set of real "
        "images. A TPR says nothing without the TNR beside it. Wilson's intervals.",
        heads,
        board,
        lambda model: [heat_cell(*_mean(values.get((model, column), ()))) for column in columns],
    )


def _attacks(run: RunResults, board: Leaderboard, test: str) -> str:
    cells: Cells = {}
    columns: dict[str, str] = {}
    for result in run.results:
        if result.index.test == test and result.cell.condition.is_attack:
            columns.setdefault(result.cell.attack, result.cell.access)
            cells.setdefault((result.group, result.cell.attack), []).append(result)
    heads = [
        "before<small>no attack</small>",
        *(f"{escape(name)}<small>{access}</small>" for name, access in columns.items()),
    ]

    def row(model: str) -> list[str]:
        scored = [results for column in columns if (results := cells.get((model, column)))]
        before = next((each for each in scored if each[0].scores is not None), [])
        after = (_cell(cells.get((model, column), ()), AFTER) for column in columns)
        return [_cell(before, BEFORE), *after]

    return _heat(
        f"Fakes called fake, on {test}. random: random signs of the same budget, the control of the "
        "attacks on its right. Wilson's intervals.",
        heads if columns else [],
        board,
        row,
    )


def _cell(results: Sequence[Result], measure: str) -> str:
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
    return heat_cell(*_mean(values), note="; ".join(texts))


def _mean(values: Sequence[Value]) -> tuple[Measure | None, bool]:
    """Return the mean over seeds of a measure and of the ends of its intervals, if it has any."""
    there = [value for value in values if value.value is not None]
    if not there:
        return None, False
    bounded = [value for value in there if value.low is not None and value.high is not None]

    def mean(numbers: Iterable[float | None]) -> float:
        given = [number for number in numbers if number is not None]
        return sum(given) / len(given)

    middle = mean(value.value for value in there)
    if len(bounded) < len(there):
        return Measure(value=middle, low=middle, high=middle), False
    low, high = mean(value.low for value in there), mean(value.high for value in there)
    return Measure(value=middle, low=low, high=high), True


def _heat(
    caption: str, heads: Sequence[str], board: Leaderboard, row: Callable[[str], list[str]]
) -> str:
    """Return a heat map below its caption and scale; nothing where it has no column.

    Args:
        caption: as text.
        heads: of the columns, as HTML.
        board: its models are the rows, in its order.
        row: gives the cells of a model.
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


def _tests(run: RunResults) -> Iterable[str]:
    return dict.fromkeys(result.index.test for result in run.results)
