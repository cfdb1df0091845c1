"""What each version changed in the queue's database, in order; a step is never edited afterwards."""

import json
import sqlite3
from collections.abc import Callable
from importlib import resources

from launcher.specs import read_context, read_spec
from launcher.store.connection import Connection
from launcher.store.owning import rank_of
from launcher.store.rows import lane_of

APPLICATION_ID = 0x4C41554E  # "LAUN": tells our database from somebody else's

Step = Callable[[sqlite3.Connection], None]


def _first(connection: sqlite3.Connection) -> None:
    _run(connection, "1.sql")
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")


def _second(connection: sqlite3.Connection) -> None:
    _run(connection, "2.sql")
    fill_lanes(connection)


def _third(connection: sqlite3.Connection) -> None:
    _run(connection, "3.sql")


def fill_lanes(connection: Connection | sqlite3.Connection) -> None:
    """Give each job that has no lane its lane and its rank."""
    jobs = connection.execute(
        "SELECT jobs.id, jobs.spec, jobs.submitted, jobs.priority, contexts.body FROM jobs"
        " JOIN contexts ON contexts.id = jobs.context WHERE jobs.lane = 0"
    ).fetchall()
    for number, spec, submitted, priority, context in jobs:
        lane = lane_of(read_spec(json.loads(spec)), read_context(json.loads(context)))
        connection.execute("INSERT OR IGNORE INTO lanes (key) VALUES (?)", (lane.key,))
        connection.execute(
            "UPDATE jobs SET rank = ?, lane = (SELECT id FROM lanes WHERE key = ?) WHERE id = ?",
            (rank_of(submitted, priority), lane.key, number),
        )


STEPS: tuple[Step, ...] = (_first, _second, _third)


def _run(connection: sqlite3.Connection, script: str) -> None:
    text = resources.files("launcher.store").joinpath(script).read_text(encoding="utf-8")
    pending = ""
    for line in text.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            connection.execute(pending)
            pending = ""
