"""Pauses of running programs, as the queue records them: who is paused since when, and for how long."""

from collections.abc import Iterable

from launcher.states import Reason, ReasonCode, State
from launcher.store.connection import Connection, reason_columns

RESUMED = Reason(code=ReasonCode.RESUMED, text="goes on after a pause")
# why the newest attempt started where it did
_STARTED = (
    "SELECT reason_code, reason, reason_data FROM events WHERE job = ? AND state = 'running'"
    " AND reason_code NOT IN ('paused', 'resumed') ORDER BY id DESC LIMIT 1"
)
_SET_REASON = "UPDATE jobs SET reason_code = ?, reason = ?, reason_data = ? WHERE id = ?"


def pause(connection: Connection, reasons: Iterable[tuple[int, Reason]], now: float) -> list[int]:
    """Record that running jobs are to be paused; return those that are now. Inside `writing`.

    Args:
        connection: to the queue.
        reasons: of each job, what is to be said of its pause.
        now: seconds since 1970.
    """
    paused = []
    for job, reason in reasons:
        changed = connection.execute(
            "UPDATE jobs SET paused = ? WHERE id = ? AND state = 'running' AND paused IS NULL"
            " AND wish = ''",
            (now, job),
        )
        if changed.rowcount == 1:
            connection.execute(_SET_REASON, (*reason_columns(reason), job))
            connection.event(job, State.RUNNING, reason, now)
            paused.append(job)
    return paused


def resume(connection: Connection, jobs: Iterable[int], now: float) -> list[int]:
    """Record that paused jobs go on; return those that do now. Inside `writing`."""
    resumed = []
    for job in jobs:
        row = connection.execute(
            "SELECT paused, attempts FROM jobs WHERE id = ? AND state = 'running'"
            " AND paused IS NOT NULL",
            (job,),
        ).fetchone()
        if row is None:
            continue
        connection.execute(
            "UPDATE attempts SET paused = paused + ? WHERE job = ? AND number = ?",
            (max(0.0, now - row[0]), job, row[1]),
        )
        connection.execute("UPDATE jobs SET paused = NULL WHERE id = ?", (job,))
        if (started := connection.execute(_STARTED, (job,)).fetchone()) is not None:
            connection.execute(_SET_REASON, (*started, job))
        connection.event(job, State.RUNNING, RESUMED, now)
        resumed.append(job)
    return resumed


def paused_jobs(connection: Connection) -> frozenset[int]:
    """Return the running jobs whose programs are to be paused."""
    query = "SELECT id FROM jobs WHERE state = 'running' AND paused IS NOT NULL"
    return frozenset(connection.numbers(query))
