"""Content of a database that is not opened as a queue. It may be damaged or of another version."""

import contextlib
import sqlite3
from pathlib import Path
from typing import NamedTuple

from launcher.queue.home.paths import SCHEMA
from launcher.queue.jobs.states import ReasonCode, State
from launcher.queue.store.readonly import connect_readonly
from launcher.queue.store.schema import KNOWN_SCHEMA

_PROBE_TIMEOUT_S = 0.5
_DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_MOST_UNEXPLAINED = 100
_SCANNED_EVENTS = (
    1000  # events among which the newest is searched: a clock that was set back hides it
)


class DatabaseProbe(NamedTuple):
    """Findings in a database."""

    schema: int = 0
    newest_event_at: float | None = None  # when something last happened
    waiting: int = 0  # jobs that are queued or run
    unexplained: tuple[str, ...] = ()  # known facts of jobs that wait without a cause
    is_damaged: bool = False  # nothing else is known of the database


def probe_database(database: Path) -> DatabaseProbe | None:
    """Return the findings in a database, None if it cannot be read now."""
    try:
        with contextlib.closing(connect_readonly(database, _PROBE_TIMEOUT_S)) as connection:
            return _probe_connection(connection)
    except sqlite3.Error as error:
        return DatabaseProbe(is_damaged=True) if error.sqlite_errorcode & 0xFF in _DAMAGE else None


def _probe_connection(connection: sqlite3.Connection) -> DatabaseProbe:
    (schema,) = connection.execute("PRAGMA user_version").fetchone()
    if not SCHEMA <= schema <= KNOWN_SCHEMA:
        return DatabaseProbe(schema=schema)
    (newest,) = connection.execute(
        "SELECT max(at) FROM (SELECT at FROM events ORDER BY id DESC LIMIT ?)", (_SCANNED_EVENTS,)
    ).fetchone()
    (waiting,) = connection.execute(
        "SELECT coalesce(sum(n), 0) FROM counters WHERE state IN (?, ?)",
        (State.QUEUED, State.RUNNING),
    ).fetchone()
    return DatabaseProbe(
        schema=schema,
        newest_event_at=newest,
        waiting=waiting,
        unexplained=_unexplained_waits(connection),
    )


def _unexplained_waits(connection: sqlite3.Connection) -> tuple[str, ...]:
    rows = connection.execute(
        "SELECT min(jobs.id), lanes.reason FROM lanes JOIN jobs ON jobs.lane = lanes.id"
        " WHERE lanes.reason_code = ? AND jobs.state = ? GROUP BY lanes.id ORDER BY 1 LIMIT ?",
        (ReasonCode.UNEXPLAINED, State.QUEUED, _MOST_UNEXPLAINED),
    )
    return tuple(f"job {job} is {reason}" for job, reason in rows)
