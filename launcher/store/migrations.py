"""Bringing a queue's database to today's shape, one numbered step at a time."""

import sqlite3
from importlib import resources

from launcher.errors import StoreError

OLDEST_SQLITE = (3, 37, 0)  # STRICT tables
APPLICATION_ID = 0x4C41554E  # "LAUN": tells our database from somebody else's


def _first(connection: sqlite3.Connection) -> None:
    schema = resources.files("launcher.store").joinpath("schema.sql").read_text(encoding="utf-8")
    for statement in _statements(schema):
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")


STEPS = (_first,)


def check_sqlite(version: tuple[int, int, int] = sqlite3.sqlite_version_info) -> None:
    """Refuse a SQLite library that cannot hold our tables.

    Raises:
        StoreError: older than 3.37.
    """
    if version < OLDEST_SQLITE:
        have, need = (".".join(map(str, one)) for one in (version, OLDEST_SQLITE))
        raise StoreError(
            f"this Python comes with SQLite {have}, launcher needs {need} or newer; "
            "use a newer Python build"
        )


def migrate(connection: sqlite3.Connection, path: str) -> None:
    """Apply every step that the database lacks, in one transaction.

    Raises:
        StoreError: it was written by a newer launcher, or is another program's database.
    """
    if _version(connection) and not _is_ours(connection):
        raise StoreError(f"{path} is another program's database; move it away")
    if _version(connection) == len(STEPS):
        return
    if _version(connection) > len(STEPS):
        raise StoreError(
            f"{path} was written by a newer launcher (schema {_version(connection)}, this one "
            f"knows {len(STEPS)}); update launcher, or set LAUNCHER_HOME to another folder"
        )
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = _version(connection)  # again: another process may have been quicker
        for step in STEPS[version:]:
            step(connection)
        connection.execute(f"PRAGMA user_version = {len(STEPS)}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _is_ours(connection: sqlite3.Connection) -> bool:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    return int(application) == APPLICATION_ID


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def _statements(script: str) -> list[str]:
    statements, pending = [], ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            statements.append(pending)
            pending = ""
    return statements
