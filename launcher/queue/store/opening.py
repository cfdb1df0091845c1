"""Opening a queue's database: made where there is none, brought up to date, refused when damaged."""

import contextlib
import os
import sqlite3
import time
from pathlib import Path

from launcher.queue.home.paths import Home, refuse_development_version
from launcher.queue.store.connection import Connection
from launcher.queue.store.readonly import readonly_uri
from launcher.queue.store.recovery import (
    check_integrity,
    corruption_error,
    describe_data_loss,
    exclusive_database_access,
    queue_database_error,
    refuse_damaged,
)
from launcher.queue.store.relocation import follow_relocation
from launcher.queue.store.schema import KNOWN_SCHEMA, check_sqlite, migrate, read_schema
from launcher.system.errors import StoreError
from launcher.system.files import sync

BUSY_TIMEOUT_S = 10.0  # time that a writer waits for another; transactions take milliseconds
# size to which the log is cut if a reader that stood still has let it grow
WAL_LIMIT_BYTES = 16 << 20
SMALL_BYTES = 64 << 20  # read through in well under a second


def should_check(size_bytes: int, *, has_rebooted: bool) -> bool:
    """Whether a scheduler that starts should check the whole database.

    Args:
        size_bytes: Size of the database.
        has_rebooted: The machine was started since the last scheduler; its power may have failed.
    """
    return has_rebooted or size_bytes <= SMALL_BYTES


def open_database(path: Path, *, durable: bool, check: bool = False) -> Connection:
    """Open a queue's database, and create or migrate it if necessary.

    Args:
        path: `Home.database` of an existing queue folder.
        durable: Each commit is synced, so that it survives a power cut.
        check: Check it completely first. This is always done before a migration.

    Raises:
        StoreError: It cannot be opened, was written by a development version, is newer than this
            program, or is damaged. A damaged one is renamed, and cannot be opened before its owner
            has decided how to continue.
    """
    check_sqlite()
    home = Home(path.parent)
    refuse_damaged(home)
    try:
        if not path.exists() or path.stat().st_size == 0:
            _create_database(home)
        _refuse_other_version(path)
        connection = _connect(path)
        try:
            _prepare_connection(connection, home, durable=durable, check=check)
        except BaseException:
            connection.close()
            raise
    except (sqlite3.Error, OSError) as error:
        raise queue_database_error(path, error) from error
    return connection


def open_database_readonly(path: Path) -> Connection:
    """Open a queue's database for reading only. No byte of the database is changed.

    Args:
        path: `Home.database` of an existing queue folder.

    Raises:
        StoreError: It cannot be read, was written by a development version, is newer than this
            program, or is damaged.
    """
    check_sqlite()
    refuse_development_version(path)  # before SQLite creates a file beside a write-ahead log
    home = Home(path.parent)
    if home.damage_record.exists():
        refuse_damaged(home)
    try:
        connection = Connection(path, readonly_uri(path), BUSY_TIMEOUT_S)
        try:
            read_schema(connection, path)
            connection.execute("PRAGMA query_only = ON")
        except BaseException:
            connection.close()
            raise
    except (sqlite3.Error, OSError) as error:
        raise StoreError(f"cannot read the queue {path}: {error}") from error
    return connection


def _refuse_other_version(path: Path) -> None:
    """Refuse a database that this version does not know, before anything in its folder changes.

    A connection that may write would move a left write-ahead log into the file when it closes.
    """
    try:
        connection = Connection(path, readonly_uri(path), BUSY_TIMEOUT_S)
        with contextlib.closing(connection):
            read_schema(connection, path)
    except sqlite3.Error:
        return  # the code that opens it judges the damage


def _prepare_connection(connection: Connection, home: Home, *, durable: bool, check: bool) -> None:
    schema = read_schema(
        connection, home.database
    )  # read before any change, since a database of another program must stay as it is
    if home.database.stat().st_mode & 0o077:  # a copy made with `cp`
        home.database.chmod(0o600)
    if check or 0 < schema < KNOWN_SCHEMA:
        check_integrity(connection)
    _enable_wal(connection)
    connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
    migrate(connection, home.database)
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA secure_delete = ON")  # forgotten data is overwritten: environments
    connection.execute(f"PRAGMA journal_size_limit = {WAL_LIMIT_BYTES}")
    if schema == 0 or home.renumber_request.exists():
        _reserve_job_numbers(connection, home)
        home.renumber_request.unlink(missing_ok=True)
    follow_relocation(connection, home)
    refuse_damaged(home)  # the database may have been renamed between our check and our opening


def _connect(path: Path) -> Connection:
    # mode=rw: SQLite must not make an empty database where one was moved away just now
    return Connection(path, f"{path.absolute().as_uri()}?mode=rw", BUSY_TIMEOUT_S)


def _enable_wal(connection: sqlite3.Connection) -> None:
    """Switch to a write-ahead log; SQLite itself does not wait for others here."""
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _create_database(home: Home) -> None:
    """Make a database under another name and give it its own when it is complete.

    So an empty file is never one of ours, unless something was lost.

    Raises:
        sqlite3.DatabaseError: there was one, and all that it held is lost.
    """
    with exclusive_database_access(home):
        refuse_damaged(home)  # renamed since our check
        if lost := describe_data_loss(home):
            raise corruption_error(lost)
        if (
            home.database.exists()
        ):  # another process was quicker, or it is another program's empty file
            return
        temporary = home.folder / f".{os.urandom(8).hex()}.tmp"
        try:
            os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            with contextlib.closing(_connect(temporary)) as connection:
                connection.execute("PRAGMA synchronous = FULL")
                migrate(connection, temporary)
                _reserve_job_numbers(connection, home)
                # last: data in a log would not move with the file
                connection.execute("PRAGMA journal_mode = WAL")
            temporary.replace(home.database)
        finally:
            for left in home.folder.glob(f"{temporary.name}*"):
                left.unlink()
        sync(home.folder)


def _reserve_job_numbers(connection: sqlite3.Connection, home: Home) -> None:
    """Let new jobs have numbers above those of all attempt folders, which carry them."""
    names = (folder.name for folder in home.attempts.glob("*-*"))
    numbers = (name.partition("-")[0] for name in names)
    highest = max((int(number) for number in numbers if number.isdecimal()), default=0)
    connection.execute("BEGIN IMMEDIATE")
    try:
        row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'jobs'").fetchone()
        if row is None:
            connection.execute("INSERT INTO sqlite_sequence VALUES ('jobs', ?)", (highest,))
        elif row["seq"] < highest:
            connection.execute("UPDATE sqlite_sequence SET seq = ? WHERE name = 'jobs'", (highest,))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
