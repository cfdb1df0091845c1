"""Holds queued jobs if too many of the jobs that were queued with them fail.

Siblings are the jobs of a run that one command queued together, with the same `max_failures`. Everything is read from
the database in the transaction that records a failure. So a killed scheduler forgets no failure, and two schedulers
count each one once.
"""

from typing import Any

from launcher.queue.jobs.job import FUNCTION
from launcher.queue.jobs.states import FAILED_PREFIX, Reason, ReasonCode, State
from launcher.queue.store.connection import Connection, known_code
from launcher.queue.store.failure_groups import ERROR_LENGTH, without_numbers
from launcher.queue.store.rows import Claim
from launcher.system.errors import pluralize

FIRST_FAILURES = 5  # with one cause, before any sibling is done: a mistake in the command
_SIBLINGS = (  # a damaged spec has no limit
    "run = :run AND submitted = :submitted AND :limit IS"
    " CASE WHEN json_valid(spec) THEN json_extract(spec, '$.terms.max_failures') END"
)
# an index contains failed jobs only: a sweep may have thousands that are done
_FAILED = f"FROM jobs WHERE {_SIBLINGS} AND state = 'failed'"
_FIRST_FAILED = f"SELECT reason_code, reason {_FAILED} ORDER BY ended LIMIT {FIRST_FAILURES + 1}"
_COUNT_FAILED = f"SELECT count(*) {_FAILED} AND ended >= :since"
# only jobs that ended after they were queued can be siblings: an index finds those
_FIRST_DONE = (
    f"SELECT 1 FROM jobs WHERE ended >= :submitted AND {_SIBLINGS} AND +state = 'done' LIMIT 1"
)
_FAILED_IN_RUN = f"SELECT n FROM counters WHERE run = ? AND state = '{State.FAILED}'"
_LAST_RELEASE = (
    "SELECT events.at FROM events CROSS JOIN jobs ON jobs.id = events.job"
    f" WHERE events.reason_code = '{ReasonCode.RELEASED}' AND {_SIBLINGS} ORDER BY events.at DESC LIMIT 1"
)
_QUEUED = f"SELECT id FROM jobs WHERE {_SIBLINGS} AND state = 'queued' ORDER BY id"


def hold_siblings(db: Connection, claim: Claim, now: float) -> list[int]:
    """Hold the queued siblings of a job that has failed if there are too many failures; return the held jobs.

    Must be called inside the transaction that records the failure.

    Args:
        db: Connection to the queue.
        claim: The attempt that failed.
        now: Seconds since 1970.
    """
    limit = claim.spec.terms.max_failures
    # the caller of a function sees failures
    if limit == 0 or (limit is None and claim.spec.kind == FUNCTION):
        return []
    run, submitted, code, text = db.execute(
        "SELECT run, submitted, reason_code, reason FROM jobs WHERE id = ?", (claim.job,)
    ).fetchone()
    siblings = {"run": run, "submitted": submitted, "limit": limit}
    if limit is None:
        number, which = _count_same_first(db, siblings), " with one cause ("
    else:
        number, which = _count_too_many(db, siblings, limit), " (most recent: "
    if not number:
        return []
    what = f"{pluralize(number, 'failure')}{which}{_first_line(text)})"
    reason = Reason(
        code=ReasonCode.FAILURE_LIMIT,
        text=f"held after {what}",
        data={"failures": number, "job": claim.job, "cause": code},
    )
    queued = [row[0] for row in db.execute(_QUEUED, siblings)]
    return [
        job
        for job in queued
        if db.move_to_state(job, State.HELD, reason, now, allowed_states=(State.QUEUED,))
    ]


def _count_same_first(db: Connection, siblings: dict[str, Any]) -> int:
    """Return FIRST_FAILURES if exactly so many siblings have ended, all with the same failure; otherwise 0."""
    failed = db.execute(_FIRST_FAILED, siblings).fetchall()
    causes = {(known_code(code), without_numbers(_first_line(text))) for code, text in failed}
    if len(failed) != FIRST_FAILURES or len(causes) != 1:
        return 0
    return 0 if db.execute(_FIRST_DONE, siblings).fetchone() else FIRST_FAILURES


def _count_too_many(db: Connection, siblings: dict[str, Any], limit: int) -> int:
    """Return the number of failed siblings since they were last released if it reaches the limit; otherwise 0."""
    since = siblings["submitted"]
    counted_row = db.execute(_FAILED_IN_RUN, (siblings["run"],)).fetchone()
    if counted_row is None or counted_row[0] < limit:
        return 0  # found without reading the jobs that have ended
    (failed,) = db.execute(_COUNT_FAILED, {**siblings, "since": since}).fetchone()
    if failed < limit:
        return 0
    if (release := db.execute(_LAST_RELEASE, siblings).fetchone()) is not None:
        counted = {**siblings, "since": max(since, release[0])}
        (failed,) = db.execute(_COUNT_FAILED, counted).fetchone()
    return int(failed) if failed >= limit else 0


def _first_line(reason: str) -> str:
    return reason.removeprefix(FAILED_PREFIX).partition("\n")[0][:ERROR_LENGTH]
