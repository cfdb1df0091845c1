"""What the screens and the planner ask of the queue."""

import json
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from launcher.states import State
from launcher.store.rows import JobRow, job_row

_JOBS = "SELECT jobs.*, runs.name AS run_name, runs.root FROM jobs JOIN runs ON runs.id = jobs.run"


class Reading:
    """The questions; none of them changes anything."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Ask over a connection that a store has opened."""
        self._db = connection

    def jobs(self, where: str = "1", values: Sequence[Any] = ()) -> list[JobRow]:
        """Return jobs in the order in which they were queued."""
        rows = self._db.execute(f"{_JOBS} WHERE {where} ORDER BY jobs.id", values)
        return [job_row(row) for row in rows]

    def jobs_open(self) -> list[JobRow]:
        """Return all jobs that have not ended."""
        return self.jobs("jobs.state IN ('queued', 'held', 'running')")

    def jobs_by_id(self, numbers: Iterable[int]) -> list[JobRow]:
        """Return the jobs with these numbers."""
        return self.jobs(
            "jobs.id IN (SELECT value FROM json_each(?))", (json.dumps(list(numbers)),)
        )

    def jobs_page(self, where: str, limit: int) -> list[JobRow]:
        """Return the first `limit` matching jobs, or the last ones when `limit` is negative."""
        order = "jobs.id" if limit >= 0 else "jobs.ended DESC, jobs.id DESC"
        rows = self._db.execute(f"{_JOBS} WHERE {where} ORDER BY {order} LIMIT ?", (abs(limit),))
        found = [job_row(row) for row in rows]
        return found if limit >= 0 else found[::-1]

    def jobs_of(self, root: Path, run: str) -> dict[str, JobRow]:
        """Return the jobs of a run by name."""
        found = self.jobs("runs.root = ? AND runs.name = ?", (str(root), run))
        return {job.name: job for job in found}

    def events_after(self, last: int) -> list[tuple[int, float, int, State, str]]:
        """Return (id, time, job, state, reason) of every event after number `last`."""
        rows = self._db.execute("SELECT * FROM events WHERE id > ? ORDER BY id", (last,))
        return [
            (row["id"], row["at"], row["job"], State(row["state"]), row["reason"]) for row in rows
        ]

    def last_event(self) -> int:
        """Return the number of the newest event, 0 when there is none."""
        (last,) = self._db.execute("SELECT coalesce(max(id), 0) FROM events").fetchone()
        return int(last)

    def events_of(self, job: int) -> list[tuple[float, State, str]]:
        """Return (time, state, reason) of everything that happened to a job."""
        rows = self._db.execute(
            "SELECT at, state, reason FROM events WHERE job = ? ORDER BY id", (job,)
        )
        return [(row["at"], State(row["state"]), row["reason"]) for row in rows]

    def attempts_of(self, job: int) -> list[dict[str, Any]]:
        """Return a job's attempts as records: number, device, claimed, ended, outcome."""
        rows = self._db.execute(
            "SELECT number, device, cpus, claimed, ended, outcome FROM attempts"
            " WHERE job = ? ORDER BY number",
            (job,),
        )
        return [
            {**dict(row), "outcome": json.loads(row["outcome"]) if row["outcome"] else None}
            for row in rows
        ]

    def needs_of(self, job: int) -> list[str]:
        """Return the names of the jobs that a job needs."""
        rows = self._db.execute(
            "SELECT jobs.name FROM needs JOIN jobs ON jobs.id = needs.need"
            " WHERE needs.job = ? ORDER BY jobs.id",
            (job,),
        )
        return [row["name"] for row in rows]

    def result_of(self, job: int) -> dict[str, Any] | None:
        """Return what a job's entry function returned when it was last done."""
        row = self._db.execute("SELECT body FROM results WHERE job = ?", (job,)).fetchone()
        return json.loads(row["body"]) if row else None

    def counts(self, run: int | None = None) -> dict[State, int]:
        """Return how many jobs are in each state, of one run or of all; no row is scanned."""
        where, values = ("WHERE run = ?", (run,)) if run is not None else ("", ())
        rows = self._db.execute(
            f"SELECT state, sum(n) AS n FROM counters {where} GROUP BY state", values
        )
        return {State(row["state"]): row["n"] for row in rows}

    def data_version(self) -> int:
        """Return a number that changes when another connection has written."""
        (version,) = self._db.execute("PRAGMA data_version").fetchone()
        return int(version)
