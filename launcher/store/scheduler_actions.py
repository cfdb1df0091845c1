"""The scheduler's side of the queue: how attempts ended, why jobs wait, whose time has come."""

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from launcher.states import NeverStarted, Outcome, Reason, ReasonCode, State, outcome_record
from launcher.store.claims import Claims
from launcher.store.connection import RESUMED_REASON, Connection, reason_columns
from launcher.store.gpu_numbers import assign_gpus
from launcher.store.output_conflicts import release_stale_waits
from launcher.store.ready_jobs import ReadyJobs
from launcher.store.rows import PILOT_TOKEN_SQL, Claim
from launcher.store.runs import charge_run
from launcher.store.transitions import RequeueDecision, Transitions
from launcher.store.usage import NOT_MEASURED, MeasuredUsage
from launcher.store.usage_records import UsageRecords
from launcher.system.files import read_record

# attempts that are alike and ended in the same hour are one row; one of more than an hour is a row of its own
_PAST_USAGE = (
    "SELECT attempts.device, attempts.cpus, attempts.claim, attempts.lone,"
    " iif(json_valid(lanes.key), json_extract(lanes.key, '$.resources.ram'), NULL),"
    " min(claimed), max(attempts.ended), sum(attempts.ended - claimed), max(attempts.peak)"
    " FROM attempts JOIN jobs ON jobs.id = attempts.job LEFT JOIN lanes ON lanes.id = jobs.lane"
    " WHERE attempts.ended > ?1 AND attempts.ended <= ?2 AND attempts.ended > claimed"
    f" AND {PILOT_TOKEN_SQL} IS NULL"  # those on pilots took nothing here
    " GROUP BY device, cpus, claim, lone, jobs.lane, CAST(attempts.ended / 3600 AS INTEGER),"
    " CASE WHEN attempts.ended - claimed > 3600 THEN attempts.job || ' ' || attempts.number END"
)


class PastUsage(NamedTuple):
    """Attempts that asked for the same, and ended at about the same time."""

    gpus: tuple[str, ...]
    cpus: int
    reservation: int | None  # bytes on each GPU; None: unknown, or they were its own
    exclusive: bool
    ram: int
    started_at: float  # the first of them, seconds since 1970
    ended_at: float  # the last of them
    seconds: float  # all of them together


class SchedulerActions:
    """Actions of a queue's only scheduler; ready jobs are in `ReadyJobs`, claims in `Claims`."""

    def __init__(self, connection: Connection) -> None:
        """Work over a store's connection."""
        self._db = connection
        self._transitions = Transitions(connection)
        self._usage = UsageRecords(connection)
        self.usage, self.set_local_machines = self._usage.usage, self._usage.set_local_machines
        self._ready_jobs = ReadyJobs(connection, self.usage)
        self.read_ready, self.next_in_class = (
            self._ready_jobs.read_ready,
            self._ready_jobs.next_in_class,
        )
        self.waiting_by_lane, self.repair_unready = (
            self._ready_jobs.waiting_by_lane,
            self._ready_jobs.repair_unready,
        )
        self.lane_of = self._ready_jobs.lane_of
        self._claims = Claims(connection)
        self.claim, self.next_claim = self._claims.claim, self._claims.next_claim
        self.open_claims = self._claims.open_claims

    @property
    def reads_partially(self) -> bool:
        """Whether there are more classes of jobs than `read_ready` has read."""
        return self._ready_jobs.is_partial

    def has_unrecorded_code(self) -> bool:
        """Return whether the code of queued jobs was noted and not recorded yet."""
        query = "SELECT 1 FROM queued_code WHERE records IS NULL LIMIT 1"
        return self._db.execute(query).fetchone() is not None

    def assign_gpus(self, uuids: Mapping[str, str]) -> None:
        """Let open jobs that name a GPU by its number, such as cuda:1, keep the GPU that has it now."""
        assign_gpus(self._db, uuids)

    def release_stale_waits(self) -> None:
        """Let the jobs start that wait for the end of an attempt that has ended."""
        release_stale_waits(self._db)

    def set_vtimes(self, vtimes: Mapping[str, float]) -> None:
        """Set the virtual times of runs that are new among others."""
        with self._db.writing():
            self._db.executemany(
                "UPDATE runs SET vtime = ? WHERE id = ?",
                [(vtime, int(run)) for run, vtime in vtimes.items()],
            )

    def group_limits(self) -> dict[str, int]:
        """Return how many jobs of a group may run at once, where there is a limit; 0 if it is paused."""
        rows = self._db.execute("SELECT name, iif(paused IS NULL, slots, 0) FROM groups")
        return dict(rows.fetchall())

    def record_lane_reasons(self, reasons: Mapping[int, Reason | None]) -> None:
        """Record why the first job of each lane cannot start; None where it can."""
        rows = self._db.execute(
            "SELECT id, reason_code, reason, reason_data FROM lanes"
            " WHERE id IN (SELECT value FROM json_each(?))",
            (json.dumps([*reasons]),),
        )
        before = {int(lane): columns for lane, *columns in rows}
        after = {
            lane: ["", "", None] if reason is None else [*reason_columns(reason)]
            for lane, reason in reasons.items()
        }
        changed = [(*row, lane) for lane, row in after.items() if before.get(lane) != row]
        if changed:
            update = "UPDATE lanes SET reason_code = ?, reason = ?, reason_data = ? WHERE id = ?"
            with self._db.writing():
                self._db.executemany(update, changed)

    def next_attempt(self, job: int) -> int:
        """Return the number of a job's next attempt, as far as the queue knows."""
        row = self._db.execute("SELECT attempts FROM jobs WHERE id = ?", (job,)).fetchone()
        return 1 + (int(row[0]) if row else 0)

    def past_usage(self, since: float, now: float) -> list[PastUsage]:
        """Return what the attempts used that ended between two times; what cannot be is left out."""
        return [
            PastUsage(
                gpus=() if device == "cpu" else tuple(str(device).split(",")),
                cpus=cpus,
                # what was reserved for an estimate followed its use
                reservation=peak if reservation is None and not lone else reservation,
                exclusive=bool(lone),
                ram=ram if isinstance(ram, int) and ram > 0 else 0,
                started_at=began,
                ended_at=ended,
                seconds=seconds,
            )
            for device, cpus, reservation, lone, ram, began, ended, seconds, peak in (
                self._db.execute(_PAST_USAGE, (since, now))
            )
        ]

    def paused_jobs(self) -> frozenset[int]:
        """Return the running jobs whose programs are to be paused."""
        query = "SELECT id FROM jobs WHERE state = 'running' AND paused IS NOT NULL"
        return frozenset(self._db.query_numbers(query))

    def pending_actions(self) -> dict[int, str]:
        """Return what owners ask of running jobs."""
        rows = self._db.execute("SELECT id, wish FROM jobs WHERE state = 'running' AND wish <> ''")
        return {int(job): str(wish) for job, wish in rows}

    def jobs_to_kill(self) -> frozenset[int]:
        """Return the running jobs whose owners have them killed without a grace period."""
        rows = self._db.execute(
            "SELECT id, reason_data FROM jobs WHERE state = 'running' AND wish <> ''"
            " AND reason_code = ?",
            (ReasonCode.ENDING,),
        )
        return frozenset(
            int(job) for job, data in rows if (read_record(data or "") or {}).get("now")
        )

    def record_running_reason(self, job: int, reason: Reason, now: float) -> None:
        """Record what holds up a running job or ends it, unless the same is recorded already."""
        with self._db.writing():
            noted = self._db.execute(
                "UPDATE jobs SET reason_code = ?1, reason = ?2, reason_data = ?3 WHERE id = ?4"
                " AND state = 'running' AND reason <> ?2 AND (reason_code <> ?1 OR ?1 <> ?5)",
                (*reason_columns(reason), job, ReasonCode.ENDING),
            )
            if noted.rowcount == 1:
                self._db.add_event(job, State.RUNNING, reason, now)

    def frozen_jobs(self) -> frozenset[int]:
        """Return the running jobs whose reasons say that their supervisors stand still."""
        query = "SELECT id FROM jobs WHERE state = 'running' AND reason_code = ?"
        return frozenset(self._db.query_numbers(query, ReasonCode.FROZEN))

    def record_continued(self, job: int, now: float) -> None:
        """Record that the supervisor of a running job does not stand still any more."""
        with self._db.writing():
            if job in self.frozen_jobs():
                self._db.restore_start_reason(job)
                self._db.add_event(job, State.RUNNING, RESUMED_REASON, now)

    def paused_s(self, claim: Claim) -> float:
        """Return how long the program of an attempt was paused, in seconds."""
        query = "SELECT paused FROM attempts WHERE job = ? AND number = ?"
        row = self._db.execute(query, claim.key).fetchone()
        return float(row[0]) if row else 0.0

    def finish_attempt(
        self,
        claim: Claim,
        outcome: Outcome,
        *,
        outputs: Mapping[str, Sequence[int | str]],
        now: float,
        measured: MeasuredUsage = NOT_MEASURED,
        requeue: RequeueDecision | None = None,
        remark: str = "",
    ) -> State | None:
        """Take in how an attempt ended, and what follows for the job and those that need it.

        Args:
            claim: the attempt. It may have been claimed at another time if the clock was set since.
            outcome: its end.
            outputs: records of the files that it has written (`FileVersion.record`), by path.
            now: seconds since 1970.
            measured: what was seen of it on its GPUs.
            requeue: given where it did not end well and its job is not to blame.
            remark: what its reason says in addition.

        Returns the job's new state, or None when this end was taken in before.
        """
        if isinstance(outcome, NeverStarted) and outcome.blamed_on == "machine":
            return self._transitions.revert_claim(claim, outcome, now)
        record = json.dumps(outcome_record(outcome))
        with self._db.writing():
            taken = self._db.execute(
                "UPDATE attempts SET outcome = ?1, claimed = ?6, ended = ?2, peak = ?3, paused = paused + coalesce("
                "(SELECT max(0, ?2 - jobs.paused) FROM jobs WHERE id = ?4), 0)"
                " WHERE job = ?4 AND number = ?5 AND outcome IS NULL RETURNING paused",
                (record, outcome.at, measured.peak, claim.job, claim.number, claim.claimed),
            ).fetchone()
            if taken is None:
                return None
            measured = measured.with_pause(float(taken[0]))
            certain = requeue is not None and requeue.exclusive
            self._usage.record(claim, outcome, measured, certain=certain)
            charge_run(self._db, claim, outcome, measured)
            return self._transitions.apply_outcome(
                claim, outcome, outputs=outputs, now=now, requeue=requeue, remark=remark
            )

    def invalidate_caches(self) -> None:
        """Clear the caches after a rolled back transaction."""
        self._ready_jobs.invalidate_caches()
        self._claims.invalidate_caches()
        self._usage.invalidate_caches()

    # --- times

    def release_due_timers(self, now: float) -> float | None:
        """Release jobs whose time has come. Return when the next one is due, None for never.

        A pause that began in the future shows that the clock was set back. It ends, too, because
        otherwise the job might wait for a day.
        """
        soonest, newest = self._db.execute(
            "SELECT (SELECT min(at) FROM timers), (SELECT max(since) FROM timers)"
        ).fetchone()
        if soonest is None:
            return None
        if soonest > now and (newest is None or newest <= now):
            return float(soonest)
        due = self._db.query_numbers("SELECT job FROM timers WHERE at <= ?1 OR since > ?1", now)
        with self._db.writing():
            self._db.executemany("DELETE FROM timers WHERE job = ?", [(job,) for job in due])
            self._db.recount_waits(due)
        (soonest,) = self._db.execute("SELECT min(at) FROM timers").fetchone()
        return None if soonest is None else float(soonest)
