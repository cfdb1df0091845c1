"""What each version changed in the queue's database, in order; a step is never edited afterwards.

A step knows the data of its day by itself and imports nothing of the launcher, whose code goes on
to change: what it made of a database must not depend on when that is opened.
"""

import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from launcher.errors import StoreError
from launcher.store.recovery import back_up
from launcher.system.paths import Home

APPLICATION_ID = 0x4C41554E  # "LAUN": tells our database from somebody else's

Step = Callable[[sqlite3.Connection], None]


def _first(connection: sqlite3.Connection) -> None:
    _run(connection, "1.sql")
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")


def _second(connection: sqlite3.Connection) -> None:
    _run(connection, "2.sql")
    _fill_lanes(connection)


def _third(connection: sqlite3.Connection) -> None:
    _run(connection, "3.sql")


STEPS: tuple[Step, ...] = (_first, _second, _third)


def _fill_lanes(connection: sqlite3.Connection) -> None:
    """Give each job its lane and its rank, as the second schema has them."""
    jobs = connection.execute(
        "SELECT jobs.id, jobs.spec, jobs.submitted, jobs.priority, contexts.body FROM jobs"
        " JOIN contexts ON contexts.id = jobs.context WHERE jobs.lane = 0"
    ).fetchall()
    for number, spec, submitted, priority, context in jobs:
        try:
            key = _lane_key(json.loads(spec), json.loads(context))
        except (ValueError, KeyError, TypeError, AttributeError):
            continue  # without a lane it does not start, and the scheduler says why
        connection.execute("INSERT OR IGNORE INTO lanes (key) VALUES (?)", (key,))
        connection.execute(
            "UPDATE jobs SET rank = ?, lane = (SELECT id FROM lanes WHERE key = ?) WHERE id = ?",
            (submitted - priority * 86_400.0, key, number),  # a point of priority is worth a day
        )


def _lane_key(spec: Mapping[str, Any], context: Mapping[str, Any]) -> str:
    asked = spec.get("resources", {})
    resources = {name: asked.get(name, default) for name, default in _RESOURCES_2.items()}
    breed: list[Any] = ["", [], ""]
    if spec.get("entry"):
        preload = [*spec.get("preload", ()), "launcher.kinds"]
        breed = [context["interpreter"], preload, context["environment"].get("PYTHONPATH", "")]
    record = {
        "group": spec.get("terms", {}).get("group", ""),
        "resources": resources,
        "breed": breed,
    }
    if _may_need_gpu_2(resources):
        if spec.get("signature"):
            record["signature"] = spec["signature"]
        shown = context["environment"].get("CUDA_VISIBLE_DEVICES")
        if shown is not None:
            record["visible"] = [one.strip() for one in shown.split(",") if one.strip()]
    return json.dumps(record, sort_keys=True)


_RESOURCES_2: Mapping[str, Any] = {
    "cpus": 1,
    "min_vram": None,
    "device": "auto",
    "accelerated": False,
    "ram": None,
    "gpus": 1,
    "exclusive": False,
}


def _may_need_gpu_2(resources: Mapping[str, Any]) -> bool:
    if resources["device"] != "auto":
        return bool(resources["device"] != "cpu")
    some = resources["accelerated"] or resources["min_vram"] is not None
    return bool(some or resources["gpus"] > 1)


def _run(connection: sqlite3.Connection, script: str) -> None:
    text = resources.files("launcher.store").joinpath(script).read_text(encoding="utf-8")
    pending = ""
    for line in text.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            connection.execute(pending)
            pending = ""


OLDEST_SQLITE = (3, 37, 0)  # STRICT tables


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
        copy: nobody else has it.
        path: what it is a copy of.
        steps: what leads from nothing to today's shape.
    """
    for step in steps[schema_of(copy, path, steps) :]:
        step(copy)


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)
