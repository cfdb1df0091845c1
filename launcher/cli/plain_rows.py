"""Results that no test made, such as those of folders: tables whose columns are those of their rows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from launcher.screens.format import columns, harmless, tabbed
from launcher.screens.result_table import read_metric, short
from launcher.screens.text_table import GAP, width_of

Row = Mapping[str, Any]
NONE = "–"
_SPREAD = "_sd"  # ends the name of a standard deviation, which goes to the right of the means


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainTable:
    """Rows with the same columns."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    right: frozenset[int]  # columns that hold numbers

    @property
    def lines(self) -> list[tuple[str, ...]]:
        """The header, and the rows below it."""
        return [self.header, *self.rows]


def is_plain(row: Row) -> bool:
    """Tell whether a row is no test's: those say whether they pool several sets of images."""
    return "pooled" not in row


def plain_tables(rows: Sequence[Row]) -> Iterator[PlainTable]:
    """Give the tables of some rows: a new one begins where a row has hardly a column of those before."""
    together: list[Row] = []
    for row in rows:
        if together and not _alike(together, row):
            yield _table(together)
            together = []
        together.append(row)
    if together:
        yield _table(together)


def draw_plain(rows: Sequence[Row], width: int) -> str:
    """Return the tables of some rows for a terminal; columns without room are named below.

    Args:
        rows: as laboratories tell them.
        width: columns of the terminal.
    """
    parts = []
    for table in plain_tables(rows):
        kept = _fitting(table, width)
        lines = columns([line[:kept] for line in table.lines], right=table.right)
        if hidden := table.header[kept:]:
            lines += ["", f"not shown: {', '.join(hidden)} (--format csv has all columns)"]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def tabbed_plain(rows: Sequence[Row]) -> str:
    """Return the tables of some rows as lines with tabs, the names of the columns first."""
    return "\n".join(tabbed(table.lines) for table in plain_tables(rows))


def _alike(together: Sequence[Row], row: Row) -> bool:
    keys = {key for other in together for key in other}
    return 2 * len(keys & set(row)) >= min(len(keys), len(row))


def _table(rows: Sequence[Row]) -> PlainTable:
    keys = list(dict.fromkeys(key for row in rows for key in row))
    shown = [key for key in keys if all(_is_scalar(row.get(key)) for row in rows)]
    shown.sort(key=lambda key: key.endswith(_SPREAD))  # stable: otherwise in the rows' order
    numbers = frozenset(
        index
        for index, key in enumerate(shown)
        if any(read_metric(row.get(key)) is not None for row in rows)
    )
    return PlainTable(
        header=tuple(map(harmless, shown)),
        rows=tuple(tuple(_cell(row.get(key)) for key in shown) for row in rows),
        right=numbers,
    )


def _is_scalar(value: object) -> bool:
    return value is None or isinstance(value, str | int | float) or read_metric(value) is not None


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    metric = read_metric(value)
    if metric is not None:
        return short(metric.value) if isfinite(metric.value) else NONE
    return harmless(value) if isinstance(value, str) and value else NONE


def _fitting(table: PlainTable, width: int) -> int:
    """Return how many columns have room, from the left; the first one stays in any case."""
    taken = -GAP
    for index in range(len(table.header)):
        taken += GAP + max(width_of(line[index]) for line in table.lines)
        if taken > width and index:
            return index
    return len(table.header)
