"""Queries of the screens and the planner.

The cost of queries that a screen repeats does not grow with the number of jobs.
"""

import contextlib
import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from launcher.provenance.snapshots.reference import SnapshotReference, read_reference
from launcher.queue.jobs.context import Context, read_context
from launcher.queue.jobs.job import PROGRAM
from launcher.queue.jobs.states import ENDED_STATES, OPEN_STATES, Reason, State
from launcher.queue.store.connection import (
    NOT_STARTS,
    UNMET_DEPENDENCY,
    known_record,
    known_state,
    read_sources,
    reason_of,
)
from launcher.queue.store.job_names import HAS_NEWER_SQL, IS_REPLACED_SQL, newest_by_superseded
from launcher.queue.store.job_selection import SHARED_RUN, find_search_selection, find_selection
from launcher.queue.store.lanes import read_lane
from launcher.queue.store.rows import (
    ATTEMPT_COLUMNS,
    WAS_DONE_SQL,
    AttemptRow,
    GroupLimit,
    JobRow,
    job_row,
)
from launcher.queue.store.runs import JobClass, QueueHeads
from launcher.queue.store.usage import LONGEST_S
from launcher.system.stored_fields import Unreadable, parse_record

_JOB_SELECT = (
    "SELECT jobs.*, runs.name AS run_name, runs.root, runs.share, lanes.reason AS lane_reason,"
    " lanes.reason_code AS lane_code, lanes.reason_data AS lane_data,"
    " timers.at AS starts_at FROM jobs JOIN runs ON runs.id = jobs.run"
    " LEFT JOIN lanes ON lanes.id = jobs.lane LEFT JOIN timers ON timers.job = jobs.id"
)
JOBS_PER_BATCH = 2000  # jobs that are read at once where all are wanted
_SCANNED_NAMES = 5000  # names among which a similar one is searched

REPLACEABLE_STATES = (State.FAILED, State.SKIPPED)
_MOST_REPLACEABLE = 5_000  # jobs, which are read in 20 ms
_SCANNED_EVENTS = 400  # events among which those for a screen are searched
_NO_FAULT = frozenset({"stopped", "void"})  # ends of an attempt that are not failures
_RAN = frozenset({State.DONE, State.FAILED})  # after an attempt; others may end while they wait

JobOrder = Callable[[Iterable[JobClass]], list[int]]


def order_by_rank(job_classes: Iterable[JobClass]) -> list[int]:
    """Return the numbers of jobs by priority and age, as those of one run start."""
    return [job for _, job in sorted(entry for flow in job_classes for entry in flow.jobs)]


class CompletionEvent(NamedTuple):
    """The end of a job, or of an attempt after which its job was queued again."""

    at: float
    job: int
    state: State  # failed, too, where it was queued again; queued, where it had only to stop
    reason: Reason
    seconds: float | None = None  # duration of the attempt


class UnmetDependency(NamedTuple):
    """A job that must still be done before another one."""

    job: int
    name: str
    is_in_other_run: bool = False  # in another run, where names may be the same


class RunProgress(NamedTuple):
    """How far a run is, or all runs of a name."""

    ended: int = 0
    jobs: int = 0
    # cost key → how many are queued; None: there are too many jobs, or one waits for its time
    queued: Mapping[str, int] | None = MappingProxyType({})


class RunTotals(NamedTuple):
    """The jobs of a run in numbers."""

    id: int
    root: str
    name: str
    jobs: int
    last_job: int  # the highest number
    attempts: int
    newest: float  # when the last job ended or was queued
    submitted: float  # when the first job was queued
    ended: float | None  # when the last job ended
    open: int
    done: int
    failed: int
    cancelled: int
    skipped: int


# jobs with the same cost key take about as long: those of a kind, or programs with the same signature
_COST_KEY_SQL = f"iif(kind = '{PROGRAM}', coalesce(json_extract(spec, '$.signature'), kind), kind)"
_STATE_SUMS = ", ".join(
    f"sum(state {condition})"
    for condition in (
        "IN ('queued', 'held', 'running')",
        "= 'done'",
        # as `known_state` reads a state of a newer version
        "NOT IN ('queued', 'held', 'running', 'done', 'cancelled', 'skipped')",
        "= 'cancelled'",
        "= 'skipped'",
    )
)


class JobQueries:
    """The questions to the queue; no question changes anything."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Ask over a connection that a store has opened."""
        self._db = connection

    def jobs(self) -> list[JobRow]:
        """Return all jobs in the order in which they were queued."""
        return [*self.iterate_jobs()]

    def iterate_jobs(self) -> Iterator[JobRow]:
        """Give all jobs in the order in which they were queued, of very many a part at a time. Inside `reading`."""
        last = 0
        while part := self._select_jobs(
            "jobs.id IN (SELECT id FROM jobs WHERE id > ? ORDER BY id LIMIT ?)",
            last,
            JOBS_PER_BATCH,
        ):
            yield from part
            last = part[-1].id

    def open_jobs(self) -> list[JobRow]:
        """Return all jobs that have not ended."""
        return self._select_jobs("jobs.state IN ('queued', 'held', 'running')")

    def jobs_in_state(self, state: State, *, current: bool = False) -> list[JobRow]:
        """Return all jobs in a state; `current` leaves out failures and skips that a newer job replaced."""
        condition = f" AND NOT {IS_REPLACED_SQL}" if current else ""
        return self._select_jobs(f"jobs.state = ?{condition}", state)

    def jobs_of_runs_named(self, name: str) -> list[JobRow]:
        """Return the jobs of all runs with a name, wherever their results lie."""
        return self._select_jobs("jobs.run IN (SELECT id FROM runs WHERE name = ?)", name)

    def jobs_of_run(self, run: int) -> list[JobRow]:
        """Return the jobs of a run."""
        return self._select_jobs("jobs.run = ?", run)

    def run_totals(self, run: int | None = None) -> list[RunTotals]:
        """Return the totals of a run that has jobs, or of all runs by name."""
        condition, values = ("", ()) if run is None else (" WHERE jobs.run = ?", (run,))
        rows = self._db.execute(
            "SELECT runs.id, root, runs.name, count(*), max(jobs.id), sum(attempts),"
            f" max(coalesce(ended, submitted)), min(submitted), max(ended), {_STATE_SUMS}"
            f" FROM jobs JOIN runs ON runs.id = jobs.run{condition}"
            " GROUP BY runs.id ORDER BY runs.name, runs.id",
            values,
        )
        return [RunTotals(*row) for row in rows]

    def find_run(self, root: str, name: str) -> int:
        """Return the id of the run `name` under `root`; 0 where there is none."""
        row = self._db.execute("SELECT id FROM runs WHERE root = ? AND name = ?", (root, name))
        return int((row.fetchone() or (0,))[0])

    def find_job(self, run: int, name: str) -> JobRow | None:
        """Return the job of a run that has a name, None if it does not exist."""
        rows = self._select_jobs("jobs.run = ? AND jobs.name = ?", run, name)
        return rows[0] if rows else None

    def existing_names(self, run: int, names: Iterable[str]) -> set[str]:
        """Return which of some names jobs of a run have."""
        rows = self._db.execute(
            "SELECT value FROM json_each(?2)"
            " WHERE EXISTS (SELECT 1 FROM jobs WHERE run = ?1 AND name = value)",
            (run, json.dumps([*names])),
        )
        return {str(value) for (value,) in rows}

    def setting_values(self, kind: str, name: str, *, exclude: Iterable[int] = ()) -> set[str]:
        """Return the values that one setting has in the jobs of a kind, some of these jobs aside."""
        rows = self._db.execute(
            "SELECT DISTINCT CASE WHEN json_valid(spec) THEN json_extract(spec, ?2) END FROM jobs"
            " WHERE kind = ?1 AND id NOT IN (SELECT value FROM json_each(?3))",
            (kind, f"$.settings.{name}", _json_list(exclude)),
        )
        return {str(value) for (value,) in rows if value is not None}

    def table_jobs(self, *, exclude_kind: str) -> list[JobRow]:
        """Return the jobs that test a model or create a folder, whose results a table may show.

        The run `exclude_kind` has none, and may have a million jobs.
        """
        return self._select_jobs(
            "runs.name <> ? AND CASE WHEN json_valid(jobs.spec)"
            " THEN json_extract(jobs.spec, '$.role') IN ('test', 'folder') END",
            exclude_kind,
        )

    def dependencies_of(self, job: int) -> list[JobRow]:
        """Return the jobs that must be done before a job."""
        return self._select_jobs(
            "jobs.id IN (SELECT need FROM needs WHERE job = ? AND any_end = 0)", job
        )

    def first_dependencies_of(self, job: int, most: int) -> list[JobRow]:
        """Return the first of the jobs that must be done before a job, those that are not done before the others."""
        numbers = self._db.execute(
            "SELECT need FROM needs JOIN jobs ON jobs.id = need WHERE job = ? AND any_end = 0"
            " ORDER BY state = 'done', need LIMIT ?",
            (job, most),
        ).fetchall()
        rows = {row.id: row for row in self.jobs_by_id(row["need"] for row in numbers)}
        return [rows[row["need"]] for row in numbers if row["need"] in rows]

    def awaited_jobs_of(self, job: int) -> list[JobRow]:
        """Return the jobs that must have ended before a job, done or not."""
        return self._select_jobs(
            "jobs.id IN (SELECT need FROM needs WHERE job = ? AND any_end = 1)", job
        )

    def jobs_awaiting(self, job: int) -> list[JobRow]:
        """Return the jobs that wait for the end of a job, done or not."""
        return self._select_jobs(
            "+jobs.state IN ('queued', 'held')"
            " AND jobs.id IN (SELECT job FROM needs WHERE need = ? AND any_end = 1)",
            job,
        )

    def _select_jobs(self, condition: str, *values: object, **named_jobs: object) -> list[JobRow]:
        query = f"{_JOB_SELECT} WHERE {condition} ORDER BY jobs.id"
        # at once: a reader holds the log
        rows = self._db.execute(query, named_jobs or values).fetchall()
        numbers = {row["sources"] for row in rows}
        sources = {number: read_sources(self._db.execute, number) for number in numbers}
        return [job_row(row, sources[row["sources"]]) for row in rows]

    def jobs_by_id(self, numbers: Iterable[int]) -> list[JobRow]:
        """Return the jobs with these numbers."""
        return self._select_jobs("jobs.id IN (SELECT value FROM json_each(?))", _json_list(numbers))

    def existing_jobs(self, numbers: Iterable[int]) -> set[int]:
        """Return the numbers among these that jobs of the queue have."""
        query = "SELECT id FROM jobs WHERE id IN (SELECT value FROM json_each(?))"
        return {row[0] for row in self._db.execute(query, (_json_list(numbers),)).fetchall()}

    def first_and_last_jobs(self, runs: Iterable[int]) -> list[JobRow]:
        """Return the first and the last job of runs by their names: in a sweep they differ in most that differs."""
        outermost = (
            "(SELECT id FROM jobs AS one WHERE one.run = value ORDER BY one.name {} LIMIT 1)"
        )
        both = " UNION ".join(
            f"SELECT {outermost.format(order)} FROM json_each(?1)" for order in ("", "DESC")
        )
        return self._select_jobs(f"jobs.id IN ({both})", _json_list(runs))

    def waiting_jobs(self, limit: int, job_order: JobOrder = order_by_rank) -> list[JobRow]:
        """Return the first queued jobs in the order in which they would start, then held ones.

        Args:
            limit: largest number of jobs.
            job_order: brings the first jobs of all runs into that order.
        """
        flows = QueueHeads(self._db.execute).read_classes(limit) if limit else ()
        numbers = job_order(flows)[:limit]
        for state in ("queued", "held"):
            rows = self._db.execute(
                "SELECT id FROM jobs WHERE state = ? AND waits >= ?"
                " ORDER BY waits, priority, run, lane, rank, id LIMIT ?",
                (state, 1 if state == "queued" else 0, limit - len(numbers)),
            )
            numbers += [row["id"] for row in rows]
        rows_by_id = {job.id: job for job in self.jobs_by_id(numbers)}
        return [rows_by_id[number] for number in numbers if number in rows_by_id]

    def recently_ended(self, limit: int, *, current: bool = False) -> list[JobRow]:
        """Return the jobs that ended last, the newest at the end.

        Args:
            limit: Number of jobs.
            current: Leave out failures and skips that a newer job replaced.
        """
        condition = f" AND NOT {IS_REPLACED_SQL}" if current else ""
        rows = self._db.execute(
            f"SELECT id FROM jobs WHERE ended IS NOT NULL{condition} ORDER BY ended DESC LIMIT ?",
            (limit,),
        )
        jobs = self.jobs_by_id(row["id"] for row in rows)
        return sorted(jobs, key=lambda job: (job.ended or 0.0, job.id))

    def recently_done(self, limit: int) -> list[tuple[JobRow, float, str]]:
        """Return (job, seconds, device) of the done ones among the jobs that ended last.

        Args:
            limit: How many of the jobs that ended last are read.
        """
        jobs = {
            job.id: job
            for job in self.recently_ended(limit)
            if job.state is State.DONE and not job.is_accepted_unrun
        }
        return [
            (jobs[job], attempt.seconds, attempt.device)
            for job, attempt in self.newest_attempts(jobs).items()
            # else a clock was set meanwhile
            if attempt.seconds is not None and 0 <= attempt.seconds <= LONGEST_S
        ]

    def select_by_pattern(self, pattern: str) -> list[JobRow]:
        """Return the jobs that a pattern means, as `find_selection` has it."""
        chosen = find_selection(self._db.execute, pattern)
        return self._select_jobs(chosen.condition, selected=chosen.selected)

    def replace_superseded(self, jobs: Iterable[JobRow]) -> list[JobRow]:
        """Return jobs in the order of their numbers, each superseded one replaced by the newest of its name."""
        rows = {job.id: job for job in jobs}
        newest = newest_by_superseded(self._db.execute, rows.values())
        current = {number: row for number, row in rows.items() if number not in newest}
        missing = {*newest.values()} - current.keys()
        current |= {row.id: row for row in self.jobs_by_id(missing)} if missing else {}
        return [current[number] for number in sorted(current)]

    def sample_names(self) -> list[str]:
        """Return some names of jobs, the newest jobs' first."""
        rows = self._db.execute("SELECT name FROM jobs ORDER BY id DESC LIMIT ?", (_SCANNED_NAMES,))
        return [row["name"] for row in rows]

    def newest_run(self, left_out_runs: Collection[tuple[str, str]] = ()) -> tuple[str, str] | None:
        """Return the folder and the name of the run of the newest job; None without jobs.

        Args:
            left_out_runs: Runs whose jobs do not count, also as folder and name.
        """
        row = self._db.execute(
            "SELECT runs.root, runs.name FROM jobs CROSS JOIN runs ON runs.id = jobs.run"
            " WHERE (runs.root, runs.name) NOT IN"
            " (SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?))"
            " ORDER BY jobs.id DESC LIMIT 1",
            (json.dumps([*left_out_runs]),),
        ).fetchone()
        return None if row is None else (str(row["root"]), str(row["name"]))

    def runs(self) -> list[str]:
        """Return the names of all runs."""
        return [row["name"] for row in self._db.execute("SELECT DISTINCT name FROM runs")]

    def dependents_of(self, jobs: Iterable[int]) -> list[JobRow]:
        """Return the open jobs that need one of `jobs` done, directly or not, and are none of them."""
        return self._select_jobs(
            "jobs.id IN ("
            "WITH RECURSIVE below(id) AS (SELECT value FROM json_each(?1)"
            " UNION SELECT needs.job FROM below"
            " JOIN needs ON needs.need = below.id AND needs.any_end = 0"
            " JOIN jobs AS one ON one.id = needs.job AND +one.state IN ('queued', 'held'))"
            " SELECT id FROM below EXCEPT SELECT value FROM json_each(?1))",
            _json_list(jobs),
        )

    def group_limits(self) -> list[GroupLimit]:
        """Return the groups that have a limit."""
        rows = self._db.execute("SELECT name, slots, paused FROM groups ORDER BY name")
        return [GroupLimit(*row) for row in rows]

    def group_names(self) -> list[str]:
        """Return the groups that have a limit, and those of jobs."""
        rows = self._db.execute(
            "SELECT name FROM groups UNION"
            " SELECT json_extract(key, '$.group') AS name FROM lanes WHERE json_valid(key) ORDER BY 1"
        )
        return [name for (name,) in rows if name]

    def count_waiting_in(self, group: str) -> int:
        """Return how many jobs of a group are queued or held."""
        (number,) = self._db.execute(
            "SELECT count(*) FROM jobs WHERE state IN ('queued', 'held') AND lane IN"
            " (SELECT id FROM lanes WHERE CASE WHEN json_valid(key)"
            " THEN json_extract(key, '$.group') = ? END)",
            (group,),
        ).fetchone()
        return int(number)

    def ended_before(self, timestamp: float, states: Iterable[State]) -> list[JobRow]:
        """Return the jobs that ended as one of `states` before a time, the oldest end first."""
        return self._select_jobs(
            "jobs.ended < ? AND jobs.state IN (SELECT value FROM json_each(?))",
            timestamp,
            json.dumps([str(state) for state in states]),
        )

    def jobs_of(self, root: Path, run: str) -> dict[str, JobRow]:
        """Return the jobs of a run by name."""
        jobs = self._select_jobs("runs.root = ? AND runs.name = ?", str(root), run)
        return {job.name: job for job in jobs}

    def done_in_other_roots(self, root: Path, run: str) -> dict[str, dict[str, str]]:
        """Return root → name → hash of the jobs that are done, of the runs of a name under other roots."""
        found: dict[str, dict[str, str]] = {}
        for row in self._db.execute(
            "SELECT root, jobs.name, hash FROM runs JOIN jobs ON jobs.run = runs.id"
            " WHERE runs.name = ? AND root <> ? AND +state = 'done' AND hash <> ''",
            (run, str(root)),
        ):
            found.setdefault(row["root"], {})[row["name"]] = row["hash"]
        return found

    def roots_of(self, run: str) -> list[str]:
        """Return the roots under which there are jobs of a run of that name."""
        rows = self._db.execute(
            "SELECT root FROM runs WHERE name = ? AND EXISTS"
            " (SELECT 1 FROM jobs WHERE jobs.run = runs.id) ORDER BY id",
            (run,),
        )
        return [str(row["root"]) for row in rows]

    def programs_by_output(
        self,
        states: Collection[State] = (*OPEN_STATES, State.DONE),
        paths: Iterable[str] | None = None,
    ) -> dict[str, list[JobRow]]:
        """Return programs by each of their outputs, the newest last.

        Args:
            states: States of the programs.
            paths: Only programs with such an output; None for all.
        """
        wanted = json.dumps([*states])
        if paths is None:
            rows = self._select_jobs(
                "jobs.state IN (SELECT value FROM json_each(?))"
                " AND EXISTS (SELECT 1 FROM output_paths WHERE job = jobs.id)",
                wanted,
            )
        else:
            rows = self._select_jobs(
                "+jobs.state IN (SELECT value FROM json_each(?)) AND jobs.id IN"
                " (SELECT job FROM json_each(?) AS wanted CROSS JOIN output_paths"
                " ON output_paths.folder = json_extract(wanted.value, '$[0]')"
                " AND output_paths.name = json_extract(wanted.value, '$[1]'))",
                wanted,
                json.dumps([_split_path(path) for path in paths]),
            )
        makers: dict[str, list[JobRow]] = {}
        for row in rows:
            for path in row.spec_without_sources.outputs:
                makers.setdefault(path, []).append(row)
        return makers

    def open_jobs_with(self, name: str, text: str) -> list[JobRow]:
        """Return the waiting and running jobs in whose specification a name has a text as its value."""
        return self._select_jobs(
            "jobs.state IN (SELECT value FROM json_each(?)) AND instr(jobs.spec, ?)",
            json.dumps([*OPEN_STATES]),
            f"{json.dumps(name)}: {json.dumps(text)}",
        )

    def output_folders(self) -> list[str]:
        """Return the folders into which programs of the queue write, with a slash at the end, each once."""
        rows = self._db.execute(
            "WITH RECURSIVE listed(folder) AS (SELECT min(folder) FROM output_paths UNION ALL"
            " SELECT (SELECT min(folder) FROM output_paths WHERE output_paths.folder > listed.folder)"
            " FROM listed WHERE folder IS NOT NULL)"
            " SELECT CAST(folder AS BLOB) FROM listed WHERE folder IS NOT NULL"
        )
        return [_decode_path(folder) for (folder,) in rows]

    def done_outputs_in(self, folders: Iterable[str]) -> Iterator[tuple[str, int]]:
        """Yield the outputs of done programs in some of `output_folders`, each with its job."""
        rows = self._db.execute(
            "SELECT CAST(folder || output_paths.name AS BLOB), job"
            " FROM json_each(?) CROSS JOIN output_paths ON folder = value"
            " CROSS JOIN jobs ON jobs.id = job AND +state = 'done'",
            (json.dumps([*folders]),),
        )
        return ((_decode_path(path), job) for path, job in rows)

    def last_event(self) -> int:
        """Return the number of the newest event, 0 when there is none."""
        (last,) = self._db.execute("SELECT coalesce(max(id), 0) FROM events").fetchone()
        return int(last)

    def data_version(self) -> int:
        """Return a number that changes when another connection has written."""
        (version,) = self._db.execute("PRAGMA data_version").fetchone()
        return int(version)

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

    def attempts(self, jobs: Iterable[int]) -> list[AttemptRow]:
        """Return the attempts of jobs, by job and number."""
        return self._attempts("", jobs)

    def newest_attempts(self, jobs: Iterable[int]) -> dict[int, AttemptRow]:
        """Return job → its newest attempt, of those that have one."""
        newest = "JOIN jobs ON jobs.id = job AND jobs.attempts = number"
        return {attempt.job: attempt for attempt in self._attempts(newest, jobs)}

    def _attempts(self, which: str, jobs: Iterable[int]) -> list[AttemptRow]:
        rows = self._db.execute(
            f"SELECT {ATTEMPT_COLUMNS} FROM attempts {which}"
            " WHERE job IN (SELECT value FROM json_each(?)) ORDER BY job, number",
            (_json_list(jobs),),
        )
        return [AttemptRow(*row) for row in rows]

    def dependency_names(self, job: int) -> list[str]:
        """Return the names of the jobs that must be done before a job."""
        rows = self._db.execute(
            "SELECT jobs.name FROM needs JOIN jobs ON jobs.id = needs.need"
            " WHERE needs.job = ? AND any_end = 0 ORDER BY jobs.id",
            (job,),
        )
        return [row["name"] for row in rows]

    def working_folder(self, job: int) -> str:
        """Return the folder in which a job's program begins."""
        row = self._db.execute(
            "SELECT body FROM contexts JOIN jobs ON context = contexts.id WHERE jobs.id = ?", (job,)
        ).fetchone()
        return str(known_record(row["body"]).get("folder", "")) if row else ""

    def used_snapshots(self) -> list[SnapshotReference]:
        """Return the snapshots from which the code of jobs comes."""
        rows = self._db.execute(
            "SELECT json_extract(body, '$.snapshot') FROM contexts"
            " WHERE id IN (SELECT context FROM jobs) AND json_valid(body)"
        )
        return [found for (text,) in rows if (found := _read_snapshot(text))]

    def snapshots(self, jobs: Iterable[int]) -> dict[int, SnapshotReference]:
        """Return job → the snapshot from which its code comes, of those that have one."""
        rows = self._db.execute(
            "SELECT jobs.id, json_extract(body, '$.snapshot') FROM jobs"
            " JOIN contexts ON contexts.id = jobs.context"
            " WHERE jobs.id IN (SELECT value FROM json_each(?)) AND json_valid(body)",
            (_json_list(jobs),),
        )
        return {job: found for job, text in rows if (found := _read_snapshot(text))}

    def context_of(self, job: int) -> Context:
        """Return the context of a job.

        Raises:
            Unreadable: it is gone, or cannot be decoded.
        """
        row = self._db.execute(
            "SELECT body FROM contexts JOIN jobs ON context = contexts.id WHERE jobs.id = ?", (job,)
        ).fetchone()
        return read_context(parse_record(row[0] if row else "", "the record of its surroundings"))

    def gpu_of_number(self, job: int) -> str:
        """Return the UUID of the GPU that a job's `device` meant when it was queued; '' if there is none."""
        row = self._db.execute(
            "SELECT lanes.key FROM lanes JOIN jobs ON lane = lanes.id WHERE jobs.id = ?", (job,)
        ).fetchone()
        with contextlib.suppress(Unreadable):
            return read_lane(row["key"]).resources.gpu_uuid if row else ""
        return ""

    def results(self, jobs: Iterable[int]) -> dict[int, dict[str, Any]]:
        """Return job → what it returned when it was last done, of those that have returned something."""
        rows = self._db.execute(
            "SELECT job, body FROM results WHERE job IN (SELECT value FROM json_each(?))",
            (_json_list(jobs),),
        )
        return {row["job"]: known_record(row["body"]) for row in rows}

    def result_of(self, job: int) -> dict[str, Any] | None:
        """Return what a job returned when it was last done."""
        return self.results([job]).get(job)

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

    def current_counts(self) -> dict[State, int]:
        """Return how many jobs are in each state, without failures and skips that a newer job replaced.

        If very many jobs failed, the replaced ones are counted too, because each row must be read.
        """
        counts = self.counts()
        if sum(counts.get(state, 0) for state in REPLACEABLE_STATES) > _MOST_REPLACEABLE:
            return counts
        replaced = self._db.execute(
            f"SELECT state, count(*) AS n FROM jobs WHERE {IS_REPLACED_SQL} GROUP BY state"
        )
        less = {known_state(row["state"]): row["n"] for row in replaced}
        return {state: number - less.get(state, 0) for state, number in counts.items()}

    def recent_completions(self, limit: int) -> list[CompletionEvent]:
        """Return the newest ends of jobs and of attempts, the newest first.

        Failures and skips are left out if a newer job replaced them, or if a skipped job was queued again. This holds
        also for failures of a replaced job that was retried and is done.
        """
        endings = self._recent_events(limit)
        if len(endings) < limit:  # thousands of jobs may have been queued since
            listed = {(ending.job, ending.state) for ending in endings}
            endings += [
                ending
                for ending in self._recently_ended(limit)
                if (ending.job, ending.state) not in listed
            ]
        return endings[:limit]

    def _recent_events(self, limit: int) -> list[CompletionEvent]:
        rows = self._db.execute(
            "SELECT id, at, job, state, reason_code, reason, reason_data, (SELECT before.state FROM events AS before"
            " WHERE before.job = one.job AND before.id < one.id ORDER BY before.id DESC LIMIT 1"
            ") AS source FROM events AS one WHERE id > (SELECT max(id) FROM events) - ?"
            " AND NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.id = one.job"
            f" AND (one.state = 'skipped' AND jobs.state <> 'skipped' OR {IS_REPLACED_SQL}"
            f" OR one.state IN ('failed', 'queued') AND {HAS_NEWER_SQL}))"
            " ORDER BY id DESC",
            (_SCANNED_EVENTS,),
        )
        endings: list[CompletionEvent] = []
        for row in rows:
            if len(endings) == limit:
                break
            state, ran = known_state(row["state"]), row["source"] == State.RUNNING
            if state not in ENDED_STATES and not (state is State.QUEUED and ran):
                continue
            attempt = self._attempt_before_event(row["job"], row["id"]) if ran else None
            outcome = (attempt and attempt.outcome) or {}
            if state is State.QUEUED and outcome.get("ending") not in _NO_FAULT:
                state = State.FAILED
            endings.append(
                CompletionEvent(
                    row["at"], row["job"], state, _read_reason(row), _attempt_duration(attempt)
                )
            )
        return endings

    def _recently_ended(self, limit: int) -> list[CompletionEvent]:
        rows = self._db.execute(
            "SELECT ended, id, state, reason_code, reason, reason_data FROM jobs"
            f" WHERE ended IS NOT NULL AND NOT {IS_REPLACED_SQL}"
            " ORDER BY ended DESC, id DESC LIMIT ?",
            (limit,),
        ).fetchall()
        ran = self.newest_attempts(row["id"] for row in rows if row["state"] in _RAN)
        return [
            CompletionEvent(
                row["ended"],
                row["id"],
                known_state(row["state"]),
                _read_reason(row),
                _attempt_duration(ran.get(row["id"])),
            )
            for row in rows
        ]

    def _attempt_before_event(self, job: int, event: int) -> AttemptRow | None:
        """Return the last attempt of a job that began before an event."""
        (begun,) = self._db.execute(
            "SELECT count(*) FROM events WHERE job = ? AND id < ? AND state = 'running'"
            f" AND reason_code NOT IN {NOT_STARTS}",
            (job, event),
        ).fetchone()
        # not by its number: after a restore some are left out
        return next(iter(self.attempts([job])[max(0, begun - 1) :]), None)

    def recent_durations(self, limit: int, start_time: float) -> dict[str, list[float]]:
        """Return cost key → seconds of its jobs that are done, among the last that ended since a time."""
        rows = self._db.execute(
            f"SELECT {_COST_KEY_SQL} AS cost_key, one.ended - claimed - attempts.paused AS seconds"
            " FROM (SELECT id, kind, spec, ended, state, attempts FROM jobs WHERE ended >= ?"
            " ORDER BY ended DESC LIMIT ?) AS one"
            " JOIN attempts ON job = one.id AND number = one.attempts WHERE one.state = 'done'"
            f" AND {WAS_DONE_SQL}",
            (start_time, limit),
        )
        paces: dict[str, list[float]] = {}
        for row in rows:
            paces.setdefault(row["cost_key"], []).append(max(0.0, row["seconds"]))
        return paces

    def queued_by_cost_key(self, run: int | None = None) -> dict[str, int] | None:
        """Return cost key → number of queued jobs, of one run or of all; None if such a job waits for its time."""
        # jobs of one run are read by the index of runs
        of_run = "state = 'queued'" if run is None else "run = :run AND +state = 'queued'"
        rows = self._db.execute(
            f"SELECT {_COST_KEY_SQL} AS cost_key, count(*) AS n, count(timers.job) AS later FROM jobs"
            f" LEFT JOIN timers ON timers.job = jobs.id WHERE {of_run} GROUP BY cost_key",
            {"run": run},
        ).fetchall()
        if any(row["later"] for row in rows):
            return None
        return {row["cost_key"]: row["n"] for row in rows}

    def run_progress(self, limit: int) -> dict[str, RunProgress]:
        """Return run → progress, for each run with open jobs that can be complete once.

        Args:
            limit: Number of jobs of a run above which the queued ones are not counted.
        """
        rows = self._db.execute(
            "SELECT run, name, sum(iif(state IN ('queued', 'held', 'running'), n, 0)) AS open,"
            " sum(n) AS every FROM counters JOIN runs ON runs.id = run WHERE name <> ?"
            " GROUP BY run HAVING open > 0 ORDER BY run",
            (SHARED_RUN,),  # the shared run is never complete
        ).fetchall()
        progress: dict[str, RunProgress] = {}
        for row in rows:
            every, kinds = row["every"], None
            before = progress.get(row["name"], RunProgress())
            if before.queued is not None and every <= limit:
                kinds = self.queued_by_cost_key(row["run"])
            progress[row["name"]] = RunProgress(
                before.ended + every - row["open"],
                before.jobs + every,
                None if kinds is None else Counter(before.queued) + Counter(kinds),
            )
        return progress

    def search_numbers(self, text: str, limit: int) -> list[int]:
        """Return the jobs that a text means, or in whose name or run's name it is; open ones first."""
        chosen = find_search_selection(self._db.execute, text)
        rows = self._db.execute(
            f"SELECT id FROM jobs WHERE {chosen.condition}"
            " ORDER BY CASE state WHEN 'running' THEN 0 WHEN 'queued' THEN 1 WHEN 'held' THEN 2"
            " WHEN 'failed' THEN 3 ELSE 4 END, coalesce(-ended, id) LIMIT :limit",
            {**chosen._asdict(), "limit": limit},
        )
        return [row["id"] for row in rows]

    def first_unmet_dependencies(self, jobs: Iterable[int]) -> dict[int, UnmetDependency]:
        """Return job → the first for which it still waits, if there is one."""
        rows = self._db.execute(
            "SELECT ours.id AS job, first.id AS need, first.name,"
            " first.run <> ours.run AS elsewhere"
            " FROM json_each(?) JOIN jobs AS ours ON ours.id = value"
            " JOIN jobs AS first ON first.id ="  # one job may need all others
            " (SELECT need FROM needs JOIN jobs AS needed ON needed.id = need"
            f" WHERE needs.job = value AND {UNMET_DEPENDENCY} ORDER BY need LIMIT 1)",
            (_json_list(jobs),),
        )
        return {
            row["job"]: UnmetDependency(
                job=row["need"], name=row["name"], is_in_other_run=bool(row["elsewhere"])
            )
            for row in rows
        }


def _split_path(path: str) -> tuple[str, str]:
    folder, slash, name = path.rpartition("/")
    return folder + slash, name


def _decode_path(path: bytes) -> str:
    return path.decode(errors="surrogatepass")  # as json.loads reads it from the spec


def _read_reason(row: sqlite3.Row) -> Reason:
    return reason_of(row["reason_code"], row["reason"], row["reason_data"])


def _attempt_duration(attempt: AttemptRow | None) -> float | None:
    if attempt is None or attempt.seconds is None:
        return None
    return max(0.0, attempt.seconds)  # the clock may have been set back


def _json_list(numbers: Iterable[int]) -> str:
    return json.dumps(list(numbers))


def _read_snapshot(text: str | None) -> SnapshotReference | None:
    return read_reference(json.loads(text)) if text else None
