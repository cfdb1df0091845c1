"""One table of results: rows with identifying columns and numbers. Rows are selected and sorted here."""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

from launcher.experiments.results.metric import read_metric
from launcher.queue.jobs.params import read_number
from launcher.system.errors import UsageError, list_known_names, meant
from launcher.system.lazy_regex import compile_lazily
from launcher.system.text import sanitize_terminal

LIST_COMMAND = "launcher results RUN --json"  # prints all columns and metrics


Row = Mapping[str, Any]
MODEL, DATA, MODIFIER = "model", "data", "modifier"
CONDITION, POOLED = "condition", "pooled"
COUNT = "count"  # number of rows of a mean
EXPECTED = "count_expected"  # expected number of rows, if no job failed, waits or is skipped
NOTE = "count_note"  # "5 of 6 seeds, 1 failed"; None: no row is missing
VERDICT = "verdict"  # words without which the numbers of a row mislead, such as "chance"
COUNTS = (COUNT, EXPECTED, NOTE)
ROW_KEY_COLUMNS = (MODEL, DATA, MODIFIER, CONDITION, POOLED, "data_root")  # identify a row
_NUMBER = compile_lazily(r"(\d+)")
DESCENDING = "-"


class AbsentRow(NamedTuple):
    """The identifying values of a job without a result."""

    row: Row  # identifying columns; may contain more than the rows of a table
    why: str  # "failed", "waiting", "without a result"


class RunResults(NamedTuple):
    """The results of a run."""

    rows: Sequence[Row]
    columns: tuple[str, ...]  # identifying columns; the others contain results
    absent: Sequence[AbsentRow] = ()  # jobs without a row that may belong to a mean
    programs: Mapping[str, Hashable] = {}  # job → its program, if jobs have several programs
    repeated: int = 0  # rows that a newer row of the same setting replaced in a mean
    mixed: int = 0  # means of results of several programs

    @property
    def names(self) -> list[str]:
        """The names of all columns, identifying columns first."""
        return names_of(self.rows, self.columns)

    @property
    def varying_columns(self) -> tuple[str, ...]:
        """The identifying columns whose value is not equal in all rows."""
        return tuple(
            name
            for name in self.columns
            if any(row.get(name) != self.rows[0].get(name) for row in self.rows[1:])
        )

    @property
    def metrics(self) -> list[str]:
        """The names of the columns with numeric results."""
        return [
            name
            for name in self.names
            if name not in self.columns
            and any(read_metric(row.get(name)) is not None for row in self.rows)
        ]

    @property
    def verdicts(self) -> list[str]:
        """The verdict of each row that has one, with the values that identify the row."""
        found = [row for row in self.rows if row.get(VERDICT)]
        varying = [name for name in self.varying_columns if name not in COUNTS]
        named = (
            ", ".join(f"{name}={row[name]}" for name in varying if row.get(name) is not None)
            for row in found
        )
        return [
            f"{name}: {row[VERDICT]}" if name else str(row[VERDICT])
            for name, row in zip(named, found, strict=True)
        ]

    def column(self, name: str) -> str:
        """Return the name of an existing column.

        Raises:
            UsageError: the column does not exist.
        """
        return _check_name("column", name, self.names)

    def metric(self, name: str) -> str:
        """Return the name of an existing column of numbers.

        Raises:
            UsageError: the column does not exist.
        """
        return _check_name("metric", name, self.metrics)


def names_of(rows: Iterable[Row], columns: Sequence[str]) -> list[str]:
    """Return the names of the columns of rows, with the given ones first if a row has them."""
    there = dict.fromkeys(name for row in rows for name in row)
    return [*(name for name in columns if name in there), *(n for n in there if n not in columns)]


def distinct_names(names: Iterable[str], alike: Callable[[str], str] = str) -> tuple[str, ...]:
    """Return distinct names of columns; repeated names get a number.

    Args:
        names: Names of columns.
        alike: Returns a key; names with equal keys count as equal.
    """
    distinct: dict[str, str] = {}
    for name in map(replace_surrogates, names):
        free, number = name, 1
        while alike(free) in distinct:
            number += 1
            free = f"{name}_{number}"
        distinct[alike(free)] = free
    return tuple(distinct.values())


def replace_surrogates(text: str) -> str:
    """Return a text without surrogates, which come from bytes of a path."""
    return text.encode(errors="backslashreplace").decode()


def value_of(cell: object) -> Any:
    """Return the value of a cell without its interval."""
    metric = read_metric(cell)
    return cell if metric is None else metric.value


def _check_name(subject: str, name: str, names: Sequence[str]) -> str:
    if name in names:
        return name
    shown = [*map(sanitize_terminal, names)]
    raise UsageError(
        f"the results have no {subject} {name!r}{meant(name, shown)} ({list_known_names(name, shown, LIST_COMMAND)})"
    )


def sort_rows(results: RunResults, columns: Sequence[str]) -> RunResults:
    """Return the rows sorted by columns, the first column first; rows without a value come last.

    Args:
        results: Results of a run.
        columns: Names of columns; `-NAME` for descending order.

    Raises:
        UsageError: a column does not exist.
    """
    rows = [*results.rows]
    for column in reversed(columns):
        name = results.column(column.removeprefix(DESCENDING))
        keys = [sort_key(row.get(name)) for row in rows]
        having = [(key, row) for key, row in zip(keys, rows, strict=True) if key is not None]
        having.sort(key=itemgetter(0), reverse=column.startswith(DESCENDING))
        lacking = [row for key, row in zip(keys, rows, strict=True) if key is None]
        rows = [*(row for _, row in having), *lacking]
    return results._replace(rows=rows)


def sort_key(cell: Any) -> tuple[Any, ...] | None:
    """Return the sort key of a cell, None without a value: numbers first, numeric texts by their value."""
    value = value_of(cell)
    if value is None or value != value:  # NaN differs from itself
        return None
    number = read_number(value) if isinstance(value, str) else value
    if isinstance(number, int | float):
        return (0, number)
    parts = _NUMBER.split(str(value).casefold())
    return (1, [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts])
