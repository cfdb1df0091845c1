"""Results as a table of a page, sorted by a column, with the best value of each metric marked."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from launcher.experiments.results.averages import average_over, notes_of_means
from launcher.experiments.results.best import by_data, rank_trials
from launcher.experiments.results.metric import format_value, read_metric
from launcher.experiments.results.metric_direction import Direction, direction_of
from launcher.experiments.results.model_columns import SEED, shown_settings
from launcher.experiments.results.returned_rows import JOB
from launcher.experiments.results.table import (
    COUNT,
    COUNTS,
    DATA,
    DESCENDING,
    MODEL,
    MODIFIER,
    NOTE,
    POOLED,
    ROW_KEY_COLUMNS,
    VERDICT,
    Row,
    RunResults,
    sort_rows,
)
from launcher.frontends.web.comparison import NUMBER, RUN, RunComparison
from launcher.system.text import sanitize_terminal

MOST_ROWS = 500
FEW = 7  # metrics that are shown if there are more; as many fit on 1,400 pixels
_NAMES = (RUN, JOB, MODEL)  # columns that name a row, if present


class Heading(NamedTuple):
    """A column's head."""

    name: str
    text: str
    numeric: bool
    order: str  # 'ascending', 'descending', or ''
    sort: str  # value of `sort` that orders by the column when it is chosen


class Cell(NamedTuple):
    """A cell."""

    text: str
    interval: str = ""
    numeric: bool = False
    best: bool = False


class TableRow(NamedTuple):
    """A row, and its job."""

    job: int | None
    cells: tuple[Cell, ...]


class ResultTable(NamedTuple):
    """A table of results, and how many columns and rows are left out."""

    headings: tuple[Heading, ...]
    rows: tuple[TableRow, ...]
    metrics_left: int  # metrics that are not shown
    rows_left: int
    pooled: int  # rows that pool sets of data
    single: int  # rows of single sets
    shows_pooled: bool
    data: str  # data of all rows, if they have the same
    data_differs: bool
    notes: tuple[str, ...] = ()
    repeated: bool = False  # whether jobs differ in their seed
    means: bool = False  # whether a row is a mean over seeds

    @property
    def intervals(self) -> bool:
        """Whether a number has an interval."""
        return any(cell.interval for row in self.rows for cell in row.cells)


def result_table(
    comparison: RunComparison,
    *,
    sort: str = "",
    everything: bool = False,
    single: bool = False,
    means: bool = False,
) -> ResultTable:
    """Return results as a table.

    Args:
        comparison: the results of one run, or of several.
        sort: a column; a dash before it sorts in descending order. An unknown column does not sort.
        everything: all metrics, not only the first few.
        single: the rows of single datasets, even if there are rows that pool datasets.
        means: means over seeds instead of a row per job.
    """
    repeated = SEED in comparison.results.columns and SEED in comparison.results.varying_columns
    means = means and repeated
    averaged = _mean_results(comparison) if means else comparison.results
    every = averaged.rows
    pooled = [row for row in every if row.get(POOLED)]
    shows_pooled = bool(pooled) and not single
    rows = pooled if shows_pooled else [row for row in every if not row.get(POOLED)]
    results = averaged._replace(rows=rows)
    metrics = results.metrics
    shown = metrics if everything else _first_metrics(results, metrics)
    verdicts = [VERDICT] if any(row.get(VERDICT) for row in rows) else []
    named = [*_find_describing_columns(results), *([COUNT] if means else []), *verdicts]
    returned = {name for row in rows if row.get(JOB) is not None for name in row}
    directions = {
        name: comparison.searches.directions[name]
        if name in comparison.searches.directions
        else direction_of(name, comparison.kinds.values(), is_table_column=name not in returned)
        for name in shown
    }
    marked = _best(rows, directions)
    if sort.removeprefix(DESCENDING) in results.names:
        results = sort_rows(results, [sort])
    results = rank_trials(results, comparison.searches.metric_of(results))
    return ResultTable(
        headings=tuple(
            _heading(
                name,
                sort,
                numeric=name in directions,
                low=directions.get(name, Direction.MIN) is Direction.MIN,
            )
            for name in (*named, *shown)
        ),
        rows=tuple(_cells(row, named, shown, marked) for row in results.rows[:MOST_ROWS]),
        metrics_left=len(metrics) - len(shown),
        rows_left=max(0, len(rows) - MOST_ROWS),
        pooled=len(pooled),
        single=len(every) - len(pooled),
        shows_pooled=shows_pooled,
        data_differs=DATA in named,
        data=_text(rows[0], DATA) if rows and DATA not in named else "",
        notes=(*comparison.notes, *notes_of_means(averaged)),
        repeated=repeated,
        means=means,
    )


def _mean_results(comparison: RunComparison) -> RunResults:
    """Return means over seeds; the count of a mean from which values are missing says so."""
    results = comparison.results
    of_rows = results._replace(
        rows=[{name: row[name] for name in row if name != NUMBER} for row in results.rows],
        columns=tuple(name for name in results.columns if name != NUMBER),
    )
    joined = average_over(of_rows, [SEED], shown_settings(comparison.kinds.values()))
    return joined._replace(
        rows=[
            {
                **{name: row[name] for name in row if name not in COUNTS},
                COUNT: row.get(NOTE) or row[COUNT],
            }
            for row in joined.rows
        ]
    )


def _cells(
    row: Row,
    named_columns: Sequence[str],
    shown_columns: Sequence[str],
    marked_cells: Collection[tuple[int, str]],
) -> TableRow:
    texts = (Cell(_text(row, name)) for name in named_columns)
    numbers = (
        _number(row.get(name), (id(row), name) in marked_cells, row.get(COUNT))
        for name in shown_columns
    )
    return TableRow(row.get(NUMBER), (*texts, *numbers))


def _find_describing_columns(results: RunResults) -> list[str]:
    """Return the columns that identify a row: names, and columns that are not equal in all rows."""
    varying = [
        name
        for name in results.varying_columns
        if name not in {NUMBER, COUNT, *ROW_KEY_COLUMNS[2:]}
    ]
    there = [name for name in results.names if name in results.columns]
    names = [name for name in there if name in varying or name in {JOB, MODEL}]
    data = [DATA] if DATA in results.varying_columns else []
    first = [name for name in _NAMES if name in names]
    return [*first, *data, *(name for name in names if name not in {*first, DATA})]


def _first_metrics(results: RunResults, metrics: Sequence[str]) -> list[str]:
    """Return the most important metrics: those with an interval, if any has one."""
    with_interval = [
        name
        for name in metrics
        if any(
            (each := read_metric(row.get(name))) and each.low is not None for row in results.rows
        )
    ]
    return [*(with_interval or metrics)][:FEW]


def _heading(name: str, sort: str, *, numeric: bool, low: bool) -> Heading:
    orders = {name: "ascending", f"{DESCENDING}{name}": "descending"}
    order = orders.get(sort, "")
    best_first = name if low else f"{DESCENDING}{name}"
    other = f"{DESCENDING}{name}" if low else name
    return Heading(
        name=name,
        text=sanitize_terminal(name.replace("_", " ")),
        numeric=numeric,
        order=order,
        sort=other if sort == best_first else best_first,
    )


def _best(rows: Sequence[Row], directions: Mapping[str, Direction | None]) -> set[tuple[int, str]]:
    """Return the cells with the best value among the rows of the same data; none if all are equal.

    Whole numbers are counts and have no best value, and neither has a metric whose direction is unknown.
    """
    marked: set[tuple[int, str]] = set()
    for name, direction in directions.items():
        if direction is None:
            continue
        for group in by_data(rows, name):
            numbers = {value for value, _ in group}
            if len(numbers) < 2 or all(isinstance(value, int) for value in numbers):
                continue
            top = (min if direction.is_low else max)(numbers)
            marked |= {(id(row), name) for value, row in group if value == top}
    return marked


def _number(cell: object, best: bool, count: object = None) -> Cell:
    metric = read_metric(cell)
    if metric is None:
        return Cell(text="–", numeric=True)
    interval = ""
    if metric.low is not None and metric.high is not None:
        interval = f"{metric.low:.3g} to {metric.high:.3g}"
    elif metric.why is not None:
        interval = f"no interval: {metric.why}"
    if metric.images is not None and metric.images.low is not None:
        other = f"{metric.images.unit}: {metric.images.low:.3g} to {metric.images.high:.3g}"
        interval = f"{interval}\n{other}" if interval else other  # a line of its own
    if metric.note not in {None, count}:
        interval = f"{interval}\n{metric.note}" if interval else str(metric.note)
    text = format_value(metric.value)
    if metric.sd is not None:
        text += f" ± {format_value(metric.sd)}"
    return Cell(text=text, interval=interval, numeric=True, best=best)


def _text(row: Row, name: str) -> str:
    if name == DATA and row.get(POOLED):
        value = row.get(MODIFIER) or row.get(DATA)  # the ID of all sets together is long
    else:
        value = row.get(name)
    if value is None:
        return ""
    return f"{value:g}" if isinstance(value, float) else sanitize_terminal(str(value))
