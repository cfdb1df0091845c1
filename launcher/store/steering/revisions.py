"""Other settings and terms of a job that waits or has ended, written if nothing happened to it meanwhile."""

from dataclasses import dataclass, replace

from launcher.context import read_context
from launcher.errors import UsageError
from launcher.job import Spec, SpecWriter
from launcher.states import OPEN, Reason
from launcher.store.connection import Connection
from launcher.store.lanes import lane_of, read_lane
from launcher.store.rows import JobRow
from launcher.store.user_actions import rank_of
from launcher.system.stored_fields import Unreadable, parsed


class Meanwhile(UsageError):
    """A job has changed since its owner looked at it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedJob:
    """A job as its owner wants it."""

    row: JobRow  # as it was when that was worked out
    spec: Spec
    reason: Reason  # what was changed
    hashes: tuple[tuple[JobRow, str], ...] = ()  # the new ones of jobs that read what it makes


def write_change(connection: Connection, changed: ChangedJob, now: float) -> None:
    """Write a job's new spec, its lane, its timer, and the hashes that follow. Inside `writing`.

    Raises:
        Meanwhile: it, or a job that needs it, is not any more as it was.
    """
    row, spec = changed.row, changed.spec
    # else the one that `launcher priority` may have given it meanwhile stays
    priority = None if spec.priority == row.priority else spec.priority
    number = connection.execute(
        "UPDATE jobs SET spec = ?, sources = ?, hash = ?, priority = coalesce(?, priority),"
        " rank = coalesce(?, rank), lane = ?"
        " WHERE id = ? AND state = ? AND attempts = ? AND spec = ? AND hash = ?",
        (
            SpecWriter().text(spec, sources=False),
            connection.sources_number(spec.sources),
            spec.hash,
            priority,
            None if priority is None else rank_of(row.submitted, priority),
            _lane(connection, row, spec),
            *(row.id, row.state, row.attempts, row.spec_text, row.hash),
        ),
    ).rowcount
    if number != 1:
        state = connection.state_of(row.id)
        what = "is gone" if state is None else f"is {state} now"
        if state == row.state:
            what = "was changed"
        raise Meanwhile(f"job {row.id} {what}: nothing was changed; look at it, and try again")
    if row.state in OPEN:  # of one that has ended, the event is that it is queued again
        connection.event(row.id, row.state, changed.reason, now)
        _set_timer(connection, row, spec)
    for dependant, text in changed.hashes:
        followed = connection.execute(
            "UPDATE jobs SET hash = ? WHERE id = ? AND state = ? AND hash = ?",
            (text, dependant.id, dependant.state, dependant.hash),
        )
        if followed.rowcount != 1:
            raise Meanwhile(
                f"{dependant.name} (job {dependant.id}) changed meanwhile, and needs job {row.id}: "
                "nothing was changed; try again"
            )


def _lane(connection: Connection, row: JobRow, spec: Spec) -> int:
    """Return the number of the job's lane, made if it is new; what it turned out to need of a GPU stays."""
    number, key, body = connection.execute(
        "SELECT jobs.lane, lanes.key, contexts.body FROM jobs"
        " JOIN contexts ON contexts.id = jobs.context LEFT JOIN lanes ON lanes.id = jobs.lane"
        " WHERE jobs.id = ?",
        (row.id,),
    ).fetchone()
    try:
        context = read_context(parsed(body, "the record of its surroundings"))
        before = read_lane(key)
    except (Unreadable, TypeError):
        return int(number)  # the scheduler sets the job aside, and says why
    after = replace(lane_of(spec, context), least=before.least).key
    connection.execute("INSERT OR IGNORE INTO lanes (key) VALUES (?)", (after,))
    (lane,) = connection.execute("SELECT id FROM lanes WHERE key = ?", (after,)).fetchone()
    return int(lane)


def _set_timer(connection: Connection, row: JobRow, spec: Spec) -> None:
    """Let the job wait for the time that its owner names; a pause after a failure stays."""
    at = spec.terms.not_before
    if at == row.spec.terms.not_before:
        return
    connection.execute("DELETE FROM timers WHERE job = ? AND since IS NULL", (row.id,))
    start_at(connection, row.id, at)


def start_at(connection: Connection, job: int, at: float | None) -> None:
    """Let a job wait for a time, if one is given. Inside `writing`."""
    if at is not None:
        connection.execute("INSERT OR IGNORE INTO timers (job, at) VALUES (?, ?)", (job, at))
    connection.count_waits([job])
