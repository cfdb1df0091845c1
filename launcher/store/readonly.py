"""A look at a queue's database that changes nothing: it is not made, mended or brought up to date."""

import contextlib
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from launcher.states import State
from launcher.store.migrations import STEPS
from launcher.store.opening import reading_uri

KNOWN_SCHEMA = len(STEPS)
_BUSY_S = 0.5
_DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_NEWS = 1000  # events among which the newest is looked for: a clock that was set back hides it


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What was seen."""

    schema: int = 0
    newest: float | None = None  # when something last happened
    waiting: int = 0  # jobs that are queued or run
    damaged: bool = False  # nothing else can be told of it


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
    return Look(schema=schema, newest=newest, waiting=waiting)
