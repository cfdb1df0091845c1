"""Tables of results other than tests, such as numbers that programs returned."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import isfinite
from typing import Any

from launcher.experiments.results.metric import format_value, read_metric
from launcher.experiments.results.table import POOLED
from launcher.frontends.cli.output import ABSENT
from launcher.queue.texts import list_first_texts
from launcher.system.text import sanitize_terminal
from launcher.system.text_table import Column, TextTable, width_of

Row = Mapping[str, Any]
NO_RESULTS = "no results yet"
_NAMED_HIDDEN = 12  # named columns that have no room
_SPREAD = "_sd"  # suffix of a standard deviation, which is placed to the right of the means


def hidden_columns_note(titles: Sequence[str]) -> str:
    """Return the note that names the columns without room."""
    return f"not shown: {list_first_texts(titles, _NAMED_HIDDEN)} (--format csv prints all columns)"


def is_plain(row: Row) -> bool:
    """Return whether a row is not that of a test: rows of tests have the column for pooled data sets."""
    return POOLED not in row


def plain_tables(rows: Sequence[Row]) -> Iterator[TextTable]:
    """Yield the tables of some rows: a new table starts at a row that shares few columns with the previous ones."""
    together: list[Row] = []
    for row in rows:
        keys = {key for other in together for key in other}
        if together and 2 * len(keys & set(row)) < min(len(keys), len(row)):
            yield _plain_table(together)
            together = []
        together.append(row)
    if together:
        yield _plain_table(together)


def draw_plain(rows: Sequence[Row], width: int) -> str:
    """Return the tables of some rows for a terminal; columns without room are named below.

    Args:
        rows: Rows of plugin packages.
        width: Columns of the terminal.
    """
    parts = []
    for table in plain_tables(rows):
        if not table.columns:  # only cells that cannot be printed, such as curves
            continue
        # the first one is always complete
        first = max(width_of(row[0]) for row in (table.titles, *table.rows))
        parts.append("\n".join(line.text for line in table.to_lines(max(width, first))))
    return "\n\n".join(parts)


def _plain_table(rows: Sequence[Row]) -> TextTable:
    keys = list(dict.fromkeys(key for row in rows for key in row))
    shown = [key for key in keys if all(_is_scalar(row.get(key)) for row in rows)]
    shown.sort(
        key=lambda key: key.endswith(_SPREAD)
    )  # stable sort: otherwise in the order of the rows
    table = table_of_columns(rows, shown, _cell)
    # columns on the right are dropped first
    columns = [column._replace(drop=index) for index, column in enumerate(table.columns)]
    return table._replace(columns=columns)


def table_of_columns(
    rows: Sequence[Row], names: Sequence[str], text_of: Callable[[Any], str]
) -> TextTable:
    """Return some columns of rows with cells as texts; columns with a number are right-aligned."""
    numbers = frozenset(
        index
        for index, name in enumerate(names)
        if any(read_metric(row.get(name)) is not None for row in rows)
    )
    cells = [tuple(text_of(row.get(name)) for name in names) for row in rows]
    columns = [
        Column(sanitize_terminal(name), right=at in numbers) for at, name in enumerate(names)
    ]
    return TextTable(columns, cells, left_out=hidden_columns_note)


def _is_scalar(value: object) -> bool:
    return value is None or isinstance(value, str | int | float) or read_metric(value) is not None


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    metric = read_metric(value)
    if metric is not None:
        return format_value(metric.value) if isfinite(metric.value) else ABSENT
    return sanitize_terminal(value) if isinstance(value, str) and value else ABSENT
