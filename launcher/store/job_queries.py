"""What the screens and the planner ask of the queue."""

import json
import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from launcher.accounts import Account
from launcher.states import Reason, State
from launcher.store.connection import (
    known_code,
    known_record,
    known_state,
    reason_of,
    sources_of,
)
from launcher.store.rows import PILOT_OF, Group, JobRow, job_row
from launcher.store.runs import FirstJobs, Flow, account_of
from launcher.store.selection import selection
from launcher.store.usage import LONGEST_S

_JOBS = (
    "SELECT jobs.*, runs.name AS run_name, runs.root, runs.share, lanes.reason AS lane_reason,"
    " lanes.reason_code AS lane_code, lanes.reason_data AS lane_data,"
    " timers.at AS starts_at FROM jobs JOIN runs ON runs.id = jobs.run"
    " LEFT JOIN lanes ON lanes.id = jobs.lane LEFT JOIN timers ON timers.job = jobs.id"
)
_NAMES = 5000  # names among which a near one is looked for

InOrder = Callable[[Iterable[Flow]], list[int]]


def by_rank(flows: Iterable[Flow]) -> list[int]:
    """Return the numbers of jobs by priority and age, as those of one run start."""
    return [job for _, job in sorted(entry for flow in flows for entry in flow.jobs)]


class JobQueries:
    """The questions; none of them changes anything."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Ask over a connection that a store has opened."""
        self._db = connection

    def jobs(self) -> list[JobRow]:
        """Return all jobs in the order in which they were queued."""
        return self._where("1")

    def jobs_open(self) -> list[JobRow]:
        """Return all jobs that have not ended."""
        return self._where("jobs.state IN ('queued', 'held', 'running')")

    def in_state(self, state: State) -> list[JobRow]:
        """Return all jobs in a state."""
        return self._where("jobs.state = ?", state)

    def of_run(self, name: str) -> list[JobRow]:
        """Return the jobs of all runs with a name, wherever their results lie."""
        return self._where("runs.name = ?", name)

    def in_run(self, run: int, name: str) -> JobRow | None:
        """Return the job of a run that has a name, None where there is none."""
        rows = self._where("jobs.run = ? AND jobs.name = ?", run, name)
        return rows[0] if rows else None

    def settings_of(self, kind: str, name: str, *, but: Iterable[int] = ()) -> set[str]:
        """Return the values that one setting has in the jobs of a kind, some of these jobs aside."""
        rows = self._db.execute(
            "SELECT DISTINCT CASE WHEN json_valid(spec) THEN json_extract(spec, ?2) END FROM jobs"
            " WHERE kind = ?1 AND id NOT IN (SELECT value FROM json_each(?3))",
            (kind, f"$.settings.{name}", _list(but)),
        )
        return {str(value) for (value,) in rows if value is not None}

    def tests(self, *, but: str) -> list[JobRow]:
        """Return the jobs that test a model or make a folder, whose results a table may tell.

        The run `but` has none, and may have a million jobs.
        """
        return self._where(
            "runs.name <> ? AND CASE WHEN json_valid(jobs.spec)"
            " THEN json_extract(jobs.spec, '$.role') IN ('test', 'folder') END",
            but,
        )

    def needed_by(self, job: int) -> list[JobRow]:
        """Return the jobs that must be done before a job."""
        return self._where("jobs.id IN (SELECT need FROM needs WHERE job = ? AND any_end = 0)", job)

    def first_needed_by(self, job: int, most: int) -> list[JobRow]:
        """Return the first of the jobs that must be done before a job, those that are not done before the others."""
        numbers = self._db.execute(
            "SELECT need FROM needs JOIN jobs ON jobs.id = need WHERE job = ? AND any_end = 0"
            " ORDER BY state = 'done', need LIMIT ?",
            (job, most),
        ).fetchall()
        rows = {row.id: row for row in self.jobs_by_id(row["need"] for row in numbers)}
        return [rows[row["need"]] for row in numbers if row["need"] in rows]

    def awaited_by(self, job: int) -> list[JobRow]:
        """Return the jobs that must have ended before a job, done or not."""
        return self._where("jobs.id IN (SELECT need FROM needs WHERE job = ? AND any_end = 1)", job)

    def awaiting(self, job: int) -> list[JobRow]:
        """Return the jobs that wait for the end of a job, done or not."""
        return self._where(
            "jobs.state IN ('queued', 'held')"
            " AND jobs.id IN (SELECT job FROM needs WHERE need = ? AND any_end = 1)",
            job,
        )

    def _where(self, condition: str, *values: object, **named: object) -> list[JobRow]:
        query = f"{_JOBS} WHERE {condition} ORDER BY jobs.id"
        rows = self._db.execute(
            query, named or values
        ).fetchall()  # at once: a reader holds the log
        numbers = {row["sources"] for row in rows}
        sources = {number: sources_of(self._db.execute, number) for number in numbers}
        return [job_row(row, sources[row["sources"]]) for row in rows]

    def jobs_by_id(self, numbers: Iterable[int]) -> list[JobRow]:
        """Return the jobs with these numbers."""
        return self._where("jobs.id IN (SELECT value FROM json_each(?))", _list(numbers))

    def waiting(self, limit: int, in_order: InOrder = by_rank) -> list[JobRow]:
        """Return the first queued jobs in the order in which they would start, then held ones.

        Args:
            limit: at most so many.
            in_order: brings the first jobs of all runs into that order.
        """
        flows = FirstJobs(self._db.execute).flows(limit) if limit else ()
        numbers = in_order(flows)[:limit]
        for state in ("queued", "held"):
            rows = self._db.execute(
                "SELECT id FROM jobs WHERE state = ? AND waits >= ?"
                " ORDER BY waits, priority, run, lane, rank, id LIMIT ?",
                (state, 1 if state == "queued" else 0, limit - len(numbers)),
            )
            numbers += [row["id"] for row in rows]
        rows_by_id = {job.id: job for job in self.jobs_by_id(numbers)}
        return [rows_by_id[number] for number in numbers if number in rows_by_id]

    def ended_lately(self, limit: int) -> list[JobRow]:
        """Return the jobs that ended last, the newest at the end."""
        rows = self._db.execute(
            "SELECT id FROM jobs WHERE ended IS NOT NULL ORDER BY ended DESC LIMIT ?", (limit,)
        )
        jobs = self.jobs_by_id(row["id"] for row in rows)
        return sorted(jobs, key=lambda job: (job.ended or 0.0, job.id))

    def done_lately(self, limit: int) -> list[tuple[JobRow, float, str]]:
        """Return (job, seconds, device) of what is done among the jobs that ended last.

        Args:
            limit: how many of the jobs that ended last are looked at.
        """
        jobs = {job.id: job for job in self.ended_lately(limit) if job.state is State.DONE}
        rows = self._db.execute(
            "SELECT job, attempts.ended - claimed - attempts.paused AS seconds, device FROM attempts"
            " JOIN jobs ON jobs.id = job AND jobs.attempts = number"
            " WHERE job IN (SELECT value FROM json_each(?))"
            " AND json_extract(outcome, '$.ending') = 'done'"
            " AND attempts.ended - claimed - attempts.paused BETWEEN 0 AND ?",  # else a clock was set meanwhile
            (_list(jobs), LONGEST_S),
        )
        return [(jobs[row["job"]], row["seconds"], row["device"]) for row in rows]

    def named(self, pattern: str) -> list[JobRow]:
        """Return the jobs that a pattern means, as `selection` has it."""
        chosen = selection(self._db.execute, pattern)
        return self._where(chosen.condition, selected=chosen.selected)

    def names(self) -> list[str]:
        """Return some names of jobs, the newest jobs' first."""
        rows = self._db.execute("SELECT name FROM jobs ORDER BY id DESC LIMIT ?", (_NAMES,))
        return [row["name"] for row in rows]

    def account(self, root: Path, run: str) -> Account:
        """Return the share of a run, and what it had; one without use where there is no such run yet."""
        return account_of(self._db.execute, root, run)

    def runs(self) -> list[str]:
        """Return the names of all runs."""
        return [row["name"] for row in self._db.execute("SELECT DISTINCT name FROM runs")]

    def dependants_of(self, jobs: Iterable[int]) -> list[JobRow]:
        """Return the open jobs that need one of `jobs` done, directly or not, and are none of them."""
        return self._where(
            "jobs.id IN ("
            "WITH RECURSIVE below(id) AS (SELECT value FROM json_each(?1)"
            " UNION SELECT needs.job FROM below"
            " JOIN needs ON needs.need = below.id AND needs.any_end = 0"
            " JOIN jobs AS one ON one.id = needs.job AND +one.state IN ('queued', 'held'))"
            " SELECT id FROM below EXCEPT SELECT value FROM json_each(?1))",
            _list(jobs),
        )

    def groups(self) -> list[Group]:
        """Return the groups that have a limit."""
        rows = self._db.execute("SELECT name, slots FROM groups ORDER BY name")
        return [Group(name=row["name"], slots=row["slots"]) for row in rows]

    def waiting_in(self, group: str) -> int:
        """Return how many jobs of a group are queued or held."""
        (number,) = self._db.execute(
            "SELECT count(*) FROM jobs WHERE state IN ('queued', 'held') AND lane IN"
            " (SELECT id FROM lanes WHERE CASE WHEN json_valid(key)"
            " THEN json_extract(key, '$.group') = ? END)",
            (group,),
        ).fetchone()
        return int(number)

    def ended_before(self, at: float, states: Iterable[State]) -> list[JobRow]:
        """Return the jobs that ended as one of `states` before a time, the oldest end first."""
        return self._where(
            "jobs.ended < ? AND jobs.state IN (SELECT value FROM json_each(?))",
            at,
            json.dumps([str(state) for state in states]),
        )

    def jobs_of(self, root: Path, run: str) -> dict[str, JobRow]:
        """Return the jobs of a run by name."""
        jobs = self._where("runs.root = ? AND runs.name = ?", str(root), run)
        return {job.name: job for job in jobs}

    def events_after(self, last: int) -> list[tuple[int, float, int, State, str]]:
        """Return (id, time, job, state, reason) of every event after number `last`."""
        rows = self._db.execute("SELECT * FROM events WHERE id > ? ORDER BY id", (last,))
        return [
            (row["id"], row["at"], row["job"], known_state(row["state"]), row["reason"])
            for row in rows
        ]

    def last_event(self) -> int:
        """Return the number of the newest event, 0 when there is none."""
        (last,) = self._db.execute("SELECT coalesce(max(id), 0) FROM events").fetchone()
        return int(last)

    def events_of(self, job: int) -> list[tuple[float, State, Reason]]:
        """Return (time, state, reason) of everything that happened to a job."""
        rows = self._db.execute(
            "SELECT at, state, reason_code, reason, reason_data FROM events"
            " WHERE job = ? ORDER BY id",
            (job,),
        )
        return [
            (at, known_state(state), reason_of(code, text, data))
            for at, state, code, text, data in rows
        ]

    def attempts_of(self, job: int) -> list[dict[str, Any]]:
        """Return a job's attempts as records: number, device, claimed, ended, outcome and its code, memory, pilot."""
        rows = self._db.execute(
            "SELECT number, device, cpus, claimed, ended, paused, outcome, reason_code, claim, lone, peak,"
            f" {PILOT_OF} AS pilot FROM attempts WHERE job = ? ORDER BY number",
            (job,),
        )
        return [
            {
                **dict(row),
                "outcome": known_record(row["outcome"]) if row["outcome"] else None,
                "reason_code": known_code(row["reason_code"]) if row["outcome"] else None,
            }
            for row in rows
        ]

    def needs_of(self, job: int) -> list[str]:
        """Return the names of the jobs that must be done before a job."""
        rows = self._db.execute(
            "SELECT jobs.name FROM needs JOIN jobs ON jobs.id = needs.need"
            " WHERE needs.job = ? AND any_end = 0 ORDER BY jobs.id",
            (job,),
        )
        return [row["name"] for row in rows]

    def folder_of(self, job: int) -> str:
        """Return the folder in which a job's program begins."""
        row = self._db.execute(
            "SELECT body FROM contexts JOIN jobs ON context = contexts.id WHERE jobs.id = ?", (job,)
        ).fetchone()
        return str(known_record(row["body"]).get("folder", "")) if row else ""

    def result_of(self, job: int) -> dict[str, Any] | None:
        """Return what a job's entry function returned when it was last done."""
        row = self._db.execute("SELECT body FROM results WHERE job = ?", (job,)).fetchone()
        return known_record(row["body"]) if row else None

    def counts(self, run: int | None = None) -> dict[State, int]:
        """Return how many jobs are in each state, of one run or of all; no row is scanned."""
        where, values = ("WHERE run = ?", (run,)) if run is not None else ("", ())
        rows = self._db.execute(
            f"SELECT state, sum(n) AS n FROM counters {where} GROUP BY state", values
        )
        counts: dict[State, int] = {}
        for row in rows:
            state = known_state(row["state"])
            counts[state] = counts.get(state, 0) + row["n"]
        return counts

    def data_version(self) -> int:
        """Return a number that changes when another connection has written."""
        (version,) = self._db.execute("PRAGMA data_version").fetchone()
        return int(version)


def _list(numbers: Iterable[int]) -> str:
    return json.dumps(list(numbers))
