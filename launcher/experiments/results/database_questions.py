"""Read-only SQL queries on a database of results."""

import contextlib
import re
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from launcher.experiments.results.database import connect, database_error
from launcher.experiments.results.database_tables import Cell, quote_name
from launcher.experiments.results.table import (
    distinct_names,
)
from launcher.system.errors import (
    UsageError,
    list_known_names,
    meant,
    pluralize,
    suggestion_or_known_names,
)
from launcher.system.text import sanitize_terminal
from launcher.system.units import format_bytes, format_seconds

_READING = frozenset(
    {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
)
# pragmas that describe a database; none has an argument that changes anything
_DESCRIBING = frozenset(
    {
        "data_version", "foreign_key_list", "index_info", "index_list", "index_xinfo", "table_info",
        "table_list", "table_xinfo",
    }
)  # fmt: skip
_REFUSED_FUNCTIONS = frozenset(
    {"load_extension", "fts3_tokenizer", "readfile", "writefile", "edit"}
)
_STEPS = 10_000  # steps of SQLite's virtual machine between two checks of the clock: about 0.1 ms
MOST_BYTES = 64 << 20  # size of one value or row
_BUSY_S = 10.0
MOST_ROWS = 1_000_000  # rows of an answer, which is held in memory
_NO_TABLE = re.compile(r"no such table: (.*)")
_NO_COLUMN = re.compile(r"no such column: (?:.*\.)?([^.]*)")
_REFUSAL_WORDS = (
    "prohibited", "authoriz", "may not be modified", "readonly database", "cannot VACUUM from",
)  # fmt: skip
_READ_ONLY = "launcher query is read-only"
_STATEMENT = "Write one SELECT, WITH, VALUES or EXPLAIN statement."

# the names of the columns, and the rows
Answer = tuple[tuple[str, ...], list[tuple[Cell, ...]]]


@contextlib.contextmanager
def open_for_reading(path: Path, *, limit_s: float) -> Iterator[sqlite3.Connection]:
    """Open a database read-only with a time limit.

    Args:
        path: Path of the file.
        limit_s: Seconds after which a statement is interrupted.

    Raises:
        UsageError: the file does not exist, or is not a SQLite database.
        MachineError: the file cannot be read.
    """
    if not path.is_file():
        if path.exists():
            raise UsageError(
                f"{path} is not a file. Name a file that `launcher results RUN --db FILE` has written."
            )
        raise UsageError(f"{path} does not exist. Create it: launcher results RUN --db {path}")
    try:
        with contextlib.closing(connect(path, "ro", _BUSY_S)) as connection:
            for pragma in ("query_only = ON", "trusted_schema = OFF", "cell_size_check = ON"):
                connection.execute(f"PRAGMA {pragma}")
            connection.execute("BEGIN")  # all statements read the database as of one moment
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MOST_BYTES)
            connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
            connection.set_authorizer(_authorize)
            deadline = time.monotonic() + limit_s
            connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS)
            yield connection
    except sqlite3.DatabaseError as error:
        raise database_error(path, error) from error


def _authorize(
    action: int, first: str | None, second: str | None, _: str | None, __: str | None
) -> int:
    """Return whether SQLite may execute a part of a statement; arguments as in sqlite3_set_authorizer."""
    if action == sqlite3.SQLITE_UPDATE and first == "sqlite_master":
        # SQLite requests this to read a virtual table, such as a full-text index. A statement that
        # updates this table still fails, because the schema is not writable
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_FUNCTION:
        refused = (second or "").casefold() in _REFUSED_FUNCTIONS
        return sqlite3.SQLITE_DENY if refused else sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_PRAGMA:
        describes = (first or "").casefold() in _DESCRIBING
        return sqlite3.SQLITE_OK if describes else sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK if action in _READING else sqlite3.SQLITE_DENY


def run_query(path: Path, sql: str, *, limit_s: float) -> Answer:
    """Return the result of a query: the names of its columns, and its rows.

    Args:
        path: Path of the database.
        sql: One statement that reads.
        limit_s: Seconds after which it is interrupted.

    Raises:
        UsageError: the statement writes, is invalid, takes too long or returns too much.
        MachineError: the file cannot be read.
    """
    with open_for_reading(path, limit_s=limit_s) as connection:
        return answer_query(connection, sql, limit_s=limit_s)


def answer_query(connection: sqlite3.Connection, sql: str, *, limit_s: float) -> Answer:
    """Return the result of a query on an open database.

    Args:
        connection: As opened by `open_for_reading`.
        sql: One statement that reads.
        limit_s: Seconds after which it is interrupted.

    Raises:
        UsageError: the statement writes, is invalid, takes too long or returns too much.
    """
    try:
        cursor = connection.execute(sql)
        if cursor.description is None:
            raise UsageError(f"{_READ_ONLY if sql.strip() else 'the query is empty'}. {_STATEMENT}")
        columns = distinct_names(str(column[0]) for column in cursor.description)
        rows = cursor.fetchmany(MOST_ROWS + 1)
    except (sqlite3.Error, sqlite3.Warning, UnicodeEncodeError, ValueError) as error:
        raise _explain_query_error(connection, sql, error, limit_s) from error
    if len(rows) > MOST_ROWS:
        raise UsageError(f"the query returns more than {pluralize(MOST_ROWS, 'row')}. Add a LIMIT.")
    return columns, rows


def tables_of_query(connection: sqlite3.Connection, sql: str) -> frozenset[str] | None:
    """Return the tables that a query reads itself or through views, None if that cannot be found out.

    Args:
        connection: To a database with all tables.
        sql: A statement of any kind. If `run_query` refuses it, it reads no table.
    """
    tables = set[str]()

    def authorize(action: int, first: str | None, *others: str | None) -> int:
        if action == sqlite3.SQLITE_READ:
            tables.add(first or "")
        elif action == sqlite3.SQLITE_PRAGMA:
            tables.add("pragma")  # a pragma may describe any table
        second, database, inner = others
        return _authorize(action, first, second, database, inner)

    connection.set_authorizer(authorize)
    try:
        connection.execute(f"EXPLAIN {sql}")
    except sqlite3.Error as error:
        return frozenset() if _is_refusal(str(error)) else None
    except (sqlite3.Warning, UnicodeEncodeError, ValueError):
        return None
    return frozenset(tables)


def _is_refusal(text: str) -> bool:
    return any(words in text for words in _REFUSAL_WORDS)


def _explain_query_error(
    connection: sqlite3.Connection, sql: str, error: Exception, limit_s: float
) -> UsageError:
    """Return the fault of a query with a remedy."""
    text = sanitize_terminal(str(error))
    code = getattr(error, "sqlite_errorcode", None)
    if _is_refusal(text):
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
        text += suggestion_or_known_names(match[1], names)
    elif match := _NO_COLUMN.match(text):
        text += _known_columns(connection, match[1], sql)
    return UsageError(text)


def _known_columns(connection: sqlite3.Connection, column: str, sql: str) -> str:
    """Return the column that was probably meant, or the columns of the tables in the query."""
    tables, words = dict(_tables(connection)), set(re.findall(r"\w+", sql.casefold()))
    asked = {name: columns for name, columns in tables.items() if name.casefold() in words}
    names = sorted({name for columns in (asked or tables).values() for name in columns})
    if hint := meant(column, names):
        return hint
    if not asked:
        return f" ({list_known_names(column, names)})"
    told = []
    for table, columns in asked.items():
        row = connection.execute(f"SELECT 1 FROM {quote_name(table)} LIMIT 1").fetchone()
        empty = "" if row else " (no rows yet)"
        told.append(f". Columns of {table}{empty}: {', '.join(map(sanitize_terminal, columns))}")
    return "".join(told)


def _tables(connection: sqlite3.Connection) -> Iterator[tuple[str, list[str]]]:
    """Yield the tables and views with their columns, except the internal tables of a full-text search."""
    names = connection.execute(
        "SELECT name FROM sqlite_master WHERE type IN ('table', 'view')"
        " AND name NOT LIKE '%\\_fts\\_%' ESCAPE '\\' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
    ).fetchall()
    for (name,) in names:
        columns = connection.execute("SELECT name FROM pragma_table_info(?)", (name,)).fetchall()
        yield str(name), [str(column) for (column,) in columns]
