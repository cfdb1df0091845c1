"""A file of results in SQLite: created, opened for one transaction, refused if it belongs to another program."""

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from launcher.errors import (
    MachineError,
    UsageError,
)
from launcher.results.database_tables import SCHEMA

APPLICATION = 0x6C726573  # "lres": what tells the file from other programs' databases
CACHE_KIB = 64 << 10  # of pages in memory: else a large run is written to the disk twice
BUSY_S = 20.0  # how long a writer waits for another one, and for readers


class ResultsUnavailable(MachineError):
    """The file cannot be used now: the disk is full, another program has it, or it is damaged."""


@contextlib.contextmanager
def open_for_writing(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the file, made where there is none, for one transaction: readers see all of it or nothing.

    Raises:
        UsageError: it is no database of results, or one of a newer version.
        Unusable: it cannot be written.
    """
    try:
        with contextlib.suppress(FileExistsError):
            # empty, and for its owner alone: logs and command lines may hold secrets
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        with contextlib.closing(connect(path, "rw")) as connection:
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
            connection.execute("BEGIN IMMEDIATE")
            with connection:  # which commits, or rolls back
                check_schema(connection, path)
                yield connection
    except sqlite3.Error as error:
        raise database_error(path, error) from error
    except OSError as error:
        raise ResultsUnavailable(f"cannot write {path}: {error.strerror or error}") from error


def check_schema(connection: sqlite3.Connection, path: Path) -> None:
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


def database_error(path: Path, error: sqlite3.Error) -> MachineError | UsageError:
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
        return ResultsUnavailable(
            f"{path} was in use by another program for more than {BUSY_S:g} s. Try again later."
        )
    return ResultsUnavailable(f"cannot use {path}: {error}")


def connect(path: Path, mode: str, busy_s: float = BUSY_S) -> sqlite3.Connection:
    """Open the file with transactions of one's own; a mode that reads makes none."""
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    return sqlite3.connect(uri, uri=True, timeout=busy_s, isolation_level=None)
