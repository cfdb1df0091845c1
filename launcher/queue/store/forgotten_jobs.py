"""Jobs that `launcher clean` has forgotten and whose folders it has still to delete.

`clean` forgets jobs first and deletes their folders afterwards, so that it never deletes files of a job that the queue
still has. A file in the queue folder lists the forgotten jobs meanwhile. It is written before the transaction that
forgets them commits. If `clean` is killed, the next one reads the file and deletes the rest. A listed job that is in
the queue was not forgotten: the transaction did not commit, and its files stay.
"""

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NamedTuple

from launcher.queue.home.paths import Home
from launcher.queue.store.queue import Store
from launcher.system.files import Json, read_json, write_json


class ForgottenJob(NamedTuple):
    """A job that has no row any more."""

    id: int
    attempts: int
    run_folder: Path  # folder that may hold staging folders of the job's attempts


def add_forgotten(home: Home, jobs: Iterable[ForgottenJob]) -> None:
    """List jobs whose folders are to be deleted. Inside `writing`, which keeps other processes out.

    Raises:
        OSError: the disk is full, or the folder cannot be written.
    """
    _write(home, {**_read(home), **{job.id: job for job in jobs}}.values())


def read_forgotten(home: Home, store: Store) -> list[ForgottenJob]:
    """Return the forgotten jobs whose folders are to be deleted, by number.

    Listed jobs that the queue has are taken off the list.
    """
    if not home.forgotten_record.exists():
        return []
    with store.database.writing():  # `clean` may be about to commit
        listed = _read(home)
        in_queue = {row.id for row in store.read.jobs_by_id(listed)}
        jobs = [job for number, job in sorted(listed.items()) if number not in in_queue]
        if in_queue:
            _write(home, jobs)
    return jobs


def remove_forgotten(home: Home, store: Store, jobs: Collection[int]) -> None:
    """Take jobs off the list: all their folders are deleted."""
    if not home.forgotten_record.exists():
        return
    with store.database.writing():
        _write(home, [job for number, job in _read(home).items() if number not in jobs])


def _read(home: Home) -> dict[int, ForgottenJob]:
    listed = (read_json(home.forgotten_record) or {}).get("jobs")
    jobs = [_read_job(record) for record in (listed if isinstance(listed, list) else [])]
    return {job.id: job for job in jobs if job is not None}


def _read_job(record: Json) -> ForgottenJob | None:
    match record:
        case {"job": int(number), "attempts": int(attempts), "run_folder": str(run_folder)}:
            return ForgottenJob(number, attempts, Path(run_folder))
    return None


def _write(home: Home, jobs: Iterable[ForgottenJob]) -> None:
    records: list[Json] = [
        {"job": job.id, "attempts": job.attempts, "run_folder": str(job.run_folder)} for job in jobs
    ]
    if records:
        write_json(home.forgotten_record, {"schema": 1, "jobs": records}, mode=0o600)
    else:
        home.forgotten_record.unlink(missing_ok=True)
