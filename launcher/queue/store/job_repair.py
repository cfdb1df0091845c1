"""End of queued jobs that cannot be read."""

from collections.abc import Iterable

from launcher.queue.jobs.states import FAILED_PREFIX, Reason, ReasonCode, State
from launcher.queue.store.connection import Connection

UNREADABLE_ADVICE = (
    "A newer launcher may have queued it. Update this launcher and run `launcher retry`, "
    "or queue the job again"
)


def fail_unreadable(db: Connection, job: int, why: str, now: float) -> None:
    """Fail a job that cannot be understood, so that the others go on. Inside `writing`."""
    text = f"{FAILED_PREFIX}cannot read the job: {why}. {UNREADABLE_ADVICE}"
    reason = Reason(code=ReasonCode.UNREADABLE, text=text)
    if db.move_to_state(job, State.FAILED, reason, now, allowed_states=(State.QUEUED, State.HELD)):
        db.propagate_end(job, State.FAILED, now)


def fail_unreadable_lanes(db: Connection, lanes: Iterable[tuple[int, str]], now: float) -> None:
    """Fail the queued jobs of lanes that cannot be understood, each with the reason. Inside `writing`."""
    for lane, why in lanes:
        jobs = db.query_numbers("SELECT id FROM jobs WHERE lane = ? AND state = 'queued'", lane)
        for job in jobs:
            fail_unreadable(db, job, why, now)
