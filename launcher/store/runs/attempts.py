"""The attempts of many jobs, read at once."""

import json
from collections.abc import Callable, Iterable
from sqlite3 import Cursor
from typing import Any

from launcher.states import Done, ending, outcome_record
from launcher.store.connection import known_code, known_record
from launcher.store.rows import PILOT_OF

_DONE = json.dumps(dict(list(outcome_record(Done(at=0)).items())[:2]))[:-1]


def attempts_of_jobs(execute: Callable[..., Cursor], jobs: Iterable[int]) -> list[dict[str, Any]]:
    """Return the attempts of jobs as records, by job and number.

    Each has job, number, device, cpus, claimed, ended, reason_code, claim, peak, pilot, and `outcome`;
    of one that was done that is its ending alone: what it returned is with the results.
    """
    rows = execute(
        "SELECT job, number, device, cpus, claimed, ended, outcome, reason_code, claim, peak,"
        f" {PILOT_OF} AS pilot FROM attempts WHERE job IN (SELECT value FROM json_each(?))"
        " ORDER BY job, number",
        (json.dumps([*jobs]),),
    )
    return [_record(dict(row)) for row in rows]


def _record(row: dict[str, Any]) -> dict[str, Any]:
    text = row["outcome"]
    if text is None:
        return {**row, "outcome": None, "reason_code": None}
    # what a job returned may be long, and is not wanted here
    done = text.startswith(_DONE)
    outcome = {"ending": ending(Done(at=0))} if done else known_record(text)
    return {**row, "outcome": outcome, "reason_code": known_code(row["reason_code"])}
