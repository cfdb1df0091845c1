"""What a screen asks of the queue, again and again: none of it grows with the number of jobs.

Jobs and runs are given page by page, the newest first, filtered by state, by name and by what tells runs apart.
"""

import json
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from launcher.states import ENDED, OPEN, Reason, State
from launcher.store.connection import UNMET, known_record, known_state, reason_of
from launcher.store.rows import PILOT_OF
from launcher.store.selection import EVERY_JOB, search

_NEWS = 400  # events among which those are looked for that a screen shows
_NO_FAULT = frozenset({"stopped", "void"})  # how an attempt ends that nobody calls a failure
_RAN = frozenset({State.DONE, State.FAILED})  # after an attempt; others may end while they wait
_ENDLESS = "add"  # the run of jobs that come from no task file: it is never complete


class Ending(NamedTuple):
    """The end of a job, or of an attempt after which its job was queued again."""

    at: float
    job: int
    state: State  # failed, too, where it was queued again; queued, where it had only to stop
    reason: Reason
    seconds: float | None = None  # how long the attempt took


class Need(NamedTuple):
    """A job that must still be done before another one."""

    job: int
    name: str
    elsewhere: bool = False  # in another run, where names may be the same


class ScreenQueries:
    """The questions of a screen; none of them changes anything."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Ask over a connection that a store has opened."""
        self._db = connection

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Have everything that is asked inside answered as of one moment."""
        self._db.execute("BEGIN")
        try:
            yield
        finally:
            if self._db.in_transaction:  # a disk that fails ends it by itself
                self._db.execute("ROLLBACK")

    def happened(self, limit: int) -> list[Ending]:
        """Return the newest ends of jobs and of attempts, the newest first."""
        endings = self._news(limit)
        if len(endings) < limit:  # thousands of jobs may have been queued since
            listed = {(ending.job, ending.state) for ending in endings}
            endings += [
                ending for ending in self._ended(limit) if (ending.job, ending.state) not in listed
            ]
        return endings[:limit]

    def _news(self, limit: int) -> list[Ending]:
        rows = self._db.execute(
            "SELECT id, at, job, state, reason_code, reason, reason_data, (SELECT before.state FROM events AS before"
            " WHERE before.job = one.job AND before.id < one.id ORDER BY before.id DESC LIMIT 1"
            ") AS source FROM events AS one WHERE id > (SELECT max(id) FROM events) - ?"
            " ORDER BY id DESC",
            (_NEWS,),
        )
        endings: list[Ending] = []
        for row in rows:
            if len(endings) == limit:
                break
            state, ran = known_state(row["state"]), row["source"] == State.RUNNING
            if state not in ENDED and not (state is State.QUEUED and ran):
                continue
            how, seconds = self._attempt(row["job"], row["id"]) if ran else (None, None)
            if state is State.QUEUED and how not in _NO_FAULT:
                state = State.FAILED
            at, job, reason = row["at"], row["job"], _reason(row)
            endings.append(Ending(at=at, job=job, state=state, reason=reason, seconds=seconds))
        return endings

    def _ended(self, limit: int) -> list[Ending]:
        rows = self._db.execute(
            "SELECT ended, id, state, reason_code, reason, reason_data FROM jobs"
            " WHERE ended IS NOT NULL ORDER BY ended DESC, id DESC LIMIT ?",
            (limit,),
        ).fetchall()
        spans = self.spans(row["id"] for row in rows if row["state"] in _RAN)
        return [
            Ending(
                at=row["ended"],
                job=row["id"],
                state=known_state(row["state"]),
                reason=_reason(row),
                seconds=spans.get(row["id"]),
            )
            for row in rows
        ]

    def _attempt(self, job: int, event: int) -> tuple[str | None, float | None]:
        """Return how the last attempt of a job ended that began before an event, and after what."""
        row = self._db.execute(
            # not by its number: after a restore some are left out
            "SELECT outcome, ended - claimed - paused FROM attempts WHERE job = ?1 ORDER BY number"
            " LIMIT 1 OFFSET max(0, (SELECT count(*) FROM events"
            " WHERE job = ?1 AND id < ?2 AND state = 'running'"
            " AND reason_code NOT IN ('paused', 'resumed')) - 1)",
            (job, event),
        ).fetchone()
        # not in SQL: a result may hold NaN, which Python writes and SQLite takes for no JSON
        if row is None or row[0] is None:
            return None, None
        return known_record(row[0]).get("ending"), max(0.0, row[1])

    def paces(self, limit: int, since: float) -> dict[str, list[float]]:
        """Return kind → seconds of its jobs that are done, among the last that ended since a time."""
        rows = self._db.execute(
            "SELECT one.kind AS kind, one.ended - claimed - attempts.paused AS seconds"
            " FROM (SELECT id, kind, ended, state, attempts FROM jobs WHERE ended >= ?"
            " ORDER BY ended DESC LIMIT ?) AS one"
            " JOIN attempts ON job = one.id AND number = one.attempts WHERE one.state = 'done'",
            (since, limit),
        )
        paces: dict[str, list[float]] = {}
        for row in rows:
            paces.setdefault(row["kind"], []).append(max(0.0, row["seconds"]))
        return paces

    def queued(self, limit: int) -> dict[str, int] | None:
        """Return kind → how many are queued; None: more than so many, or one waits for its time."""
        rows = self._db.execute(
            "SELECT kind, job FROM (SELECT kind, id FROM jobs WHERE state = 'queued' LIMIT ?)"
            " LEFT JOIN timers ON job = id",
            (limit + 1,),
        ).fetchall()
        if len(rows) > limit or any(row["job"] is not None for row in rows):
            return None
        return Counter(row["kind"] for row in rows)

    def queued_by_run(self, limit: int) -> dict[str, dict[str, int] | None]:
        """Return run → kind → how many are queued, of each run with open jobs that can be complete.

        None stands for a run of more jobs than that, and for one of which a job waits for its time.

        Args:
            limit: jobs of a run that are looked at.
        """
        runs = self._db.execute(
            "SELECT run, name, sum(n) AS every FROM counters JOIN runs ON runs.id = run"
            " WHERE name <> ? GROUP BY run"
            " HAVING sum(iif(state IN ('queued', 'held', 'running'), n, 0)) > 0 ORDER BY run",
            (_ENDLESS,),
        ).fetchall()
        queued: dict[str, dict[str, int] | None] = {}
        for run in runs:
            before = queued.get(run["name"], {})
            kinds = None if before is None or run["every"] > limit else self._kinds_of(run["run"])
            both = None if before is None or kinds is None else Counter(before) + Counter(kinds)
            queued[run["name"]] = both
        return queued

    def _kinds_of(self, run: int) -> dict[str, int] | None:
        """Return kind → how many jobs of a run are queued; None where one waits for its time."""
        rows = self._db.execute(
            "SELECT kind, count(*) AS n, count(timers.job) AS later FROM jobs"
            " LEFT JOIN timers ON timers.job = jobs.id"
            " WHERE run = ? AND +state = 'queued' GROUP BY kind",
            (run,),
        ).fetchall()
        return (
            None if any(row["later"] for row in rows) else {row["kind"]: row["n"] for row in rows}
        )

    def active(self) -> dict[str, tuple[int, int]]:
        """Return run → (ended, all) of each run with open jobs that can be complete once."""
        rows = self._db.execute(
            "SELECT name, sum(iif(state IN ('queued', 'held', 'running'), n, 0)) AS open,"
            " sum(n) AS every FROM counters JOIN runs ON runs.id = run WHERE name <> ?"
            " GROUP BY run HAVING open > 0 ORDER BY run",
            (_ENDLESS,),
        )
        active: dict[str, tuple[int, int]] = {}
        for row in rows:
            ended, every = active.get(row["name"], (0, 0))
            active[row["name"]] = (ended + row["every"] - row["open"], every + row["every"])
        return active

    def matching(self, text: str, limit: int) -> list[int]:
        """Return the jobs that a text means, or in whose name or run's name it is; open ones first."""
        chosen = search(self._db.execute, text)
        rows = self._db.execute(
            f"SELECT id FROM jobs WHERE {chosen.condition}"
            " ORDER BY CASE state WHEN 'running' THEN 0 WHEN 'queued' THEN 1 WHEN 'held' THEN 2"
            " WHEN 'failed' THEN 3 ELSE 4 END, coalesce(-ended, id) LIMIT :limit",
            {**chosen._asdict(), "limit": limit},
        )
        return [row["id"] for row in rows]

    def needs(self, jobs: Iterable[int]) -> dict[int, Need]:
        """Return job → the first for which it still waits, if there is one."""
        rows = self._db.execute(
            "SELECT ours.id AS job, first.id AS need, first.name,"
            " first.run <> ours.run AS elsewhere"
            " FROM json_each(?) JOIN jobs AS ours ON ours.id = value"
            " JOIN jobs AS first ON first.id ="  # one may need all others
            " (SELECT need FROM needs JOIN jobs AS needed ON needed.id = need"
            f" WHERE needs.job = value AND {UNMET} ORDER BY need LIMIT 1)",
            (json.dumps([*jobs]),),
        )
        return {
            row["job"]: Need(job=row["need"], name=row["name"], elsewhere=bool(row["elsewhere"]))
            for row in rows
        }

    def spans(self, jobs: Iterable[int]) -> dict[int, float]:
        """Return job → seconds of its newest attempt, of those that have ended."""
        rows = self._db.execute(
            "SELECT job, attempts.ended - claimed - attempts.paused AS seconds FROM attempts"
            " JOIN jobs ON jobs.id = job AND jobs.attempts = number"
            " WHERE job IN (SELECT value FROM json_each(?)) AND attempts.ended IS NOT NULL",
            (json.dumps([*jobs]),),
        )
        return {row["job"]: max(0.0, row["seconds"]) for row in rows}

    def newest_attempts(self, jobs: Iterable[int]) -> dict[int, dict[str, Any]]:
        """Return job → its newest attempt's number, device, claimed, ended, outcome, claim, peak, pilot."""
        rows = self._db.execute(
            "SELECT job, number, device, claimed, attempts.ended, attempts.paused, outcome, claim, peak,"
            f" {PILOT_OF} AS pilot FROM attempts"
            " JOIN jobs ON jobs.id = job AND jobs.attempts = number"
            " WHERE job IN (SELECT value FROM json_each(?))",
            (json.dumps([*jobs]),),
        )
        return {row["job"]: dict(row) for row in rows}

    def results(self, jobs: Iterable[int]) -> dict[int, dict[str, Any]]:
        """Return job → what it returned, of those that have returned something."""
        rows = self._db.execute(
            "SELECT job, body FROM results WHERE job IN (SELECT value FROM json_each(?))",
            (json.dumps([*jobs]),),
        )
        return {row["job"]: known_record(row["body"]) for row in rows}


def _reason(row: sqlite3.Row) -> Reason:
    return reason_of(row["reason_code"], row["reason"], row["reason_data"])


_FEW = 2000  # jobs, whose order is quickly made


class JobFilter(NamedTuple):
    """Which jobs are listed."""

    states: frozenset[State] = frozenset()  # none: any
    text: str = ""  # which they are called, or in their name or their run's


class JobListing:
    """Questions whose cost grows with what is listed, and with a text to look for also with the queue."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Ask over a connection that a store has opened."""
        self._db = connection

    def newest(self, chosen: JobFilter, limit: int, before: int | None = None) -> list[int]:
        """Return the numbers of jobs, the newest first.

        Args:
            chosen: which.
            limit: at most so many.
            before: only older ones than this job.
        """
        return self._numbers(chosen, limit, "id < :job", before, "DESC")

    def next_newer(self, chosen: JobFilter, limit: int, after: int) -> list[int]:
        """Return the numbers of jobs that come right after another, the newest first."""
        return self._numbers(chosen, limit, "id > :job", after, "ASC")[::-1]

    def _numbers(
        self, chosen: JobFilter, limit: int, bound: str, job: int | None, order: str
    ) -> list[int]:
        conditions = ["1" if job is None else bound]
        if chosen.states:
            # of few jobs by the index, and then sorted; else through the newest until there are enough
            column = "state" if self._number(chosen.states) <= _FEW else "+state"
            conditions.append(f"{column} IN (SELECT value FROM json_each(:states))")
        called = search(self._db.execute, chosen.text) if chosen.text else EVERY_JOB
        conditions.append(called.condition)
        query = (
            f"SELECT id FROM jobs WHERE {' AND '.join(conditions)} ORDER BY id {order} LIMIT :limit"
        )
        values = {
            **called._asdict(),
            "job": job,
            "limit": limit,
            "states": json.dumps(sorted(chosen.states)),
        }
        return [row["id"] for row in self._db.execute(query, values)]

    def _number(self, states: Collection[State]) -> int:
        """Return how many jobs are in one of the states; no row is scanned."""
        (number,) = self._db.execute(
            "SELECT coalesce(sum(n), 0) FROM counters"
            " WHERE state IN (SELECT value FROM json_each(?))",
            (json.dumps(sorted(states)),),
        ).fetchone()
        return int(number)


_LISTED = "EXISTS (SELECT 1 FROM jobs WHERE run = runs.id)"  # `clean` may leave none of its jobs


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """A run, and how far it is."""

    id: int
    name: str
    root: str
    share: float
    submitted: float  # its first job, in seconds since 1970
    started: float | None  # its first attempt; None: none has begun
    ended: float | None  # the newest end of an attempt
    counts: Mapping[State, int] = field(default_factory=dict)

    @property
    def jobs(self) -> int:
        """How many jobs it has."""
        return sum(self.counts.values())

    @property
    def open(self) -> int:
        """How many of its jobs have not ended."""
        return sum(self.counts.get(state, 0) for state in OPEN)


class RunListing:
    """Questions about runs; none of them changes anything."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Ask over a connection that a store has opened."""
        self._db = connection

    def newest(
        self, limit: int, before: int | None = None, among: Collection[int] | None = None
    ) -> list[int]:
        """Return the numbers of runs, the newest first.

        Args:
            limit: at most so many.
            before: only older ones than this run.
            among: only these; None: all.
        """
        return self._numbers(limit, "id < :run", before, among, "DESC")

    def next_newer(self, limit: int, after: int, among: Collection[int] | None = None) -> list[int]:
        """Return the numbers of runs that come right after another, the newest first."""
        return self._numbers(limit, "id > :run", after, among, "ASC")[::-1]

    def _numbers(
        self,
        limit: int,
        bound: str,
        run: int | None,
        among: Collection[int] | None,
        order: str,
    ) -> list[int]:
        conditions = [_LISTED]
        if run is not None:
            conditions.append(bound)
        if among is not None:
            conditions.append("id IN (SELECT value FROM json_each(:among))")
        rows = self._db.execute(
            f"SELECT id FROM runs WHERE {' AND '.join(conditions)} ORDER BY id {order} LIMIT :limit",
            {"run": run, "limit": limit, "among": json.dumps(sorted(among or ()))},
        )
        return [row["id"] for row in rows]

    def named(self, name: str) -> int | None:
        """Return the newest run of a name, None where there is none."""
        (newest,) = self._db.execute(
            f"SELECT max(id) FROM runs WHERE name = ? AND {_LISTED}", (name,)
        ).fetchone()
        return None if newest is None else int(newest)

    def names(self) -> dict[int, str]:
        """Return the name of each run that has jobs."""
        return {
            row["id"]: row["name"]
            for row in self._db.execute(f"SELECT id, name FROM runs WHERE {_LISTED}")
        }

    def records(self, runs: Iterable[int]) -> list[RunRecord]:
        """Return runs by their numbers, in that order; those without jobs are left out."""
        numbers = [*runs]
        wanted = json.dumps(numbers)
        counts: dict[int, dict[State, int]] = {}
        for row in self._db.execute(
            "SELECT run, state, n FROM counters WHERE n > 0"
            " AND run IN (SELECT value FROM json_each(?))",
            (wanted,),
        ):
            counts.setdefault(row["run"], {})[known_state(row["state"])] = row["n"]
        # by the index (run, name), and then the attempts, which are short: not through long specs
        rows = self._db.execute(
            "SELECT runs.id AS id, name, root, share,"
            " (SELECT submitted FROM jobs WHERE id = (SELECT min(id) FROM jobs"
            "  WHERE run = runs.id)) AS submitted, started, ended"
            " FROM runs LEFT JOIN (SELECT run, min(claimed) AS started,"
            "  max(attempts.ended) AS ended FROM jobs JOIN attempts ON attempts.job = jobs.id"
            "  WHERE run IN (SELECT value FROM json_each(?1)) GROUP BY run) AS times"
            " ON times.run = runs.id WHERE runs.id IN (SELECT value FROM json_each(?1))",
            (wanted,),
        )
        records = {
            row["id"]: RunRecord(**dict(row), counts=counts.get(row["id"], {}))
            for row in rows
            if row["submitted"] is not None
        }
        return [records[run] for run in numbers if run in records]

    def job_numbers(self, run: int) -> list[int]:
        """Return the numbers of a run's jobs."""
        rows = self._db.execute("SELECT id FROM jobs WHERE run = ? ORDER BY id", (run,))
        return [row["id"] for row in rows]

    def in_state(self, run: int, state: State, limit: int) -> list[int]:
        """Return the numbers of some jobs of a run that are in a state, the newest first."""
        rows = self._db.execute(
            "SELECT id FROM jobs WHERE run = ? AND state = ? ORDER BY id DESC LIMIT ?",
            (run, state, limit),
        )
        return [row["id"] for row in rows]

    def first_job(self, run: int) -> int | None:
        """Return the number of a run's first job, None where it has none."""
        (first,) = self._db.execute("SELECT min(id) FROM jobs WHERE run = ?", (run,)).fetchone()
        return None if first is None else int(first)

    def fingerprints(self) -> dict[int, dict[int, int]]:
        """Return run → job → what is another number when the job's settings are others."""
        jobs: dict[int, dict[int, int]] = {}
        for job, run, digest in self._db.execute("SELECT id, run, hash FROM jobs"):
            jobs.setdefault(run, {})[job] = hash(digest)
        return jobs

    def specs(self, jobs: Iterable[int]) -> Iterator[dict[str, Any]]:
        """Yield the stored specs of jobs as records; an empty one of what cannot be read."""
        rows = self._db.execute(
            "SELECT spec FROM jobs WHERE id IN (SELECT value FROM json_each(?))",
            (json.dumps([*jobs]),),
        )
        for row in rows:
            yield known_record(row["spec"])
