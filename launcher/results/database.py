"""A file of results in SQLite: made, written in one transaction, asked in SQL, refused where it is another's.

Its tables have typed columns, keys, and what refers to what; its views are what people want. New rows are inserted,
changed ones updated, all others left alone.
"""

import contextlib
import json
import os
import re
import sqlite3
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher.errors import (
    MachineError,
    UsageError,
    counted,
    known_words,
    meant,
    meant_or_known,
)
from launcher.job import FUNCTION, PROGRAM
from launcher.kind_interface import Kind
from launcher.results.rows import lower_is_better
from launcher.results.table import (
    CONDITION,
    DATA,
    MODEL,
    MODIFIER,
    POOLED,
    distinct_names,
    in_unicode,
)
from launcher.system.text import harmless
from launcher.units import format_bytes, format_seconds

if TYPE_CHECKING:
    from sqlite_utils import Database

SCHEMA = 1  # of the file, as PRAGMA user_version has it
ID = "id"
INTEGER, REAL, TEXT, ANY = "INTEGER", "REAL", "TEXT", "ANY"

# columns of what a model is made of that every file has, whichever its laboratory fills
PARTS: Mapping[str, str] = {
    "architecture": ANY, "training_data": TEXT, "poison": REAL, "poison_kind": TEXT, "method": TEXT,
    "seed": ANY,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table."""

    columns: Mapping[str, str]  # name → type
    key: tuple[str, ...]  # by which a row is found again
    refers: Mapping[str, str] = field(default_factory=dict)  # column → table whose `id` it holds
    grows: bool = False  # laboratories add columns, of any type
    indexes: tuple[tuple[str, ...], ...] = ()
    searched: tuple[str, ...] = ()  # columns of its full-text search


TABLES: Mapping[str, Table] = {
    "homes": Table(
        columns={ID: INTEGER, "machine": TEXT, "folder": TEXT, "host": TEXT},
        key=("machine", "folder"),
    ),
    "runs": Table(
        columns={
            ID: INTEGER, "home": INTEGER, "name": TEXT, "root": TEXT, "jobs": INTEGER, "open": INTEGER,
            "done": INTEGER, "failed": INTEGER, "cancelled": INTEGER, "skipped": INTEGER,
            "submitted": TEXT, "ended": TEXT, "mark": TEXT,
        },
        key=("home", "root", "name"),
        refers={"home": "homes"},
    ),
    "jobs": Table(
        columns={
            ID: INTEGER, "run": INTEGER, "number": INTEGER, "name": TEXT, "kind": TEXT, "role": TEXT,
            "state": TEXT, "reason": TEXT, "reason_code": TEXT, "model": TEXT, "base": TEXT, "data": TEXT,
            **PARTS, "command": TEXT, "folder": TEXT, "priority": INTEGER,
            "cpus": INTEGER, "ram": INTEGER, "gpus": INTEGER, "vram": INTEGER, "job_group": TEXT,
            "attempts": INTEGER, "failures": INTEGER, "submitted": TEXT, "started": TEXT, "ended": TEXT,
            "seconds": REAL, "hash": TEXT, "superseded": INTEGER,
        },
        key=("run", "number"),
        refers={"run": "runs"},
        indexes=(("kind",), ("model",)),
    ),
    "attempts": Table(
        columns={
            "job": INTEGER, "number": INTEGER, "device": TEXT, "cpus": INTEGER, "started": TEXT,
            "ended": TEXT, "seconds": REAL, "ending": TEXT, "reason_code": TEXT, "exit_code": INTEGER,
            "signal": INTEGER, "vram_promised": INTEGER, "vram_peak": INTEGER, "pilot": TEXT,
        },
        key=("job", "number"),
        refers={"job": "jobs"},
    ),
    "settings": Table(
        columns={"job": INTEGER, "name": TEXT, "value": ANY, "swept": INTEGER},
        key=("job", "name"),
        refers={"job": "jobs"},
    ),
    "metrics": Table(
        columns={"job": INTEGER, "name": TEXT, "value": REAL, "low": REAL, "high": REAL},
        key=("job", "name"),
        refers={"job": "jobs"},
    ),
    "scores": Table(
        columns={
            ID: INTEGER, "run": INTEGER, "row": TEXT, "test": INTEGER, "maker": INTEGER, "model": TEXT,
            **PARTS, "data": TEXT, "modifier": TEXT, "condition": TEXT,
            "pooled": INTEGER, "superseded": INTEGER,
        },
        key=("run", "row"),
        refers={"run": "runs", "test": "jobs", "maker": "jobs"},
        grows=True,
    ),
    "epochs": Table(
        columns={"run": INTEGER, "model": TEXT, "epoch": INTEGER, "job": INTEGER},
        key=("run", "model", "epoch"),
        refers={"run": "runs", "job": "jobs"},
        grows=True,
        indexes=(("job",),),
    ),
    "errors": Table(
        columns={ID: INTEGER, "job": INTEGER, "attempt": INTEGER, "error": TEXT, "log": TEXT},
        key=("job", "attempt"),
        refers={"job": "jobs"},
        searched=("error", "log"),
    ),
}  # fmt: skip


def make_tables(database: "Database") -> None:
    """Make the tables that are not there, with their keys, indexes and full-text search; add columns that older files lack."""
    there = set(database.table_names())
    for name, shape in TABLES.items():
        if name in there:
            table = database.table(name)
            for column in shape.columns.keys() - table.columns_dict.keys():
                table.add_column(column, shape.columns[column])
            continue
        has_id = ID in shape.columns
        table = database.create_table(
            name,
            dict(shape.columns),
            pk=ID if has_id else shape.key,
            foreign_keys=[(column, other, ID) for column, other in shape.refers.items()],
            not_null={ID} if has_id else set(shape.key),
            strict=not shape.grows,
        )
        if has_id:
            table.create_index(shape.key, unique=True)
        for columns in shape.indexes:
            table.create_index(columns)
        if shape.searched:
            table.enable_fts(shape.searched, create_triggers=True)


Cell = str | int | float | bytes | None
PLAIN = frozenset({str, int, float, bool})  # what SQLite has types for, and true and false
_LARGEST = 1 << 63  # what SQLite takes for an integer is below


def upsert(
    connection: sqlite3.Connection,
    name: str,
    rows: Iterable[Sequence[Any]],
    columns: Sequence[str] = (),
) -> int:
    """Write rows into a table, and return how many were new or other than before.

    Args:
        connection: inside of a transaction.
        name: of the table.
        rows: cells in the order of the columns; what SQLite has no type for becomes JSON.
        columns: of the rows, its key among them; none named: all, but for an `id` that SQLite gives.
    """
    listed = [*rows]
    if not listed:
        return 0
    every = [*TABLES[name].columns][-len(listed[0]) :]  # an `id` is the first of them
    statement = _statement(name, columns or every)
    try:
        return connection.executemany(statement, listed).rowcount
    except (UnicodeEncodeError, OverflowError, sqlite3.InterfaceError, sqlite3.ProgrammingError):
        # hardly ever: to look at every cell first takes as long as to write it
        repaired = [[_storable(plain(cell)) for cell in row] for row in listed]
        return connection.executemany(statement, repaired).rowcount


def _statement(name: str, columns: Sequence[str]) -> str:
    key = TABLES[name].key
    # the number by which others refer to a row stays
    others = [quoted(column) for column in columns if column not in {*key, ID}]
    marks = ",".join("?" * len(columns))
    new = ",".join(f"excluded.{column}" for column in others)
    table = quoted(name)
    now = ",".join(f"{table}.{column}" for column in others)
    change = f"UPDATE SET ({','.join(others)}) = ({new}) WHERE ({now}) IS NOT ({new})"
    return (
        f"INSERT INTO {table} ({','.join(map(quoted, columns))}) VALUES ({marks})"
        f" ON CONFLICT ({','.join(map(quoted, key))}) DO {change if others else 'NOTHING'}"
    )


def quoted(name: str) -> str:
    """Return a name as SQL has it, whatever stands in it."""
    return '"' + name.replace('"', '""') + '"'


def plain(value: Any) -> Cell:
    """Return a value as a cell; what SQLite has no type for becomes JSON."""
    if value is None or isinstance(value, str | int | float):
        return value
    return json.dumps(value, default=str)


def _storable(cell: Cell) -> Cell:
    """Return a cell that SQLite takes: text in Unicode, integers of 64 bits."""
    if isinstance(cell, str):
        return in_unicode(cell)
    if isinstance(cell, int) and not -_LARGEST <= cell < _LARGEST:
        return str(cell)
    return cell


# --- the file

APPLICATION = 0x6C726573  # "lres": what tells the file from other programs' databases
CACHE_KIB = 64 << 10  # of pages in memory: else a large run is written to the disk twice
BUSY_S = 20.0  # how long a writer waits for another one, and for readers


class Unusable(MachineError):
    """The file cannot be used now: the disk is full, another program has it, or it is damaged."""


@contextlib.contextmanager
def writing(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the file, made where there is none, for one transaction: readers see all of it or nothing.

    Raises:
        UsageError: it is no database of results, or one of a newer version.
        Unusable: it cannot be written.
    """
    try:
        with contextlib.suppress(FileExistsError):
            # empty, and for its owner alone: logs and command lines may hold secrets
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        with contextlib.closing(connected(path, "rw")) as connection:
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
            connection.execute("BEGIN IMMEDIATE")
            with connection:  # which commits, or rolls back
                check(connection, path)
                yield connection
    except sqlite3.Error as error:
        raise trouble(path, error) from error
    except OSError as error:
        raise Unusable(f"cannot write {path}: {error.strerror or error}") from error


def check(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse a database that is not one of results, or of a newer version; an empty one becomes one.

    Raises:
        UsageError: it is another program's, or of a newer version.
    """
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION:
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables or application or version:
            raise UsageError(
                f"{path} is a database of another program. Name a new file for the results."
            )
        connection.execute(f"PRAGMA application_id = {APPLICATION}")
        connection.execute(f"PRAGMA user_version = {SCHEMA}")
    elif version > SCHEMA:
        raise UsageError(
            f"{path} was written by a newer launcher (schema {version}, this one writes {SCHEMA}). "
            "Name another file, or upgrade launcher."
        )


def trouble(path: Path, error: sqlite3.Error) -> MachineError | UsageError:
    """Return the error that says what is wrong with a file."""
    extended = getattr(error, "sqlite_errorcode", 0)
    code = extended & 0xFF
    if extended == sqlite3.SQLITE_READONLY_ROLLBACK:
        return MachineError(
            f"{path} is incomplete, because launcher was killed while writing it. "
            f"Write it again: launcher results RUN --db {path}"
        )
    if code == sqlite3.SQLITE_NOTADB:
        return UsageError(f"{path} is not a SQLite database. Name another file.")
    if code == sqlite3.SQLITE_BUSY:
        return Unusable(
            f"{path} was in use by another program for more than {BUSY_S:g} s. Try again later."
        )
    return Unusable(f"cannot use {path}: {error}")


def connected(path: Path, mode: str, busy_s: float = BUSY_S) -> sqlite3.Connection:
    """Open the file with transactions of one's own; a mode that reads makes none."""
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    return sqlite3.connect(uri, uri=True, timeout=busy_s, isolation_level=None)


# --- views

_LOW_END = "_low"  # of an interval, behind the name of the number
_FEW = 40  # metrics of which the best are listed


def make_views(database: "Database", kinds: Collection[Kind]) -> None:
    """Make the views anew where a column came or went.

    Args:
        database: with all tables and columns.
        kinds: those whose results it holds; they say which metrics are better low.
    """
    columns = database.table("scores").columns_dict
    ours = TABLES["scores"].columns
    measured = [name for name in columns if name not in ours]
    swept = _names(database, "settings WHERE swept = 1 AND job IN (SELECT maker FROM scores)")
    numbers = [name for name in measured if columns[name] in {int, float} and name not in swept]
    # what has an interval was measured, and what a program tells; others may be a threshold, or a time
    programs = f"SELECT id FROM jobs WHERE kind IN ('{PROGRAM}', '{FUNCTION}')"
    of_programs = _names(database, f"metrics WHERE job IN ({programs})")
    metrics = [n for n in numbers if f"{n}{_LOW_END}" in columns or n in of_programs] or numbers
    database.create_view("results", _results(swept, measured), replace=True)
    low = {name for name in metrics if lower_is_better(name, kinds)}
    database.create_view("best", _best(metrics[:_FEW], low), replace=True)
    database.create_view("failures", _FAILURES, replace=True)


def _names(database: "Database", source: str) -> list[str]:
    """Return the names that a part of a query gives, each once."""
    rows = database.execute(f"SELECT DISTINCT name FROM {source} ORDER BY name")
    return [str(name) for (name,) in rows]


_COUNTS = "scores.superseded IS NOT 1"  # each name of a run once


def _results(swept: Sequence[str], measured: Sequence[str]) -> str:
    """Return the query of all results, a row each, with the swept settings of the models.

    Where a run does not sweep a setting that another one sweeps, all of its models have one value.
    """
    swept = [name for name in swept if name not in TABLES["scores"].columns]
    settings = [
        f"coalesce({f'scores.{quoted(name)}' if name in measured else 'NULL'},"
        " (SELECT value FROM settings WHERE settings.job = scores.maker"
        f" AND settings.name = {_text(name)})) AS {quoted(name)}"
        for name in swept
    ]
    columns = [
        "runs.name AS run",
        *(f"scores.{quoted(name)}" for name in (MODEL, *PARTS)),
        *settings,
        *(f"scores.{quoted(name)}" for name in (DATA, MODIFIER, CONDITION, POOLED)),
        *(f"scores.{quoted(name)}" for name in measured if name not in swept),
        "scores.test",
        "scores.maker",
        "scores.row AS name",
    ]
    return (
        f"SELECT {', '.join(columns)} FROM scores JOIN runs ON runs.id = scores.run WHERE {_COUNTS}"
    )


def _best(metrics: Sequence[str], low: Collection[str]) -> str:
    """Return the query of the best model of each run for each set of data, by each metric.

    A column without an aggregate is that of the row with the extreme value (SQLite, "bare columns").
    """
    if not metrics:
        return (
            "SELECT NULL AS run, NULL AS data, NULL AS metric, NULL AS model, NULL AS value WHERE 0"
        )
    return " UNION ALL ".join(
        f"SELECT runs.name AS run, data, {_text(name)} AS metric, coalesce(model, row) AS model,"
        f" {'min' if name in low else 'max'}({quoted(name)}) AS value"
        " FROM scores JOIN runs ON runs.id = scores.run"
        f" WHERE pooled = 0 AND {_COUNTS} AND {quoted(name)} IS NOT NULL GROUP BY scores.run, data"
        for name in metrics
    )


_FAILURES = (
    "SELECT runs.name AS run, jobs.name AS job, errors.attempt, attempts.ending,"
    " attempts.exit_code, attempts.device, attempts.ended, errors.error, jobs.state, errors.id,"
    " errors.job AS job_id"
    " FROM errors JOIN jobs ON jobs.id = errors.job JOIN runs ON runs.id = jobs.run"
    " JOIN attempts ON attempts.job = errors.job AND attempts.number = errors.attempt"
)


def _text(value: str) -> str:
    """Return a text as SQL has it."""
    return "'" + value.replace("'", "''") + "'"


# --- questions

_READING = frozenset(
    {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
)
# what describes a database; each answers without an argument that changes anything
_DESCRIBING = frozenset(
    {
        "data_version", "foreign_key_list", "index_info", "index_list", "index_xinfo", "table_info",
        "table_list", "table_xinfo",
    }
)  # fmt: skip
_REFUSED_FUNCTIONS = frozenset(
    {"load_extension", "fts3_tokenizer", "readfile", "writefile", "edit"}
)
_STEPS = 10_000  # of SQLite's virtual machine between two looks at the clock: some 0.1 ms
MOST_BYTES = 64 << 20  # of one value or row
_BUSY_S = 10.0


@contextlib.contextmanager
def reading(path: Path, *, limit_s: float) -> Iterator[sqlite3.Connection]:
    """Open a database so that nothing but reading is possible, and for so long.

    Args:
        path: of the file.
        limit_s: seconds after which a statement is interrupted.

    Raises:
        UsageError: there is no such file, or it is not a SQLite database.
        MachineError: it cannot be read.
    """
    if not path.is_file():
        if path.exists():
            raise UsageError(
                f"{path} is not a file. Name a file that `launcher results RUN --db FILE` has written."
            )
        raise UsageError(f"{path} does not exist. Create it: launcher results RUN --db {path}")
    try:
        with contextlib.closing(connected(path, "ro", _BUSY_S)) as connection:
            for pragma in ("query_only = ON", "trusted_schema = OFF", "cell_size_check = ON"):
                connection.execute(f"PRAGMA {pragma}")
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MOST_BYTES)
            connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
            connection.set_authorizer(_authorize)
            deadline = time.monotonic() + limit_s
            connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS)
            yield connection
    except sqlite3.DatabaseError as error:
        raise trouble(path, error) from error


def _authorize(
    action: int, first: str | None, second: str | None, _: str | None, __: str | None
) -> int:
    """Return whether SQLite may do a part of a statement; arguments as of sqlite3_set_authorizer."""
    if action == sqlite3.SQLITE_UPDATE and first == "sqlite_master":
        # so SQLite asks where a virtual table is read, such as one of full text; a statement that
        # really updates this table is refused all the same, as nobody can make it writable here
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_FUNCTION:
        refused = (second or "").casefold() in _REFUSED_FUNCTIONS
        return sqlite3.SQLITE_DENY if refused else sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_PRAGMA:
        describes = (first or "").casefold() in _DESCRIBING
        return sqlite3.SQLITE_OK if describes else sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK if action in _READING else sqlite3.SQLITE_DENY


MOST_ROWS = 1_000_000  # of an answer: it is held in memory
_NO_TABLE = re.compile(r"no such table: (.*)")
_NO_COLUMN = re.compile(r"no such column: (?:.*\.)?([^.]*)")
_REFUSED = ("prohibited", "authoriz", "may not be modified", "readonly database")
_READ_ONLY = "launcher query is read-only"
_STATEMENT = "Write one SELECT, WITH, VALUES or EXPLAIN statement."


def ask(path: Path, sql: str, *, limit_s: float) -> tuple[tuple[str, ...], list[tuple[Cell, ...]]]:
    """Return the answer to a question: the names of its columns, and its rows.

    Args:
        path: of the database.
        sql: one statement that reads.
        limit_s: seconds after which it is given up.

    Raises:
        UsageError: the statement writes, is wrong, takes too long or answers too much.
        MachineError: the file cannot be read.
    """
    with reading(path, limit_s=limit_s) as connection:
        try:
            cursor = connection.execute(sql)
            if cursor.description is None:
                raise UsageError(
                    f"{_READ_ONLY if sql.strip() else 'the query is empty'}. {_STATEMENT}"
                )
            columns = distinct_names(str(column[0]) for column in cursor.description)
            rows = cursor.fetchmany(MOST_ROWS + 1)
        except (sqlite3.Error, sqlite3.Warning, UnicodeEncodeError, ValueError) as error:
            raise _explained(connection, sql, error, limit_s) from error
        if len(rows) > MOST_ROWS:
            raise UsageError(
                f"the query returns more than {counted(MOST_ROWS, 'row')}. Add a LIMIT."
            )
        return columns, rows


def _explained(
    connection: sqlite3.Connection, sql: str, error: Exception, limit_s: float
) -> UsageError:
    """Return what is wrong with a question, and what to do about it."""
    text = harmless(str(error))
    code = getattr(error, "sqlite_errorcode", None)
    if any(words in text for words in _REFUSED):
        return UsageError(f"{_READ_ONLY} ({text}). {_STATEMENT}")
    if code == sqlite3.SQLITE_INTERRUPT:
        return UsageError(
            f"the query did not end within {format_seconds(limit_s)}. Select less, or set a longer --time-limit."
        )
    if code == sqlite3.SQLITE_TOOBIG:
        return UsageError(f"a value in the result is larger than {format_bytes(MOST_BYTES)}")
    if "one statement at a time" in text:
        return UsageError("more than one statement. Run one statement at a time.")
    if match := _NO_TABLE.match(text):
        names = [name for name, _ in _tables(connection)]
        text += meant_or_known(match[1], names)
    elif match := _NO_COLUMN.match(text):
        text += _known_columns(connection, match[1], sql)
    return UsageError(text)


def _known_columns(connection: sqlite3.Connection, column: str, sql: str) -> str:
    """Return which column of the tables that a question names was meant, else those that they have."""
    tables, words = dict(_tables(connection)), set(re.findall(r"\w+", sql.casefold()))
    asked = {name: columns for name, columns in tables.items() if name.casefold() in words}
    names = sorted({name for columns in (asked or tables).values() for name in columns})
    if hint := meant(column, names):
        return hint
    if not asked:
        return f" ({known_words(column, names)})"
    told = []
    for table, columns in asked.items():
        row = connection.execute(f"SELECT 1 FROM {quoted(table)} LIMIT 1").fetchone()
        empty = "" if row else " (no rows yet)"
        told.append(f". Columns of {table}{empty}: {', '.join(map(harmless, columns))}")
    return "".join(told)


def _tables(connection: sqlite3.Connection) -> Iterator[tuple[str, list[str]]]:
    """Yield the tables and views with their columns, but for those behind a full-text search."""
    names = connection.execute(
        "SELECT name FROM sqlite_master WHERE type IN ('table', 'view')"
        " AND name NOT LIKE '%\\_fts\\_%' ESCAPE '\\' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
    ).fetchall()
    for (name,) in names:
        columns = connection.execute("SELECT name FROM pragma_table_info(?)", (name,)).fetchall()
        yield str(name), [str(column) for (column,) in columns]
