"""A file of results in SQLite: created, opened for one transaction, refused if it belongs to another program."""

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from launcher.experiments.results.database_tables import SCHEMA
from launcher.system.errors import (
    MachineError,
    UsageError,
)

APPLICATION = 0x6C726573  # "lres": distinguishes the file from databases of other programs
CACHE_KIB = 64 << 10  # KiB of pages in memory: with less, a large run is written to the disk twice
BUSY_S = 20.0  # seconds that a writer waits for other writers and readers


class ResultsUnavailable(MachineError):
    """The file cannot be used now: the disk is full, another program locks it, or it is damaged."""


@contextlib.contextmanager
def open_for_writing(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the file for one transaction, creating it if it is missing. Readers see all changes or none.

    Raises:
        UsageError: the file is not a database of results, or has a newer version.
        ResultsUnavailable: the file cannot be written.
    """
    try:
        with contextlib.suppress(FileExistsError):
            # empty and accessible only to its owner: logs and command lines may contain secrets
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        with contextlib.closing(connect(path, "rw")) as connection:
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
            connection.execute("BEGIN IMMEDIATE")
            with connection:  # commits or rolls back
                check_schema(connection, path)
                yield connection
    except sqlite3.Error as error:
        raise database_error(path, error) from error
    except OSError as error:
        raise ResultsUnavailable(f"cannot write {path}: {error.strerror or error}") from error


def check_schema(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse a database of another program or a newer version; initialise an empty one.

    Raises:
        UsageError: the database belongs to another program or has a newer version.
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
    """Return the error that describes the fault of a file."""
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
    """Open the file without implicit transactions; a read-only mode does not create it."""
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    return sqlite3.connect(uri, uri=True, timeout=busy_s, isolation_level=None)
