"""What each version changed in the queue's database, in order; a step is never edited afterwards.

A step knows the data of its day by itself and imports nothing of the launcher, whose code goes on
to change: what it made of a database must not depend on when that is opened.
"""

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from launcher.errors import StoreError
from launcher.store.migration_steps import APPLICATION_ID, STEPS, Step
from launcher.store.recovery import back_up
from launcher.system.paths import Home

OLDEST_SQLITE = (3, 37, 0)  # STRICT tables


def check_sqlite(version: tuple[int, int, int] = sqlite3.sqlite_version_info) -> None:
    """Refuse a SQLite library that cannot hold our tables.

    Raises:
        StoreError: older than 3.37.
    """
    if version < OLDEST_SQLITE:
        have, need = (".".join(map(str, parts)) for parts in (version, OLDEST_SQLITE))
        raise StoreError(
            f"this Python comes with SQLite {have}, launcher needs {need} or newer; "
            "use a newer Python build"
        )


def schema_of(connection: sqlite3.Connection, path: Path, steps: Sequence[Step] = STEPS) -> int:
    """Return how many steps a database has behind it, 0 for a new one; nothing is changed.

    Raises:
        StoreError: it was written by a newer launcher, or is another program's database.
    """
    version = _version(connection)
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (holds,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if application != APPLICATION_ID and (version or application or holds):
        raise StoreError(f"{path} is another program's database; move it away")
    if version > len(steps):
        raise StoreError(
            f"{path} was written by a newer launcher (schema {version}, this one "
            f"knows {len(steps)}); update launcher, or set LAUNCHER_HOME to another folder"
        )
    return version


def migrate(connection: sqlite3.Connection, path: Path, steps: Sequence[Step] = STEPS) -> None:
    """Apply every step that the database lacks, each in a transaction of its own.

    A database that holds a queue is copied to the home's backups before the first of them. A step
    may wrap the connection in sqlite_utils.Database; it must leave transactions alone, which
    `executescript` does not.

    Args:
        connection: to the database at `path`, without a transaction; foreign keys are not enforced,
            so that a step may build a table anew without losing what refers to it.
        path: where the database lies; backups go beside it.
        steps: what leads from nothing to today's shape.

    Raises:
        StoreError: it was written by a newer launcher, or is another program's database.
        sqlite3.Error: a step or the backup failed; the steps before it remain.
    """
    first = schema_of(connection, path, steps)
    saved = first == 0
    for number, step in enumerate(steps[first:], first):
        connection.execute("BEGIN IMMEDIATE")
        try:
            if _version(connection) == number:  # else another process was quicker
                if not saved:
                    back_up(path, Home(path.parent).backups, number)
                    saved = True
                step(connection)
                connection.execute(f"PRAGMA user_version = {number + 1}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:  # a full disk ends it by itself
                connection.execute("ROLLBACK")
            raise


def bring_up_to_date(copy: sqlite3.Connection, path: Path, steps: Sequence[Step] = STEPS) -> None:
    """Apply every step that a copy in memory lacks; nothing is saved before.

    Args:
        copy: no other process has it open.
        path: what it is a copy of.
        steps: what leads from nothing to today's shape.
    """
    for step in steps[schema_of(copy, path, steps) :]:
        step(copy)


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)
