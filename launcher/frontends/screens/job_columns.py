"""The columns of `launcher status`: one row of a table for each, with its value in JSON, in pipes and in tables."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from launcher.frontends.screens.job_view import job_views
from launcher.queue.home.paths import Home
from launcher.queue.jobs.params import format_params
from launcher.queue.store.queue import Store
from launcher.queue.store.rows import JobRow
from launcher.queue.texts import short_local_time
from launcher.system.errors import UsageError, suggestion_or_known_names
from launcher.system.files import Json
from launcher.system.text import sanitize_terminal
from launcher.system.text_table import Column, TextTable
from launcher.system.units import format_bytes, format_seconds

_LEAST_TEXT = 12  # columns to which a long text shrinks on a narrow screen
Record = Mapping[str, Any]  # record of a job, as `launcher.frontends.screens.job_records` has it


class JobColumn(NamedTuple):
    """A column."""

    name: str  # name that users type
    about: str
    key: str = ""  # key of the column's value in the record of a job; '': its name
    text_of: Callable[[Any], str] = str  # the column's value in a table for people
    is_number: bool = False  # the column's cells end together
    is_long: bool = False  # the column's texts shrink where there is no room

    def value_in(self, record: Record) -> Json:
        """Return the value of a job."""
        value: Json = record[self.key or self.name]
        return value


def _moment(text: str) -> str:
    return short_local_time(datetime.fromisoformat(text).timestamp())


def _names(names: Sequence[str]) -> str:
    return ",".join(names)


def _params(params: Mapping[str, Json]) -> str:
    return format_params(params, params)


_COLUMNS = (
    JobColumn("id", "number of the job", is_number=True),
    JobColumn("run", "its run"),
    JobColumn("name", "its name", is_long=True),
    JobColumn("state", "its state"),
    JobColumn("since", "when it ended, started or was queued", text_of=_moment),
    JobColumn("why", "progress, or reason of the state", "note", is_long=True),
    JobColumn("params", "parameters", text_of=_params, is_long=True),
    JobColumn("note", "note of `launcher note` or --note", "owner_note", is_long=True),
    JobColumn("code", "code that was changed after it was queued", "code_note", is_long=True),
    JobColumn("tags", "tags", text_of=_names),
    JobColumn("kind", "job type"),
    JobColumn("priority", "priority", is_number=True),
    JobColumn("group", "group whose limit applies"),
    JobColumn("on", "where it may run", text_of=_names),
    JobColumn("cpus", "reserved CPU cores", is_number=True),
    JobColumn("ram", "reserved main memory", text_of=format_bytes, is_number=True),
    JobColumn("gpus", "number of GPUs", is_number=True),
    JobColumn("vram", "GPU memory reserved on each GPU", text_of=format_bytes, is_number=True),
    JobColumn("time_limit", "time limit", text_of=format_seconds, is_number=True),
    JobColumn("submitted", "when it was queued", text_of=_moment),
    JobColumn("started", "when its newest attempt started", text_of=_moment),
    JobColumn("ended", "when it ended", text_of=_moment),
    JobColumn("seconds", "duration of its newest attempt", text_of=format_seconds, is_number=True),
    JobColumn("attempt", "number of its newest attempt", is_number=True),
    JobColumn("failures", "failed attempts", is_number=True),
    JobColumn("exit_code", "exit code of its newest attempt", is_number=True),
    JobColumn("device", "GPUs of its newest attempt, or cpu"),
    JobColumn("node", "host of a cluster where it ran"),
    JobColumn("vram_peak", "most GPU memory that it used", text_of=format_bytes, is_number=True),
    JobColumn("folder", "folder of its results", is_long=True),
    JobColumn("log", "its log", is_long=True),
)
JOB_COLUMNS: Mapping[str, JobColumn] = {column.name: column for column in _COLUMNS}
USUAL_COLUMNS = _COLUMNS[:7]  # columns of a listing in a pipe
# keys of a view and its row; the rest of a record takes several queries
QUICK_KEYS = frozenset(
    [
        "id",
        "run",
        "name",
        "kind",
        "state",
        "priority",
        "since",
        "note",
        "params",
        "owner_note",
        "code_note",
    ]
)


def parse_columns(text: str) -> tuple[JobColumn, ...]:
    """Return the columns of a list such as `id,name,note`, in its order.

    Raises:
        UsageError: there is no such column, or it is named twice.
    """
    names = [name.strip() for name in text.split(",")]
    if len(names) > 1 and "" in names:
        raise UsageError(
            "a name is missing. Write names and commas without blanks, such as id,name."
        )
    for name in names:
        if name not in JOB_COLUMNS:
            raise UsageError(
                f"{name!r} is not a column{suggestion_or_known_names(name, [*JOB_COLUMNS])}"
            )
        if names.count(name) > 1:
            raise UsageError(f"{name} is named twice. Remove one of them.")
    return tuple(JOB_COLUMNS[name] for name in names)


def column_records(
    home: Home, store: Store, jobs: Sequence[JobRow], columns: Sequence[JobColumn]
) -> Iterator[Record]:
    """Yield a record of each job that contains at least the values of some columns."""
    if {column.key or column.name for column in columns} <= QUICK_KEYS:
        for row, view in zip(jobs, job_views(home, store, jobs, is_compared=False), strict=True):
            record = view.to_json()
            record["owner_note"] = row.owner_note or None
            yield record
        return
    from launcher.frontends.screens.job_records import (
        job_records,  # half of the imports of a command
    )

    yield from job_records(home, store, jobs)


def values_of(record: Record, columns: Sequence[JobColumn]) -> dict[str, Json]:
    """Return what some columns hold of a job, for JSON."""
    return {column.name: column.value_in(record) for column in columns}


def keys_of(columns: Sequence[JobColumn]) -> tuple[str, ...]:
    """Return the keys of the values of columns in a record."""
    return tuple(column.key or column.name for column in columns)


def pipe_cells(record: Record, keys: Sequence[str]) -> list[str]:
    """Return the cells of a job in a pipe: full values, absolute times, bytes and seconds as numbers."""
    values = map(record.__getitem__, keys)
    return [value if type(value) is str else _pipe_text(value) for value in values]


def _pipe_text(value: Json) -> str:
    if not value and value != 0:
        return ""
    if isinstance(value, dict):
        return _params(value)
    return _names([str(name) for name in value]) if isinstance(value, list) else str(value)


def table_of_columns(records: Sequence[Record], columns: Sequence[JobColumn]) -> TextTable:
    """Return the table of some jobs for people."""
    shown = [
        Column(
            column.name.upper().replace("_", " "),
            right=column.is_number,
            least=_LEAST_TEXT if column.is_long else 0,
            middle=column.name == "name",
            rows=0 if column.is_long else 1,
            key=column.name,
        )
        for column in columns
    ]
    rows = [[_cell(column, record) for column in columns] for record in records]
    return TextTable(shown, rows)


def _cell(column: JobColumn, record: Record) -> str:
    value = column.value_in(record)
    return "" if value is None else sanitize_terminal(column.text_of(value))
