"""Groups of `launcher.api.Executor`: the limit of an executor is in the queue as long as it has open jobs."""

import os

from launcher.queue.jobs.states import OPEN_STATES
from launcher.queue.store.connection import Connection
from launcher.queue.store.lanes import read_lane
from launcher.system.stored_fields import Unreadable

PREFIX = "executor/"  # beginning of group names
_LANES = (
    "SELECT id, key FROM lanes WHERE CASE WHEN json_valid(key)"
    " THEN json_extract(key, '$.group') = ? END"
)
_OPEN = ", ".join(f"'{state}'" for state in sorted(OPEN_STATES))


def new_group_name() -> str:
    """Return a name that no other executor has."""
    return f"{PREFIX}{os.urandom(4).hex()}"


def open_jobs_of(db: Connection, group: str) -> list[int]:
    """Return the jobs of an executor that have not ended."""
    return db.query_numbers(
        f"SELECT id FROM jobs WHERE state IN ({_OPEN})"
        " AND lane IN (SELECT id FROM lanes WHERE CASE WHEN json_valid(key)"
        " THEN json_extract(key, '$.group') = ? END)",
        group,
    )


def forget_group(db: Connection, group: str) -> None:
    """Delete the limit of an executor without open jobs; its ended jobs belong to no group from then on. Inside `writing`."""
    for lane, key in db.execute(_LANES, (group,)).fetchall():
        try:
            plain = db.ensure_lane(read_lane(key)._replace(group="").key)
        except Unreadable:  # a newer version wrote the record
            continue
        db.execute(
            "UPDATE jobs SET lane = ?, spec = CASE WHEN json_valid(spec)"
            " THEN json_remove(spec, '$.terms.group') ELSE spec END WHERE lane = ?",
            (plain, lane),
        )
        db.execute("UPDATE lanes SET key = 'forgotten ' || id WHERE id = ?", (lane,))
    # the newest row stays: schedulers keep lanes by their numbers, which are not given again
    db.execute(
        "DELETE FROM lanes WHERE key GLOB 'forgotten *' AND id < (SELECT max(id) FROM lanes)"
    )
    db.execute("DELETE FROM groups WHERE name = ?", (group,))
