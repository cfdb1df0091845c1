"""Rows in another order, and the best of them for each set of data."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from launcher.results.columns import DATA, POOLED, Row, RunResults, metric_of, value_of

_NUMBER = re.compile(r"(\d+)")
DESCENDING = "-"


def best(results: RunResults, metric: str, *, low: bool) -> RunResults:
    """Return of each set of data the row with the best value; several where they are equal.

    Rows that pool sets are sets of their own. Rows without the metric are left out.

    Args:
        results: of a run.
        metric: the name of a column of numbers.
        low: whether low values are the good ones.

    Raises:
        UsageError: there is no such column of numbers.
    """
    name = results.metric(metric)
    groups: dict[Any, list[tuple[float, Row]]] = {}
    for row in results.rows:
        number = metric_of(row.get(name))
        if number is not None and number.value == number.value:  # not NaN
            place = (row.get(DATA), bool(row.get(POOLED)), row.get("data_root"))
            groups.setdefault(place, []).append((number.value, row))
    rows = []
    for group in groups.values():
        top = (min if low else max)(value for value, _ in group)
        rows += [row for value, row in group if value == top]
    return replace(results, rows=rows)


def in_order(results: RunResults, columns: Sequence[str]) -> RunResults:
    """Return the rows ordered by columns, the first of them first; rows without a value come last.

    Args:
        results: of a run.
        columns: their names; `-NAME` for the highest first.

    Raises:
        UsageError: there is no such column.
    """
    rows = [*results.rows]
    for column in reversed(columns):
        name = results.column(column.removeprefix(DESCENDING))
        having = [row for row in rows if _defined(row.get(name))]
        having.sort(
            key=lambda row: _rank(value_of(row[name])), reverse=column.startswith(DESCENDING)
        )
        rows = [*having, *(row for row in rows if not _defined(row.get(name)))]
    return replace(results, rows=rows)


def _defined(cell: Any) -> bool:
    value = value_of(cell)
    return value is not None and value == value  # NaN is not itself


def _rank(value: Any) -> tuple[Any, ...]:
    """Return what a value is ordered by: numbers first, numbers in texts by their value."""
    if isinstance(value, int | float):
        return (0, float(value))
    parts = _NUMBER.split(str(value).casefold())
    return (1, [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts])
