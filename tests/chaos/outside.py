"""Content of the database, read without code of launcher, and never written."""

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from launcher.queue.home.paths import Home

OPEN = frozenset({"queued", "held", "running"})
_ATTEMPTS = """
SELECT jobs.name, number, coalesce(json_extract(outcome, '$.ending'), '') AS ending,
    json_extract(outcome, '$.at') AS at
FROM attempts JOIN jobs ON jobs.id = attempts.job ORDER BY attempts.job, number
"""
_JOBS = """
SELECT jobs.name, jobs.state, jobs.reason,
    (SELECT count(*) FROM events WHERE events.job = jobs.id AND events.state = 'done') AS dones
FROM jobs ORDER BY jobs.id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """An attempt as the database has it."""

    number: int
    ending: str  # empty: it has none yet
    at: float | None  # seconds since 1970


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """A job as the database has it."""

    name: str
    state: str
    reason: str
    dones: int  # times that it became done
    attempts: tuple[Tried, ...]


def names(home: Home) -> set[str]:
    """Return the names of all jobs in the queue."""
    with _reading(home.database) as database:
        return {_short(name) for (name,) in database.execute("SELECT name FROM jobs")}


def facts(home: Home) -> dict[str, Fact]:
    """Return all jobs by their names."""
    tried: dict[str, list[Tried]] = {}
    with _reading(home.database) as database:
        database.execute("BEGIN")  # jobs and attempts of the same instant
        for name, number, ending, at in database.execute(_ATTEMPTS):
            tried.setdefault(name, []).append(Tried(number=number, ending=ending, at=at))
        return {
            _short(name): Fact(
                name=_short(name),
                state=state,
                reason=reason,
                dones=dones,
                attempts=tuple(tried.get(name, ())),
            )
            for name, state, reason, dones in database.execute(_JOBS)
        }


def still_open(home: Home) -> int:
    """Return how many jobs have not ended."""
    with _reading(home.database) as database:
        states = database.execute("SELECT state FROM jobs").fetchall()
    return sum(state in OPEN for (state,) in states)


@contextlib.contextmanager
def _reading(database: Path) -> Iterator[sqlite3.Connection]:
    if not database.exists() or not _made(database):
        yield _nothing()
        return
    connection = _connect(database)
    try:
        yield connection
    finally:
        connection.close()


def _connect(database: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=20, isolation_level=None)


def _made(database: Path) -> bool:
    """Return whether the tables exist. A command may have been killed before it created them."""
    connection = _connect(database)
    try:
        return bool(
            connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'jobs'").fetchall()
        )
    except sqlite3.OperationalError:  # not even a header
        return False
    finally:
        connection.close()


def _nothing() -> sqlite3.Connection:
    """Return a queue without jobs."""
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE jobs (id, name, state, reason)")
    connection.execute("CREATE TABLE attempts (job, number, outcome)")
    connection.execute("CREATE TABLE events (job, state)")
    return connection


def _short(name: str) -> str:
    return name.partition("/")[2]
