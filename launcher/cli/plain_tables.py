"""Tables of results that no test made, such as numbers that programs returned."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import isfinite
from typing import Any

from launcher.cli.output import NONE
from launcher.results.metric import read_metric, short
from launcher.results.table import POOLED
from launcher.screens.format import first_few, harmless
from launcher.screens.text_table import Column, Table, width_of

Row = Mapping[str, Any]
NOTHING = "no results yet"
_NAMED_HIDDEN = 12  # columns without room that are named
_SPREAD = "_sd"  # ends the name of a standard deviation, which goes to the right of the means


def _left_out(titles: Sequence[str]) -> str:
    """Name the columns that had no room."""
    return f"not shown: {first_few(titles, _NAMED_HIDDEN)} (--format csv prints all columns)"


def is_plain(row: Row) -> bool:
    """Tell whether a row is no test's: those say whether they pool several sets of images."""
    return POOLED not in row


def plain_tables(rows: Sequence[Row]) -> Iterator[Table]:
    """Give the tables of some rows: a new one begins where a row has hardly a column of those before."""
    together: list[Row] = []
    for row in rows:
        keys = {key for other in together for key in other}
        if together and 2 * len(keys & set(row)) < min(len(keys), len(row)):
            yield _plain(together)
            together = []
        together.append(row)
    if together:
        yield _plain(together)


def draw_plain(rows: Sequence[Row], width: int) -> str:
    """Return the tables of some rows for a terminal; columns without room are named below.

    Args:
        rows: as laboratories tell them.
        width: columns of the terminal.
    """
    parts = []
    for table in plain_tables(rows):
        if not table.columns:  # rows of curves alone, say, of which no cell is a word
            continue
        # the first stays whole in any case
        first = max(width_of(row[0]) for row in (table.titles, *table.rows))
        parts.append("\n".join(line.text for line in table.drawn(max(width, first))))
    return "\n\n".join(parts)


def _plain(rows: Sequence[Row]) -> Table:
    keys = list(dict.fromkeys(key for row in rows for key in row))
    shown = [key for key in keys if all(_is_scalar(row.get(key)) for row in rows)]
    shown.sort(key=lambda key: key.endswith(_SPREAD))  # stable: otherwise in the rows' order
    table = _texts(rows, shown, _cell)
    # those on the right go first
    columns = [column._replace(drop=index) for index, column in enumerate(table.columns)]
    return table._replace(columns=columns)


def _texts(rows: Sequence[Row], names: Sequence[str], text_of: Callable[[Any], str]) -> Table:
    """Return some columns of rows, each cell as a text; those that hold a number end together."""
    numbers = frozenset(
        index
        for index, name in enumerate(names)
        if any(read_metric(row.get(name)) is not None for row in rows)
    )
    cells = [tuple(text_of(row.get(name)) for name in names) for row in rows]
    columns = [Column(harmless(name), right=at in numbers) for at, name in enumerate(names)]
    return Table(columns, cells, left_out=_left_out)


def _is_scalar(value: object) -> bool:
    return value is None or isinstance(value, str | int | float) or read_metric(value) is not None


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    metric = read_metric(value)
    if metric is not None:
        return short(metric.value) if isfinite(metric.value) else NONE
    return harmless(value) if isinstance(value, str) and value else NONE
