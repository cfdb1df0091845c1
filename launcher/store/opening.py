"""Opening a queue's database: made where there is none, brought up to date, refused when damaged."""

import contextlib
import os
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from launcher.errors import StoreError
from launcher.states import ReasonCode, State
from launcher.store.migration_steps import APPLICATION_ID, STEPS, Step
from launcher.store.recovery import (
    alone,
    back_up,
    check_health,
    cut_off,
    damaged,
    refuse_damaged,
    trouble,
)
from launcher.store.relocation import follow_relocation
from launcher.system.files import sync
from launcher.system.paths import Home, reading_uri

OLDEST_SQLITE = (3, 37, 0)  # STRICT tables


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


def schema_of(connection: sqlite3.Connection, path: Path, steps: Sequence[Step] = STEPS) -> int:
    """Return how many steps a database has behind it, 0 for a new one; nothing is changed.

    Raises:
        StoreError: it was written by a newer launcher, or is another program's database.
    """
    version = _version(connection)
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (holds,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if not version and _has_our_tables(connection):
        newest = len(steps)
        raise StoreError(
            f"{path} contains a queue without its schema number, as after .dump and .read. Restore a "  # prose: ok, ends with a command
            f"copy made by `.backup` of sqlite3 or by launcher ({path.parent / 'backups'}). If this launcher wrote it, run: "
            f"sqlite3 {path} 'PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {newest}'"
        )
    if application != APPLICATION_ID and (version or application or holds):
        raise StoreError(f"{path} is the database of another program. Move it away.")
    if version > len(steps):
        raise StoreError(
            f"{path} was written by a newer launcher (schema {version}, this one knows {len(steps)}). "
            "Update launcher, or set LAUNCHER_HOME to another folder."
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


def _has_our_tables(connection: sqlite3.Connection) -> bool:
    query = "SELECT count(*) FROM sqlite_schema WHERE name IN ('jobs', 'attempts', 'events')"
    (number,) = connection.execute(query).fetchone()
    return bool(number == 3)


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


KNOWN_SCHEMA = len(STEPS)
_BUSY_S = 0.5
_DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_CODES = 4  # the schema since which reasons have codes
_MOST_UNEXPLAINED = 100
_NEWS = 1000  # events among which the newest is looked for: a clock that was set back hides it


class Look(NamedTuple):
    """What was seen."""

    schema: int = 0
    newest: float | None = None  # when something last happened
    waiting: int = 0  # jobs that are queued or run
    unexplained: tuple[str, ...] = ()  # of jobs that wait without a cause, what is known of it
    damaged: bool = False  # nothing else is known of it


BUSY_S = 10.0  # how long a writer waits for another; transactions take milliseconds
LOG_BYTES = 16 << 20  # what a reader that stood still has let the log grow to is cut off to this
SMALL_BYTES = 64 << 20  # read through in well under a second


def worth_checking(size_bytes: int, *, rebooted: bool) -> bool:
    """Tell whether a scheduler that starts should read the whole database through.

    Args:
        size_bytes: the database's size.
        rebooted: the machine was started since the last scheduler; its power may have failed.
    """
    return rebooted or size_bytes <= SMALL_BYTES


def open_database(path: Path, *, durable: bool, check: bool = False) -> sqlite3.Connection:
    """Open a queue's database, and make it or bring it up to date where needed.

    Args:
        path: `Home.database` of a home that exists.
        durable: each commit is synced, so that it survives a power cut.
        check: read it through first; always done before it is brought to a newer shape.

    Raises:
        StoreError: it cannot be opened, is newer than this program, or is damaged; then it was
            moved aside, and nothing opens before its owner has decided how to go on.
    """
    check_sqlite()
    home = Home(path.parent)
    refuse_damaged(home)
    try:
        if not path.exists() or path.stat().st_size == 0:
            _begin(home)
        connection = _connect(path)
        try:
            _prepare(connection, home, durable=durable, check=check)
        except BaseException:
            connection.close()
            raise
    except (sqlite3.Error, OSError) as error:
        raise trouble(path, error) from error
    return connection


def open_to_read(path: Path) -> sqlite3.Connection:
    """Open a queue's database for questions only: not one byte of it is changed.

    One of an older shape is copied to memory and brought up to date there.

    Args:
        path: `Home.database` of a home that exists.

    Raises:
        StoreError: it cannot be read, is newer than this program, or is damaged.
    """
    check_sqlite()
    home = Home(path.parent)
    if home.damage_record.exists():
        refuse_damaged(home)
    try:
        connection = sqlite3.connect(
            reading_uri(path), uri=True, timeout=BUSY_S, isolation_level=None
        )
        connection.row_factory = sqlite3.Row
        if schema_of(connection, path) == len(STEPS):
            connection.execute("PRAGMA query_only = ON")
            return connection
        with contextlib.closing(connection):
            copy = sqlite3.connect(":memory:", isolation_level=None)
            connection.backup(copy)
        copy.row_factory = sqlite3.Row
        bring_up_to_date(copy, path)
    except (sqlite3.Error, OSError) as error:
        raise StoreError(f"cannot read the queue {path}: {error}") from error
    return copy


def _prepare(connection: sqlite3.Connection, home: Home, *, durable: bool, check: bool) -> None:
    schema = schema_of(connection, home.database)  # first: another program's stays as it is
    if home.database.stat().st_mode & 0o077:  # a copy made with `cp`
        home.database.chmod(0o600)
    if check or 0 < schema < len(STEPS):
        check_health(connection)
    _use_log(connection)
    connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
    migrate(connection, home.database)
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute(
        "PRAGMA secure_delete = ON"
    )  # what was forgotten is overwritten: environments
    connection.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")
    if schema == 0 or home.renumber.exists():
        _renumber(connection, home)
        home.renumber.unlink(missing_ok=True)
    follow_relocation(connection, home)
    refuse_damaged(home)  # it may have been moved away between our look and our opening


def _connect(path: Path) -> sqlite3.Connection:
    # mode=rw: SQLite must not make an empty database where one was moved away just now
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=BUSY_S, isolation_level=None
    )
    connection.row_factory = sqlite3.Row
    return connection


def _use_log(connection: sqlite3.Connection) -> None:
    """Switch to a write-ahead log; SQLite itself does not wait for others here."""
    deadline = time.monotonic() + BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _begin(home: Home) -> None:
    """Make a database under another name and give it its own when it is complete.

    So an empty file is never one of ours, unless something was lost.

    Raises:
        sqlite3.DatabaseError: there was one, and all that it held is lost.
    """
    with alone(home):
        refuse_damaged(home)  # moved away since we looked
        if lost := cut_off(home):
            raise damaged(lost)
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
                _renumber(connection, home)
                # last: what were in a log would not move with the file
                connection.execute("PRAGMA journal_mode = WAL")
            temporary.replace(home.database)
        finally:
            for left in home.folder.glob(f"{temporary.name}*"):
                left.unlink()
        sync(home.folder)


def _renumber(connection: sqlite3.Connection, home: Home) -> None:
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


def look_at(database: Path) -> Look | None:
    """Return what a database tells, None where it cannot be read now."""
    try:
        connection = sqlite3.connect(
            reading_uri(database), uri=True, timeout=_BUSY_S, isolation_level=None
        )
        with contextlib.closing(connection):
            return _look(connection)
    except sqlite3.Error as error:
        return Look(damaged=True) if error.sqlite_errorcode & 0xFF in _DAMAGE else None


def _look(connection: sqlite3.Connection) -> Look:
    (schema,) = connection.execute("PRAGMA user_version").fetchone()
    if schema > KNOWN_SCHEMA:
        return Look(schema=schema)
    (newest,) = connection.execute(
        "SELECT max(at) FROM (SELECT at FROM events ORDER BY id DESC LIMIT ?)", (_NEWS,)
    ).fetchone()
    (waiting,) = connection.execute(
        "SELECT coalesce(sum(n), 0) FROM counters WHERE state IN (?, ?)",
        (State.QUEUED, State.RUNNING),
    ).fetchone()
    return Look(
        schema=schema, newest=newest, waiting=waiting, unexplained=_unexplained(connection, schema)
    )


def _unexplained(connection: sqlite3.Connection, schema: int) -> tuple[str, ...]:
    if schema < _CODES:
        return ()
    rows = connection.execute(
        "SELECT min(jobs.id), lanes.reason FROM lanes JOIN jobs ON jobs.lane = lanes.id"
        " WHERE lanes.reason_code = ? AND jobs.state = ? GROUP BY lanes.id ORDER BY 1 LIMIT ?",
        (ReasonCode.UNEXPLAINED, State.QUEUED, _MOST_UNEXPLAINED),
    )
    return tuple(f"job {job} is {reason}" for job, reason in rows)
