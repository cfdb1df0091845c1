"""Consequences of the end of an attempt for its job and for the dependents of the job."""

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple, assert_never

from launcher.queue.jobs.context import named_files
from launcher.queue.jobs.job import LONGEST_BACKOFF_S
from launcher.queue.jobs.states import (
    FAILED_PREFIX,
    Done,
    Failed,
    Lost,
    NeverStarted,
    Outcome,
    OutOfMemory,
    Reason,
    ReasonCode,
    State,
    Stopped,
    is_signal,
    outcome_record,
)
from launcher.queue.store.connection import NOT_STARTS, Connection, reason_columns
from launcher.queue.store.failure_limits import hold_siblings
from launcher.queue.store.lanes import read_lane
from launcher.queue.store.output_conflicts import release_jobs_waiting_for
from launcher.queue.store.rows import Claim
from launcher.queue.store.runs import charge_run
from launcher.queue.store.usage import NOT_MEASURED, MeasuredUsage
from launcher.queue.store.usage_records import UsageRecords
from launcher.system.files import Json
from launcher.system.stored_fields import Unreadable
from launcher.system.units import exponential_backoff_s, format_seconds

REQUEUE_LIMIT = 20  # a job that fails this often without its fault will not be done by itself
LOST_LIMIT = 5  # a job whose end was lost this often probably kills its machine
NOT_STARTED_BACKOFF_S = 1.0  # seconds between attempts that could not be started
# seconds after a signal to a supervisor: a machine that goes down ends us, too
SIGNALLED_BACKOFF_S = 2.0


CANCEL = "cancel"  # the wish of an owner
PRUNE = "prune"  # the wish of a search that ends a job early
END_OF_SEARCH = "end-of-search"  # the wish of a search that has ended
QUEUED_AGAIN = "Queued again"
NOT_QUEUED_AGAIN = ", not queued again (rerun: never)"


class RequeueDecision(NamedTuple):
    """Why an attempt that did not end well is not held against its job, and what follows."""

    reason: Reason
    follow_up_text: str = QUEUED_AGAIN  # text on what follows, unless the job has failed
    vram: int | None = None  # bytes that the next attempt gets at least, on each GPU
    backoff_s: float = 0.0  # seconds before the next attempt; doubles each time
    # this machine can never give the job what it needs: the job fails
    is_unsatisfiable: bool = False
    exclusive: bool = False  # the next attempt shares its GPUs with no other job
    # attempts with this reason; at the last of them the job fails
    max_attempts: int = REQUEUE_LIMIT


CANCELLED_REASON = Reason(code=ReasonCode.CANCELLED, text="cancelled by its owner")
SEARCH_ENDED_REASON = Reason(code=ReasonCode.SEARCH_ENDED, text="ended by its search")


class Transitions:
    """Moves jobs on when an attempt has ended; all of it inside one transaction."""

    def __init__(self, connection: Connection, usage_records: UsageRecords) -> None:
        """Work over a store's connection.

        Args:
            connection: connection to the queue.
            usage_records: receive the usage of the attempts.
        """
        self._db, self._usage_records = connection, usage_records

    def finish_attempt(
        self,
        claim: Claim,
        outcome: Outcome,
        *,
        outputs: Mapping[str, Sequence[int | str]],
        now: float,
        measured_usage: MeasuredUsage = NOT_MEASURED,
        requeue: RequeueDecision | None = None,
        remark: str = "",
    ) -> State | None:
        """Take in how an attempt ended, and what follows for the job and those that need it.

        Args:
            claim: the attempt. It may have been claimed at another time if the clock was set since.
            outcome: its end.
            outputs: records of the files that it has written (`FileVersion.to_json`), by path.
            now: seconds since 1970.
            measured_usage: what was seen of it on its GPUs.
            requeue: given where it did not end well and its job is not to blame.
            remark: what its reason says in addition.

        Returns the job's new state, or None when this end was taken in before.
        """
        if isinstance(outcome, NeverStarted) and outcome.blamed_on == "machine":
            return self._revert_claim(claim, outcome, now)
        record = json.dumps(outcome_record(outcome))
        with self._db.writing():
            taken = self._db.execute(
                "UPDATE attempts SET outcome = ?1, claimed = ?6, ended = ?2, peak = ?3, paused = paused + coalesce("
                "(SELECT max(0, ?2 - jobs.paused) FROM jobs WHERE id = ?4), 0)"
                " WHERE job = ?4 AND number = ?5 AND outcome IS NULL RETURNING paused",
                (record, outcome.at, measured_usage.peak, claim.job, claim.number, claim.claimed),
            ).fetchone()
            if taken is None:
                return None
            measured_usage = measured_usage.with_pause(float(taken[0]))
            certain = requeue is not None and requeue.exclusive
            self._usage_records.record(claim, outcome, measured_usage, certain=certain)
            charge_run(self._db, claim, outcome, measured_usage)
            return self._apply_outcome(
                claim, outcome, outputs=outputs, now=now, requeue=requeue, remark=remark
            )

    def _apply_outcome(
        self,
        claim: Claim,
        outcome: Outcome,
        *,
        outputs: Mapping[str, Sequence[int | str]],
        now: float,
        requeue: RequeueDecision | None,
        remark: str = "",
    ) -> State:
        """Bring a job, and those that need it, to their next states; return its own."""
        state, reason = self._next_state(claim, outcome, now, requeue)
        if remark:
            reason = reason._replace(text=f"{reason.text}; {remark}")
        if state is State.FAILED:
            reason = reason._replace(text=f"{FAILED_PREFIX}{reason.text}")
        code, _, data = reason_columns(reason)
        self._db.execute(
            "UPDATE attempts SET reason_code = ?, reason_data = ? WHERE job = ? AND number = ?",
            (code, data, claim.job, claim.number),
        )
        if self._db.move_to_state(claim.job, state, reason, now, allowed_states=(State.RUNNING,)):
            release_jobs_waiting_for(self._db, claim.job)
            self._record_end(claim, state, outcome, outputs, now)
            if state is State.FAILED:
                hold_siblings(self._db, claim, now)
        return state

    def _revert_claim(self, claim: Claim, outcome: NeverStarted, now: float) -> State | None:
        """Undo a claim that this machine could not start, without a trace: it may be tried for hours."""
        with self._db.writing():
            undone = self._db.execute(
                "DELETE FROM attempts WHERE job = ? AND number = ? AND outcome IS NULL",
                (claim.job, claim.number),
            )
            if undone.rowcount != 1:
                return None
            self._db.execute(
                "UPDATE jobs SET attempts = attempts - 1 WHERE id = ? AND attempts = ?",
                (claim.job, claim.number),
            )
            self._db.execute(
                "DELETE FROM events WHERE job = ?1 AND (reason_code = ?2 OR id ="
                " (SELECT max(id) FROM events WHERE job = ?1 AND state = 'running'"
                f" AND reason_code NOT IN {NOT_STARTS}))",
                (claim.job, ReasonCode.CANNOT_START),
            )
            return self._apply_outcome(claim, outcome, outputs={}, now=now, requeue=None)

    def _next_state(
        self, claim: Claim, outcome: Outcome, now: float, requeue: RequeueDecision | None
    ) -> tuple[State, Reason]:
        """Return a job's next state and its reason; counts what it has behind it."""
        if isinstance(outcome, Done):
            return State.DONE, Reason(code=ReasonCode.DONE, text="done")
        wish, failures, lost, requeued = self._db.execute(
            "SELECT wish, failures, lost, excused FROM jobs WHERE id = ?", (claim.job,)
        ).fetchone()
        if wish == CANCEL:
            return State.CANCELLED, CANCELLED_REASON
        if wish == END_OF_SEARCH:
            return State.CANCELLED, SEARCH_ENDED_REASON
        if wish == PRUNE:
            text = "pruned: its steps were worse than those of other trials"
            return State.DONE, Reason(code=ReasonCode.PRUNED, text=text)
        if requeue is not None:
            return self._after_requeue(claim, requeue, requeued, now)
        match outcome:
            case Failed() | OutOfMemory():
                self._increment_counter(claim.job, "failures")
                return self._after_failure(claim, outcome, failures, now)
            case Stopped(by=by):
                return self._after_stop(claim, by, now)
            case NeverStarted(blamed_on="machine", why=why):
                text = f"this machine could not start it: {why}. {QUEUED_AGAIN}"
                return State.QUEUED, Reason(code=ReasonCode.CANNOT_START, text=text)
            case NeverStarted():
                if self._was_void_before(claim):
                    self._set_backoff(claim.job, NOT_STARTED_BACKOFF_S, now)
                return State.QUEUED, Reason(
                    code=ReasonCode.NOT_STARTED, text=f"not started. {QUEUED_AGAIN}"
                )
            case Lost(why=why):
                self._increment_counter(claim.job, "lost")
                return _after_loss(claim, why, lost + 1)
            case _:
                assert_never(outcome)

    def _after_stop(self, claim: Claim, ender: str, now: float) -> tuple[State, Reason]:
        text = "stopped" if not ender else f"stopped by {ender}" if is_signal(ender) else ender
        data: dict[str, Json] = {"by": ender} if ender else {}
        if claim.spec.terms.rerun == "never":
            text = f"{text}{NOT_QUEUED_AGAIN}"
            return State.FAILED, Reason(code=ReasonCode.STOPPED, text=text, data=data)
        if ender:
            self._set_backoff(claim.job, SIGNALLED_BACKOFF_S, now)
        text, data = f"{text}. {QUEUED_AGAIN}", data | {"requeued": True}
        return State.QUEUED, Reason(code=ReasonCode.STOPPED, text=text, data=data)

    def _after_requeue(
        self, claim: Claim, requeue: RequeueDecision, earlier_requeues: int, now: float
    ) -> tuple[State, Reason]:
        """Queue a job again whose attempt failed without its fault; not for ever."""
        self._increment_counter(claim.job, "excused")
        reason = requeue.reason
        if requeue.is_unsatisfiable:
            return State.FAILED, reason
        (alike,) = self._db.execute(
            "SELECT count(*) FROM attempts WHERE job = ? AND number < ? AND reason_code = ?",
            (claim.job, claim.number, reason.code),
        ).fetchone()
        if earlier_requeues + 1 >= REQUEUE_LIMIT or alike + 1 >= requeue.max_attempts:
            number = earlier_requeues + 1 if requeue.max_attempts == REQUEUE_LIMIT else alike + 1
            times = f" ({number} times)"
            short = reason.data.get("short")
            data = {**reason.data, "short": f"{short}{times}"} if short else reason.data
            return State.FAILED, reason._replace(text=f"{reason.text}{times}", data=data)
        if requeue.vram is not None or requeue.exclusive:
            self._raise_vram_request(claim.job, requeue.vram or 0, exclusive=requeue.exclusive)
        if requeue.backoff_s:
            pause_s = exponential_backoff_s(requeue.backoff_s, earlier_requeues, LONGEST_BACKOFF_S)
            self._set_backoff(claim.job, pause_s, now)
        text = f"{reason.text}. {requeue.follow_up_text}"
        return State.QUEUED, reason._replace(text=text, data={**reason.data, "requeued": True})

    def _raise_vram_request(self, job: int, vram_bytes: int, *, exclusive: bool) -> None:
        """Reserve more memory of a GPU for a job from now on, or all of it: it goes to another lane."""
        row = self._db.execute(
            "SELECT key FROM lanes JOIN jobs ON lane = lanes.id WHERE jobs.id = ?", (job,)
        ).fetchone()
        # an older launcher inserted the job; the job gets its lane before it starts again
        if row is None:
            return
        try:
            lane = read_lane(row[0])
        except Unreadable:
            # a newer version wrote the job, which is set aside before it starts again
            return
        key = lane._replace(
            least_vram=max(lane.least_vram, vram_bytes),
            made_exclusive=lane.made_exclusive or exclusive,
        ).key
        self._db.execute("INSERT OR IGNORE INTO lanes (key) VALUES (?)", (key,))
        self._db.execute(
            "UPDATE jobs SET lane = (SELECT id FROM lanes WHERE key = ?) WHERE id = ?", (key, job)
        )

    def _after_failure(
        self, claim: Claim, outcome: Failed | OutOfMemory, failures: int, now: float
    ) -> tuple[State, Reason]:
        terms = claim.spec.terms
        if failures >= terms.retries:
            return State.FAILED, _failure_reason(outcome)
        pause_s = exponential_backoff_s(terms.backoff_s, failures, LONGEST_BACKOFF_S)
        self._set_backoff(claim.job, pause_s, now)
        tries = f"retry {failures + 1} of {terms.retries} after {format_seconds(pause_s)}: "
        counts = {"retry": failures + 1, "retries": terms.retries, "pause_s": pause_s}
        reason = _failure_reason(outcome, earlier_reason=tries, **counts)
        return State.QUEUED, reason._replace(text=f"waiting for {reason.text}")

    def _set_backoff(self, job: int, span_s: float, now: float) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO timers (job, at, since) VALUES (?, ?, ?)",
            (job, now + span_s, now),
        )
        self._db.recount_waits([job])

    def _was_void_before(self, claim: Claim) -> bool:
        """Whether the previous attempt was not started either, because there was no room or no process."""
        row = self._db.execute(
            "SELECT reason_code FROM attempts WHERE job = ? AND number = ?",
            (claim.job, claim.number - 1),
        ).fetchone()
        return bool(row and row[0] == ReasonCode.NOT_STARTED)

    def _increment_counter(self, job: int, column: str) -> None:
        self._db.execute(f"UPDATE jobs SET {column} = {column} + 1 WHERE id = ?", (job,))

    def _record_end(
        self,
        claim: Claim,
        state: State,
        outcome: Outcome,
        outputs: Mapping[str, Sequence[int | str]],
        now: float,
    ) -> None:
        job = claim.job
        if state is State.DONE and isinstance(outcome, Done):
            # result of an earlier attempt, or of another folder
            self._db.execute("DELETE FROM results WHERE job = ?", (job,))
            if outcome.result:
                self._db.execute(
                    "INSERT INTO results VALUES (?, ?, ?)",
                    (job, outcome.at, json.dumps(dict(outcome.result))),
                )
            if not claim.spec.entry and (outcome.files or claim.number > 1):
                named = zip(named_files(claim.spec), outcome.files, strict=False)
                number = self._db.ensure_sources({name: digest for name, digest in named if digest})
                self._db.execute("UPDATE jobs SET sources = ? WHERE id = ?", (number, job))
            if outputs:
                self._db.execute(
                    "UPDATE jobs SET outputs = ? WHERE id = ?", (json.dumps(dict(outputs)), job)
                )
            self._db.execute(
                "UPDATE jobs SET waits = waits - 1"
                " WHERE id IN (SELECT job FROM needs WHERE need = ?) AND waits > 0",
                (job,),
            )
            return
        if state is State.DONE:  # pruned: jobs that need this job cannot start
            state = State.CANCELLED
        if state in {State.FAILED, State.CANCELLED}:
            self._db.propagate_end(job, state, now)


def _failure_reason(
    outcome: Failed | OutOfMemory, *, earlier_reason: str = "", **counts: Json
) -> Reason:
    """Return why a program failed; `earlier_reason` stands before its error."""
    data = counts
    if outcome.exception:
        data = data | {"short": f"{earlier_reason}{outcome.exception}"}
    text = f"{earlier_reason}{outcome.error}"
    if isinstance(outcome, OutOfMemory):
        data = data | {"where": outcome.report.where}
        return Reason(code=ReasonCode.OUT_OF_MEMORY, text=text, data=data)
    code = ReasonCode.TIME_LIMIT if outcome.over_limit else ReasonCode.FAILED
    return Reason(code=code, text=text, data=data)


def _after_loss(claim: Claim, why: str, times: int) -> tuple[State, Reason]:
    """Return what follows for a job of which so many ends were lost."""
    if claim.spec.terms.rerun == "never":
        text = f"lost ({why}){NOT_QUEUED_AGAIN}"
        return State.FAILED, Reason(code=ReasonCode.LOST, text=text)
    if times >= LOST_LIMIT:
        text = f"lost {times} times, most recently ({why})"
        return State.FAILED, Reason(code=ReasonCode.LOST, text=text)
    text = f"lost ({why}). {QUEUED_AGAIN}"
    return State.QUEUED, Reason(code=ReasonCode.LOST, text=text, data={"requeued": True})
