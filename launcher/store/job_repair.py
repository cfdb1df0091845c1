"""Repair of queued jobs that cannot start: a job without a lane gets one, and a job that cannot be read fails."""

from collections.abc import Iterable

from launcher.context import read_context
from launcher.states import FAILED_PREFIX, Reason, ReasonCode, State
from launcher.store.connection import Connection
from launcher.store.lanes import lane_of, rank_of
from launcher.stored_specs import read_spec
from launcher.system.stored_fields import Unreadable, parse_record

UNREADABLE_ADVICE = (
    "A newer launcher may have queued it. Update this launcher and run `launcher retry`, "
    "or queue the job again"
)


def fail_unreadable(db: Connection, job: int, why: str, now: float) -> None:
    """Fail a job that cannot be understood, so that the others go on. Inside `writing`."""
    text = f"{FAILED_PREFIX}cannot read the job: {why}. {UNREADABLE_ADVICE}"
    reason = Reason(code=ReasonCode.UNREADABLE, text=text)
    if db.move_to_state(job, State.FAILED, reason, now, only_from=(State.QUEUED, State.HELD)):
        db.propagate_end(job, State.FAILED, now)


def fail_unreadable_lanes(db: Connection, lanes: Iterable[tuple[int, str]], now: float) -> None:
    """Fail the queued jobs of lanes that cannot be understood, each with the reason. Inside `writing`."""
    for lane, why in lanes:
        jobs = db.query_numbers("SELECT id FROM jobs WHERE lane = ? AND state = 'queued'", lane)
        for job in jobs:
            fail_unreadable(db, job, why, now)


def assign_missing_lanes(db: Connection, now: float) -> None:
    """Give each job that has no lane its lane and its rank. Inside `writing`.

    An older command line puts such jobs in, where it opened the queue before that was brought up
    to date.
    """
    jobs = db.execute(
        "SELECT jobs.id, jobs.spec, jobs.submitted, jobs.priority, contexts.body FROM jobs"
        " JOIN contexts ON contexts.id = jobs.context WHERE jobs.lane = 0"
        " AND jobs.state IN ('queued', 'held', 'running')"
    ).fetchall()
    for number, spec, submitted, priority, context in jobs:
        try:
            stored_context = read_context(parse_record(context, "the record of its surroundings"))
            lane = lane_of(read_spec(parse_record(spec, "its spec")), stored_context)
        except Unreadable as error:
            fail_unreadable(db, number, str(error), now)
            continue
        db.execute("INSERT OR IGNORE INTO lanes (key) VALUES (?)", (lane.key,))
        db.execute(
            "UPDATE jobs SET rank = ?, lane = (SELECT id FROM lanes WHERE key = ?) WHERE id = ?",
            (rank_of(submitted, priority), lane.key, number),
        )
