"""Rows of results, and which of their columns say what a row is of."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from launcher.errors import UsageError, known_words, nearest
from launcher.screens.result_table import Metric, read_metric
from launcher.system.text import harmless

Row = Mapping[str, Any]
MODEL, DATA, MODIFIER = "model", "data", "modifier"
CONDITION, POOLED = "condition", "pooled"
PLACE = (MODEL, DATA, MODIFIER, CONDITION, POOLED, "data_root")  # where a row belongs


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResults:
    """The results of a run."""

    rows: Sequence[Row]
    columns: tuple[str, ...]  # that say what a row is of; the others hold what came out

    @property
    def names(self) -> list[str]:
        """The names of all columns, those that say what a row is of first."""
        return names_of(self.rows, self.columns)

    @property
    def varying(self) -> tuple[str, ...]:
        """The columns that say what a row is of and have not the same value in all rows."""
        return tuple(
            name
            for name in self.columns
            if any(row.get(name) != self.rows[0].get(name) for row in self.rows[1:])
        )

    @property
    def metrics(self) -> list[str]:
        """The names of the columns that hold numbers that came out."""
        return [
            name
            for name in self.names
            if name not in self.columns
            and any(metric_of(row.get(name)) is not None for row in self.rows)
        ]

    def column(self, name: str) -> str:
        """Return the name of a column if there is such a one.

        Raises:
            UsageError: there is none.
        """
        return _known("column", name, self.names)

    def metric(self, name: str) -> str:
        """Return the name of a column of numbers if there is such a one.

        Raises:
            UsageError: there is none.
        """
        return _known("metric", name, self.metrics)


def names_of(rows: Iterable[Row], columns: Sequence[str]) -> list[str]:
    """Return the names of the columns of rows, some of them first where a row has them."""
    there = dict.fromkeys(name for row in rows for name in row)
    return [*(name for name in columns if name in there), *(n for n in there if n not in columns)]


def metric_of(value: object) -> Metric | None:
    """Return the cell of a row as a number with its interval; None of what is no number."""
    return read_metric(value)


def value_of(cell: object) -> Any:
    """Return the value of a cell without its interval."""
    metric = read_metric(cell)
    return cell if metric is None else metric.value


def _known(what: str, name: str, names: Sequence[str]) -> str:
    if name in names:
        return name
    close = nearest(name, names)
    hint = f", did you mean {harmless(close)!r}?" if close else ""
    listed = known_words(name, map(harmless, names))
    raise UsageError(f"the results have no {what} {name!r}{hint} ({listed})")
