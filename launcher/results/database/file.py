"""The file of a database of results: made, opened to be written in one transaction, refused where it is another's."""

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from launcher.errors import MachineError, UsageError
from launcher.results.database.schema import SCHEMA

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
        _make(path)
        with contextlib.closing(_connect(path)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                check(connection, path)
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
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
                f"{path} is a database of another program; name a new file for the results"
            )
        connection.execute(f"PRAGMA application_id = {APPLICATION}")
        connection.execute(f"PRAGMA user_version = {SCHEMA}")
    elif version > SCHEMA:
        raise UsageError(
            f"{path} was written by a newer launcher (schema {version}, this one writes {SCHEMA}); "
            "name another file, or upgrade"
        )


def trouble(path: Path, error: sqlite3.Error) -> MachineError | UsageError:
    """Return the error that says what is wrong with a file."""
    extended = getattr(error, "sqlite_errorcode", 0)
    code = extended & 0xFF
    if extended == sqlite3.SQLITE_READONLY_ROLLBACK:
        return MachineError(
            f"{path}: who wrote it last was killed meanwhile; `launcher results RUN --db {path}` undoes what is "
            "half written, and writes it again"
        )
    if code == sqlite3.SQLITE_NOTADB:
        return UsageError(f"{path} is no SQLite database; name another file")
    if code == sqlite3.SQLITE_BUSY:
        return Unusable(
            f"{path} is in use by another program for more than {BUSY_S:g} s; try again later"
        )
    return Unusable(f"cannot use {path}: {error}")


def _make(path: Path) -> None:
    """Make an empty file that only its owner may read: logs and command lines may hold secrets."""
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=BUSY_S, isolation_level=None
    )
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    return connection
