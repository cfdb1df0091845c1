"""Jobs that are done pass from the run of one folder to that of another one: their project was moved or copied."""

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from launcher.queue.jobs.context import Context
from launcher.queue.jobs.job import Spec
from launcher.queue.jobs.states import ENDED_STATES, Reason, State
from launcher.queue.jobs.stored_specs import SpecWriter
from launcher.queue.store.connection import reason_columns
from launcher.queue.store.forgotten_jobs import ForgottenJob, add_forgotten
from launcher.queue.store.queue import NewJob, Store
from launcher.system.errors import UsageError
from launcher.system.files import Json

_COUNT = (
    "INSERT INTO counters VALUES (?, ?, ?)"
    " ON CONFLICT (run, state) DO UPDATE SET n = n + excluded.n"
)


class AdoptedJob(NamedTuple):
    """A job that is done under another root."""

    number: int
    hash: str  # hash that the queue has of the job
    spec: Spec  # specification to store here, with the hash that counts here
    # its files as they are recorded, by their paths here
    outputs: Mapping[str, Sequence[int | str]]
    # numbers of a program that is copied
    printed_numbers: Mapping[str, Json] = MappingProxyType({})


def adopt_done_jobs(
    store: Store,
    run: int,
    context: Context,
    jobs: Sequence[AdoptedJob],
    reason: Reason,
    *,
    now: float,
    copy_jobs: bool,
) -> None:
    """Let jobs that are done elsewhere count as done in a run. Inside `writing`.

    Args:
        store: the queue.
        run: the number of the run.
        context: the folder and environment of its jobs.
        jobs: none of whose names is that of a job of the run which is open or done.
        reason: why they are done here.
        now: the time.
        copy_jobs: the run in which they were done keeps them, so that they are copied; otherwise they are moved.

    Raises:
        UsageError: one of them has changed meanwhile.
    """
    for job in jobs:
        row = store.database.execute(
            "SELECT state, hash FROM jobs WHERE id = ?", (job.number,)
        ).fetchone()
        if row is None or row["state"] != State.DONE or row["hash"] != job.hash:
            raise UsageError(
                f"{job.spec.name} (job {job.number}) has changed. Run this command again."
            )
        _delete_ended_job(store, run, job.spec.name)
    if copy_jobs:
        _copy_jobs(store, run, context, jobs, reason, now)
    else:
        _move_jobs(store, run, context, jobs, reason, now)


def _delete_ended_job(store: Store, run: int, name: str) -> None:
    """Delete the job of a name that has ended without being done; the next `clean` deletes its folders."""
    row = store.read.find_job(run, name)
    if row is None or row.state not in ENDED_STATES - {State.DONE}:
        return
    if row.attempts:
        add_forgotten(store.home, [ForgottenJob(row.id, row.attempts, row.spec.run_folder)])
    store.database.execute("DELETE FROM needs WHERE need = ?", (row.id,))
    store.database.execute("DELETE FROM jobs WHERE id = ?", (row.id,))


def _move_jobs(
    store: Store,
    run: int,
    context: Context,
    jobs: Sequence[AdoptedJob],
    reason: Reason,
    now: float,
) -> None:
    number, columns = store.ensure_context(context), reason_columns(reason)
    for job in jobs:
        (before,) = store.database.execute(
            "SELECT run FROM jobs WHERE id = ?", (job.number,)
        ).fetchone()
        store.database.execute(
            "UPDATE jobs SET run = ?, hash = ?, spec = ?, context = ?, outputs = ?, reason_code = ?,"
            " reason = ?, reason_data = ? WHERE id = ?",
            (
                run,
                job.spec.hash,
                SpecWriter().text(job.spec),
                number,
                json.dumps(dict(job.outputs)),
                *columns,
                job.number,
            ),
        )
        store.database.executemany(_COUNT, [(before, State.DONE, -1), (run, State.DONE, 1)])
        store.database.add_event(job.number, State.DONE, reason, now)


def _copy_jobs(
    store: Store,
    run: int,
    context: Context,
    jobs: Sequence[AdoptedJob],
    reason: Reason,
    now: float,
) -> None:
    new_jobs = [NewJob(spec=job.spec, state=State.DONE, reason=reason) for job in jobs]
    numbers = store.insert_new(run, context, new_jobs, now)
    copies = dict(zip((job.number for job in jobs), numbers, strict=True))
    for job in jobs:
        copy = copies[job.number]
        store.database.execute(
            "UPDATE jobs SET outputs = ?, waits = 0, (ended, sources) ="
            " (SELECT ended, sources FROM jobs AS there WHERE there.id = ?) WHERE id = ?",
            (json.dumps(dict(job.outputs)), job.number, copy),
        )
        store.database.execute("DELETE FROM timers WHERE job = ?", (copy,))
        store.database.execute(
            "INSERT INTO results SELECT ?, at, body FROM results WHERE job = ?", (copy, job.number)
        )
        if job.printed_numbers:
            store.database.execute(
                "INSERT OR IGNORE INTO results VALUES (?, ?, ?)",
                (copy, now, json.dumps(dict(job.printed_numbers))),
            )
        needs = store.database.execute(
            "SELECT need, any_end FROM needs WHERE job = ?", (job.number,)
        ).fetchall()
        store.database.executemany(
            "INSERT INTO needs (job, need, any_end) VALUES (?, ?, ?)",
            [(copy, copies[need], any_end) for need, any_end in needs if need in copies],
        )
