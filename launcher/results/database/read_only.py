"""A database opened for questions only: SQLite itself refuses everything that is none."""

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from launcher.errors import UsageError
from launcher.results.database.file import trouble

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
