"""What each version changed in the queue's database, in order; a step is never edited afterwards.

A step knows the data of its day by itself and imports nothing of the launcher, whose code goes on
to change: what it made of a database must not depend on when that is opened.
"""

import json
import sqlite3
from collections.abc import Callable, Mapping
from importlib import resources
from typing import Any

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
