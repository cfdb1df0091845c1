"""The number of a GPU means the GPU that has it when a job is queued; a job keeps this GPU in its lane.

The numbers are those of the scheduler's last reading. Jobs that were queued before it are changed at the first reading.
"""

from collections.abc import Mapping
from pathlib import Path

from launcher.queue.home.paths import Home
from launcher.queue.jobs.job import names_one_gpu
from launcher.queue.store.connection import Connection
from launcher.queue.store.lanes import Lane, read_lane, with_gpu_of_number
from launcher.system.files import read_json
from launcher.system.processes import boot_id
from launcher.system.stored_fields import Unreadable

_BY_NUMBER = (
    "SELECT DISTINCT lanes.id, lanes.key FROM jobs JOIN lanes ON lanes.id = jobs.lane"
    " WHERE jobs.state IN ('queued', 'held', 'running')"
    """ AND instr(lanes.key, '"device": "cuda:') > 0"""
)


def lane_with_gpu(lane: Lane, folder: Path) -> Lane:
    """Return the lane of a job that is queued now.

    Args:
        lane: Lane of the job.
        folder: Queue folder.
    """
    if not names_one_gpu(lane.resources.device) or lane.resources.gpu_uuid:
        return lane
    return with_gpu_of_number(lane, _last_numbers(folder))


def assign_gpus(db: Connection, uuids: Mapping[str, str]) -> None:
    """Let open jobs that name a GPU by its number keep the GPU that has it now.

    Args:
        db: Queue.
        uuids: Label of each GPU → its UUID.
    """
    for number, key in db.execute(_BY_NUMBER).fetchall():
        try:
            lane = read_lane(key)
        except Unreadable:
            continue
        if (assigned := with_gpu_of_number(lane, uuids)) == lane:
            continue
        with db.writing():
            db.execute(
                "UPDATE jobs SET lane = ? WHERE lane = ? AND state IN ('queued', 'held', 'running')",
                (db.ensure_lane(assigned.key), number),
            )


def _last_numbers(folder: Path) -> Mapping[str, str]:
    """Return label → UUID of the GPUs that a scheduler has seen since the machine was started."""
    try:
        record = read_json(Home(folder).gpus) or {}
    except OSError:
        return {}
    numbers = record.get("numbers")
    if record.get("boot") != boot_id() or not isinstance(numbers, dict):
        return {}
    return {label: uuid for label, uuid in numbers.items() if isinstance(uuid, str)}
