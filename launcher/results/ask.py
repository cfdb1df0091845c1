"""A question in SQL to a database of results, and its answer as a table; SQLite itself refuses all that is no question."""

import contextlib
import re
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from launcher.errors import UsageError, counted, known_words, meant
from launcher.results.database import Cell, trouble
from launcher.results.formats import distinct_names
from launcher.system.text import harmless
from launcher.units import format_bytes, format_seconds

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
        UsageError: there is no such file, or it is no SQLite database.
        MachineError: it cannot be read.
    """
    if not path.is_file():
        if path.exists():
            raise UsageError(
                f"{path} is no file: name that which `launcher results RUN --db FILE` made"
            )
        raise UsageError(f"{path} does not exist; `launcher results RUN --db {path}` makes it")
    try:
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=_BUSY_S, isolation_level=None
        )
        with contextlib.closing(connection):
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
READS = "launcher query only reads: one SELECT (or WITH, VALUES, EXPLAIN); sqlite3 and sqlite-utils write"


class Answer(NamedTuple):
    """The rows of an answer below the names of their columns."""

    columns: tuple[str, ...]
    rows: list[tuple[Cell, ...]]


def ask(path: Path, sql: str, *, limit_s: float) -> Answer:
    """Return the answer to a question.

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
                raise UsageError(READS if sql.strip() else "the question is empty: write a SELECT")
            columns = distinct_names(str(column[0]) for column in cursor.description)
            rows = cursor.fetchmany(MOST_ROWS + 1)
        except (sqlite3.Error, sqlite3.Warning, UnicodeEncodeError, ValueError) as error:
            raise _explained(connection, error, limit_s) from error
        if len(rows) > MOST_ROWS:
            raise UsageError(f"the answer has more than {counted(MOST_ROWS, 'row')}; add a LIMIT")
        return Answer(columns=columns, rows=rows)


def _explained(connection: sqlite3.Connection, error: Exception, limit_s: float) -> UsageError:
    """Return what is wrong with a question, and what to do about it."""
    text = harmless(str(error))
    code = getattr(error, "sqlite_errorcode", None)
    if any(words in text for words in _REFUSED):
        return UsageError(f"{READS} ({text})")
    if code == sqlite3.SQLITE_INTERRUPT:
        return UsageError(
            f"no answer within {format_seconds(limit_s)}; ask for less, or allow more with --time-limit"
        )
    if code == sqlite3.SQLITE_TOOBIG:
        return UsageError(f"a value of the answer is larger than {format_bytes(MOST_BYTES)}")
    if "one statement at a time" in text:
        return UsageError("more than one statement; ask one question at a time")
    names: list[str] = []
    if match := _NO_TABLE.match(text):
        names = [name for name, _ in _tables(connection)]
    elif match := _NO_COLUMN.match(text):
        names = sorted({column for _, columns in _tables(connection) for column in columns})
    if match is None:
        return UsageError(text)
    return UsageError(f"{text}{meant(match[1], names) or f' ({known_words(match[1], names)})'}")


def _tables(connection: sqlite3.Connection) -> Iterator[tuple[str, list[str]]]:
    """Yield the tables and views with their columns, but for those behind a full-text search."""
    names = connection.execute(
        "SELECT name FROM sqlite_master WHERE type IN ('table', 'view')"
        " AND name NOT LIKE '%\\_fts\\_%' ESCAPE '\\' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
    ).fetchall()
    for (name,) in names:
        columns = connection.execute("SELECT name FROM pragma_table_info(?)", (name,)).fetchall()
        yield str(name), [str(column) for (column,) in columns]
