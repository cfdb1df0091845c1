"""The schema of a queue's database: which number it has, and how a database gets the current one."""

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

from launcher.queue.home.paths import APPLICATION_ID, SCHEMA, Home, development_version_error
from launcher.queue.store.backups import back_up
from launcher.system.errors import StoreError

Step = Callable[[sqlite3.Connection], None]

OLDEST_SQLITE = (3, 37, 0)  # STRICT tables
# Changes after `schema.sql`. A step is never edited afterwards and imports nothing of the launcher, whose
# code changes later. Its effect on a database must not depend on the date of the migration.
STEPS: tuple[Step, ...] = ()
KNOWN_SCHEMA = SCHEMA + len(STEPS)


def check_sqlite(version: tuple[int, int, int] = sqlite3.sqlite_version_info) -> None:
    """Refuse a SQLite library that cannot hold our tables.

    Raises:
        StoreError: older than 3.37.
    """
    if version < OLDEST_SQLITE:
        have, need = (".".join(map(str, parts)) for parts in (version, OLDEST_SQLITE))
        raise StoreError(
            f"this Python contains SQLite {have}, but launcher needs {need} or newer. "
            "Use a newer Python build."
        )


def read_schema(connection: sqlite3.Connection, path: Path, steps: Sequence[Step] = STEPS) -> int:
    """Return the number of a database's schema, 0 for a new one; nothing is changed.

    Raises:
        StoreError: It was written by a development version or by a newer launcher, or is another
            program's database.
    """
    version, newest = _version(connection), SCHEMA + len(steps)
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (holds,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if not version and _has_our_tables(connection):
        raise StoreError(
            f"{path} contains a queue without its schema number, as after .dump and .read. Restore a "  # prose: ok, ends with a command
            f"copy made by `.backup` of sqlite3 or by launcher ({path.parent / 'backups'}). If this launcher wrote it, run: "
            f"sqlite3 {path} 'PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {newest}'"
        )
    if application != APPLICATION_ID and (version or application or holds):
        raise StoreError(f"{path} is the database of another program. Move it away.")
    if 0 < version < SCHEMA:
        raise development_version_error(path, version)
    if version > newest:
        raise StoreError(
            f"{path} was written by a newer launcher (schema {version}, this one knows {newest}). "
            "Update launcher, or set LAUNCHER_HOME to another folder."
        )
    return version


def migrate(connection: sqlite3.Connection, path: Path, steps: Sequence[Step] = STEPS) -> None:
    """Create the schema in a new database, and apply every missing step, each in its own transaction.

    A database that holds a queue is copied to the backups of the queue folder before the first
    step. A step may wrap the connection in sqlite_utils.Database. It must not change transactions,
    as `executescript` does.

    Args:
        connection: To the database at `path`, without a transaction. Foreign keys are not enforced,
            so that a step may rebuild a table without losing rows that refer to it.
        path: Path of the database. The backups are next to it.
        steps: All steps from `SCHEMA` to the current schema.

    Raises:
        StoreError: It was written by a development version or by a newer launcher, or is another
            program's database.
        sqlite3.Error: A step or the backup failed. The steps before it remain.
    """
    first = read_schema(connection, path, steps)
    saved = first == 0
    missing: list[tuple[int, int, Step]] = [(0, SCHEMA, _create_schema)] if first == 0 else []
    missing += [
        (number, number + 1, step) for number, step in enumerate(steps, SCHEMA) if number >= first
    ]
    for number, next_number, step in missing:
        connection.execute("BEGIN IMMEDIATE")
        try:
            if _version(connection) == number:  # else another process was quicker
                if not saved:
                    back_up(path, Home(path.parent).backups, number)
                    saved = True
                step(connection)
                connection.execute(f"PRAGMA user_version = {next_number}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:  # a full disk ends the transaction by itself
                connection.execute("ROLLBACK")
            raise


def _create_schema(connection: sqlite3.Connection) -> None:
    statement = ""
    text = Path(__file__).with_name("schema.sql").read_text(encoding="utf-8")
    for line in text.splitlines(keepends=True):
        statement += line
        if ";" in line and sqlite3.complete_statement(statement):
            connection.execute(statement)
            statement = ""
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")


def _has_our_tables(connection: sqlite3.Connection) -> bool:
    query = "SELECT count(*) FROM sqlite_schema WHERE name IN ('jobs', 'attempts', 'events')"
    (number,) = connection.execute(query).fetchone()
    return bool(number == 3)


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)
