"""Running jobs: what their owners request, and why one is held up."""

from launcher.queue.jobs.states import Reason, ReasonCode, State
from launcher.queue.store.connection import RESUMED_REASON, Connection, reason_columns
from launcher.queue.store.rows import Claim
from launcher.system.files import read_record


class RunningJobs:
    """The jobs with an attempt whose end is not recorded."""

    def __init__(self, connection: Connection) -> None:
        """Work over a store's connection."""
        self._db = connection

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
