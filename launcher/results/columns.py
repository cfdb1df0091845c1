"""Rows of results: which of their columns say what a row is of, their order, and the best of them for each set of data.

Which metrics are better low a laboratory says, else their names.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from launcher.errors import UsageError, known_words, nearest
from launcher.kind_interface import Kind, RanksMetrics
from launcher.screens.result_table import Metric, read_metric
from launcher.system.text import harmless

Row = Mapping[str, Any]
MODEL, DATA, MODIFIER = "model", "data", "modifier"
CONDITION, POOLED = "condition", "pooled"
PLACE = (MODEL, DATA, MODIFIER, CONDITION, POOLED, "data_root")  # where a row belongs


class RunResults(NamedTuple):
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
    return results._replace(rows=rows)


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
    return results._replace(rows=rows)


def _defined(cell: Any) -> bool:
    value = value_of(cell)
    return value is not None and value == value  # NaN is not itself


def _rank(value: Any) -> tuple[Any, ...]:
    """Return what a value is ordered by: numbers first, numbers in texts by their value."""
    if isinstance(value, int | float):
        return (0, float(value))
    parts = _NUMBER.split(str(value).casefold())
    return (1, [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts])


# words in the names of metrics that measure errors, distances or costs
_LOW = frozenset(
    """
    brier bytes cer cost crossentropy deviation disparity distance drift ece eer entropy err error
    errors fid flops fnr fpr gap hter kl latency loss losses lpips mae mape maxerror mb memory minutes mse
    nll params peak perplexity ppl price ratio_of_errors regret rmse sd seconds std time wer violation
    """.split()  # noqa: SIM905  # a list of fifty words
)
_WORD = re.compile(r"[^\W_]+")


def lower_is_better(metric: str, kinds: Iterable[Kind]) -> bool:
    """Tell whether a low value of a metric is a good one.

    Args:
        metric: its name.
        kinds: of the jobs; those that rank metrics know theirs.
    """
    for kind in kinds:
        if isinstance(kind, RanksMetrics) and metric in kind.lower_is_better:
            return True
    return any(word in _LOW for word in _WORD.findall(metric.casefold()))
