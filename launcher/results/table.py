"""One table of results: rows with the columns that say what each is of, and the numbers that came out.

A number comes with an interval, {"value": 0.9, "low": 0.88, "high": 0.92}, or alone. Rows are chosen and ordered here, and
one metric of them becomes a table by model and data.
"""

import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeGuard

from launcher.errors import UsageError, known_words, meant
from launcher.system.files import Json
from launcher.system.text import harmless

_FURTHER = ("low", "high", "sd", "n", "expected", "note")  # that may stand beside a value
_KEYS = frozenset({"value", *_FURTHER})
_LIST = "launcher results RUN --json"  # prints all columns and metrics


class Metric(NamedTuple):
    """A number, and the interval in which the true one lies, if that is known.

    A mean has the standard deviation of its values and their number, too. If values are missing, it has the number
    that is expected, and a note: "5 of 6 seeds, 1 failed".
    """

    value: float | int
    low: float | None = None
    high: float | None = None
    sd: float | None = None
    n: int | None = None
    expected: int | None = None  # None: no value is missing
    note: str | None = None

    def __str__(self) -> str:
        return self.text()

    def text(self, factor: int = 1, digits: int | None = None, *, brackets: bool = False) -> str:
        """Return the number with its deviation and interval.

        Args:
            factor: by which all are multiplied: 100 for per cent.
            digits: number of decimals. None: four significant digits; all numbers of a mean have the same number of decimals.
            brackets: write the interval as "[0.88, 0.92]", which programs read, instead of "(0.88 to 0.92)".
        """
        if digits is None and factor == 1 and self.sd is not None:
            digits = _common_digits(self)

        def shown(value: float) -> str:
            return short(value) if digits is None else f"{factor * value:.{digits}f}"

        spread = "" if self.sd is None else f" ± {shown(self.sd)}"
        note = "" if self.note is None else f" ({self.note})"
        if self.low is None or self.high is None:
            return f"{shown(self.value)}{spread}{note}"
        low, high = shown(self.low), shown(self.high)
        interval = f"[{low}, {high}]" if brackets else f"({low} to {high})"
        return f"{shown(self.value)}{spread} {interval}{note}"

    def record(self) -> Json:
        """Return it as `read_metric` reads it: a number, or one with what is known besides."""
        if self.low is None and self.n is None:
            return self.value
        bounds: dict[str, Json] = {"value": self.value, "low": self.low, "high": self.high}
        if self.n is None:
            return bounds
        missing = {} if self.note is None else {"expected": self.expected, "note": self.note}
        return {**bounds, "sd": self.sd, "n": self.n, **missing}


def short(value: float) -> str:
    """Return a number for people: whole ones as they are, others with four digits."""
    return str(value) if isinstance(value, int) else f"{value:.4g}"


def _common_digits(mean: Metric) -> int | None:
    """Return how many digits behind the point all numbers of a mean have.

    The largest number has four digits that matter, the deviation at least two, or fewer if none needs them. None if a
    number is written with an exponent.
    """
    numbers = (mean.value, mean.sd, mean.low, mean.high)
    known = [float(number) for number in numbers if number is not None]
    texts = [short(number) for number in known]
    if any("e" in text or "n" in text for text in texts):  # an exponent, nan or inf
        return None
    most = max(len(text.partition(".")[2]) for text in texts)
    wanted = [
        figures - 1 - math.floor(math.log10(abs(number)))
        for figures, number in ((4, max(known, key=abs)), (2, mean.sd))
        if number
    ]
    return min(most, max(0, *wanted)) if wanted else most


def read_metric(record: object) -> Metric | None:
    """Return a number of a laboratory or a job as a metric; None if it is no number."""
    if _is_number(record):
        return Metric(value=record)
    if isinstance(record, Mapping) and "value" in record and record.keys() <= _KEYS:
        value, *further, note = (record.get(key) for key in ("value", *_FURTHER))
        if _is_number(value):
            low, high, sd, *counts = (part if _is_number(part) else None for part in further)
            n, expected = (None if part is None else int(part) for part in counts)
            return Metric(
                value, low, high, sd, n, expected, note if isinstance(note, str) else None
            )
    return None


def _is_number(record: object) -> TypeGuard[float]:
    return isinstance(record, int | float) and not isinstance(record, bool)


Row = Mapping[str, Any]
MODEL, DATA, MODIFIER = "model", "data", "modifier"
CONDITION, POOLED = "condition", "pooled"
COUNT = "count"  # of the rows that a mean was taken over
EXPECTED = "count_expected"  # of the rows, if no job had failed, waited or been skipped
NOTE = "count_note"  # "5 of 6 seeds, 1 failed"; None: no row is missing
COUNTS = (COUNT, EXPECTED, NOTE)
PLACE = (MODEL, DATA, MODIFIER, CONDITION, POOLED, "data_root")  # where a row belongs


class AbsentRow(NamedTuple):
    """A job that has no result: what its row would be of."""

    row: Row  # columns that say what it is of; may hold more than the rows of a table
    why: str  # "failed", "waiting", "without a result"


class RunResults(NamedTuple):
    """The results of a run."""

    rows: Sequence[Row]
    columns: tuple[str, ...]  # that say what a row is of; the others hold what came out
    absent: Sequence[AbsentRow] = ()  # jobs that have no row, and may belong to a mean

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
            and any(read_metric(row.get(name)) is not None for row in self.rows)
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


def distinct_names(names: Iterable[str], alike: Callable[[str], str] = str) -> tuple[str, ...]:
    """Return the names of columns, a number behind those that came before.

    Args:
        names: of columns.
        alike: two names are the same where this is.
    """
    distinct: dict[str, str] = {}
    for name in map(in_unicode, names):
        free, number = name, 1
        while alike(free) in distinct:
            number += 1
            free = f"{name}_{number}"
        distinct[alike(free)] = free
    return tuple(distinct.values())


def in_unicode(text: str) -> str:
    """Return a text of which no part is none, as bytes of a path may be."""
    return text.encode(errors="backslashreplace").decode()


def with_interval(name: str, metric: Metric) -> dict[str, float | None]:
    """Return a number as three columns: its value, and the ends of its interval."""
    return {name: metric.value, f"{name}_low": metric.low, f"{name}_high": metric.high}


def value_of(cell: object) -> Any:
    """Return the value of a cell without its interval."""
    metric = read_metric(cell)
    return cell if metric is None else metric.value


def _known(what: str, name: str, names: Sequence[str]) -> str:
    if name in names:
        return name
    shown = [*map(harmless, names)]
    raise UsageError(
        f"the results have no {what} {name!r}{meant(name, shown)} ({known_words(name, shown, _LIST)})"
    )


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
    rows: list[Row] = []
    for group in by_data(results.rows, results.metric(metric)):
        top = (min if low else max)(value for value, _ in group)
        rows += [row for value, row in group if value == top]
    return results._replace(rows=rows)


def by_data(rows: Iterable[Row], metric: str) -> Iterable[Sequence[tuple[float, Row]]]:
    """Return the values of a metric with their rows, those of the same data together."""
    groups: dict[Any, list[tuple[float, Row]]] = {}
    for row in rows:
        number = read_metric(row.get(metric))
        if number is not None and number.value == number.value:  # not NaN
            place = (row.get(DATA), bool(row.get(POOLED)), str(row.get("data_root")))
            groups.setdefault(place, []).append((number.value, row))
    return groups.values()


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


# --- one metric by model and data


class Measured(NamedTuple):
    """The numbers of one model on one set of data, or of one job that has neither."""

    name: str  # of the model, else of the job
    data: str
    metrics: Mapping[str, Metric]
    job: str = ""  # the job that returned them, if one did
    pooled: bool = False


class Pivot(NamedTuple):
    """One metric by name and data, both in the order in which the run has them."""

    metric: str
    names: tuple[str, ...]
    data: tuple[str, ...]  # the metric's own name for what belongs to no data
    cells: Mapping[tuple[str, str], Metric]

    def rows(self) -> Iterator[tuple[str, tuple[Metric | None, ...]]]:
        """Give each name with its numbers, one for each of `data`."""
        for name in self.names:
            yield name, tuple(self.cells.get((name, data)) for data in self.data)

    def record(self) -> dict[str, Json]:
        """Return it for a machine, number by number."""
        values: list[Json] = [
            {
                "model": name,
                "data": None if data == self.metric else data,
                "value": metric.value,
                "low": metric.low,
                "high": metric.high,
                **({} if metric.n is None else _counts(metric)),
            }
            for (name, data), metric in self.cells.items()
        ]
        return {"metric": self.metric, "values": values}


def _counts(metric: Metric) -> dict[str, Json]:
    """Return of how many values a mean is."""
    expected = metric.n if metric.expected is None else metric.expected
    return {"sd": metric.sd, "n": metric.n, "expected": expected, "note": metric.note}


def of_rows(rows: Iterable[Mapping[str, Any]], columns: Collection[str] = PLACE) -> list[Measured]:
    """Return the numbers of a laboratory's rows.

    Args:
        rows: as it tells them.
        columns: that say what a row is of, and hold no numbers that came out.
    """
    return [
        Measured(
            name=_name(row, columns),
            data=row["data"] if "pooled" in row else "",
            pooled=bool(row.get("pooled")),
            metrics=_numbers({k: v for k, v in row.items() if k not in columns}),
        )
        for row in rows
    ]


def _name(row: Mapping[str, Any], columns: Collection[str]) -> str:
    """Return the model of a test's row; of any other, the first text in it, else what it is of."""
    if "pooled" in row:
        return str(row["model"])
    for name, value in row.items():
        if isinstance(value, str) and value and name != NOTE:
            return value
    shown = (name for name in columns if name not in {EXPECTED, NOTE})
    return " ".join(f"{name}={row[name]}" for name in shown if row.get(name) is not None)


def of_result(job: str, model: str, data: str, result: Mapping[str, Json]) -> Measured:
    """Return the numbers that a job returned; those inside of others are named `outer.inner`."""
    return Measured(name=model or job, data=data, job=job, metrics=_numbers(result))


def _numbers(record: Mapping[str, Any]) -> dict[str, Metric]:
    metrics = ((name, read_metric(value)) for name, value in leaves(record))
    return {name: metric for name, metric in metrics if metric is not None}


def leaves(record: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Give all that a record holds, what is inside of others as `outer.inner`; a number with its interval is one."""
    for key, value in record.items():
        if isinstance(value, Mapping) and read_metric(value) is None:
            yield from leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def metric_names(measured: Iterable[Measured]) -> list[str]:
    """Return the names of all metrics, in order of their first appearance."""
    return list(dict.fromkeys(name for row in measured for name in row.metrics))


def pivot(
    metric: str, rows: Sequence[Measured], results: Sequence[Measured], *, everything: bool = False
) -> Pivot:
    """Return one metric by model and data.

    Args:
        metric: its name.
        rows: the rows of laboratories; results are used only if no row has the metric.
        results: what jobs returned.
        everything: also rows that pool others; else they stand for themselves only where there
            are no others.

    Raises:
        UsageError: there is no such metric; names those that there are.
    """
    having = [row for row in rows if metric in row.metrics]
    if not everything:
        having = [row for row in having if not row.pooled] or having
    having = having or [row for row in results if metric in row.metrics]
    if not having:
        raise UsageError(_unknown(metric, metric_names([*rows, *results])))
    places = [(row.name, row.data) for row in having]
    if len(set(places)) < len(places):  # several jobs of a model: each stands for itself
        places = [(row.job or row.name, row.data) for row in having]
    cells = {
        (name, data or metric): row.metrics[metric]
        for (name, data), row in zip(places, having, strict=True)
    }
    return Pivot(
        metric=metric,
        names=tuple(dict.fromkeys(name for name, _ in cells)),
        data=tuple(dict.fromkeys(data for _, data in cells)),
        cells=cells,
    )


def _unknown(metric: str, names: Sequence[str]) -> str:
    if not names:
        return (
            f"there is no metric {metric!r} yet, because no job of the run has reported a number. "
            "To see their progress: launcher status"
        )
    shown = [*map(harmless, names)]
    known = f"{meant(metric, names)} ({known_words(metric, shown, _LIST)})"
    return f"no job of the run reported the metric {metric!r}{known}"
