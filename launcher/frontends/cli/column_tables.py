"""Tables of selected columns, and of one metric by model and data."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from launcher.experiments.results.metric import Metric, footnotes, read_metric
from launcher.experiments.results.pivot import Pivot
from launcher.experiments.results.returned_rows import JOB
from launcher.experiments.results.table import (
    COUNT,
    DATA,
    EXPECTED,
    MODEL,
    NOTE,
    POOLED,
    VERDICT,
    RunResults,
)
from launcher.frontends.cli.output import ABSENT, cell_text, table_from_cells
from launcher.frontends.cli.plain_tables import Row, hidden_columns_note, table_of_columns
from launcher.system.text_table import Column, TextTable, line, table_of_texts

# the metrics of a detector that a table shows; JSON and CSV have all
MAIN = ("balanced_accuracy", "accuracy", "auc", "eer", "ece", "loss")
_ALWAYS = (JOB, MODEL, DATA, COUNT, VERDICT)
_COUNTED = (EXPECTED, NOTE)  # columns whose values the cell of COUNT contains
_SHORTEST_TEXT = 20  # columns


def default_columns(results: RunResults, first: Sequence[str] = ()) -> list[str]:
    """Return the displayed columns: for tests the varying columns, the main metrics and verdicts, otherwise all.

    Args:
        results: Results of a run.
        first: Requested metrics, which precede the others.
    """
    asked = [name for name in first if name not in results.columns]
    metrics = results.metrics
    main = [name for name in MAIN if name in metrics]
    if POOLED not in results.names:
        named = [name for name in results.columns if name in results.names]
        shown = dict.fromkeys([*named, *asked, *metrics, *results.names])
        return [name for name in shown if name not in _COUNTED or name in first]
    varying = {*results.varying_columns, *_ALWAYS} - {POOLED}
    varying -= {*_COUNTED} - {*first}
    named = [name for name in results.columns if name in varying and name in results.names]
    verdicts = [VERDICT] if any(row.get(VERDICT) for row in results.rows) else []
    return list(dict.fromkeys([*named, *asked, *(main or metrics), *verdicts]))


def _with_count_note(row: Row, names: Sequence[str]) -> Row:
    """Return a row of means with the note about missing values at the count, or at each mean without a count.

    Args:
        row: Row of a table.
        names: Names of the displayed columns.
    """
    note = row.get(NOTE)
    if note is None or COUNT not in names:
        return row
    said = {
        name: metric
        for name in names
        if (metric := read_metric(row.get(name))) and metric.note == note
    }
    without = {name: metric._replace(note=None).to_json() for name, metric in said.items()}
    return {**row, **without, COUNT: note}


def flat_table(
    results: RunResults, names: Sequence[str], *, intervals: bool = True, latex: bool = False
) -> TextTable:
    """Return some columns as a table for users; numbers have their intervals if there is room.

    Args:
        results: Results of a run.
        names: Names of the columns.
        intervals: Print numbers with their intervals.
        latex: Write intervals in brackets, and round numbers to their uncertainty.
    """

    def text_of(cell: Any) -> str:
        metric = read_metric(cell)
        if metric is None or (
            metric.low is None and metric.sd is None and isinstance(metric.value, int)
        ):
            return cell_text(cell)
        known = metric if intervals else metric._replace(low=None, high=None)
        return known.text(brackets=latex, is_rounded=latex)

    shown = (read_metric(row.get(name)) for row in results.rows for name in names)
    notes = [line(note) for note in footnotes(shown)] if latex else []
    table = table_of_columns([_with_count_note(row, names) for row in results.rows], names, text_of)

    def fit_column(index: int, column: Column) -> Column:
        """Return a column with its drop rank: columns equal in all rows are dropped first, then those on the right."""
        alike = len(table.rows) > 1 and len({row[index] for row in table.rows}) == 1
        drop = 0 if names[index] in _ALWAYS else index + alike * len(names)
        least = 0 if column.right else _SHORTEST_TEXT
        return column._replace(drop=drop, least=least, middle=not column.right)

    columns = [fit_column(index, column) for index, column in enumerate(table.columns)]
    less = partial(flat_table, results, names, intervals=False) if intervals else None
    return table._replace(columns=columns, narrower=less, notes=notes)


def answer_table(cells: Sequence[Sequence[Any]]) -> TextTable:
    """Return the answer of a query as a table that fits: columns without values are dropped first, then those on the right.

    Args:
        cells: The names of the columns, then the rows.
    """
    table = table_from_cells(cells)
    last = len(table.columns) - 1

    def fit_column(index: int, column: Column) -> Column:
        is_empty = all(row[index] == ABSENT for row in table.rows)
        least = 0 if column.right else _SHORTEST_TEXT
        return column._replace(
            drop=index + is_empty * len(table.columns), least=least, rows=int(index != last)
        )

    columns = [fit_column(index, column) for index, column in enumerate(table.columns)]
    return table._replace(columns=columns, left_out=hidden_columns_note)


def pivot_table(
    pivot: Pivot, head: str, *, intervals: bool = True, latex: bool = False
) -> TextTable:
    """Return one metric by name and data: with intervals, without, or one line per number.

    Args:
        pivot: Metric.
        head: Title of the column of names.
        intervals: Print numbers with their intervals.
        latex: Write intervals in brackets, and round numbers to their uncertainty.
    """

    def cell(metric: Metric | None) -> str:
        if metric is None:
            return ABSENT
        known = metric if intervals else Metric(metric.value, note=metric.note, why=metric.why)
        return known.text(brackets=latex, is_rounded=latex)

    rows = [(name, *map(cell, row)) for name, row in pivot.rows()]
    head = "" if pivot.data == (head,) else head
    table = table_of_texts((head, *pivot.data), rows, range(1, 1 + len(pivot.data)))
    return table._replace(
        notes=[line(note) for note in footnotes(pivot.cells.values())] if latex else [],
        narrower=partial(pivot_table, pivot, head, intervals=False)
        if intervals
        else partial(_long_table, pivot),
    )


def _long_table(pivot: Pivot) -> TextTable:
    listed = [(name, data, str(metric)) for (name, data), metric in pivot.cells.items()]
    return table_of_texts(("", "", pivot.metric), listed)
