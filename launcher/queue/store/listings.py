"""Lists of jobs and runs, page by page, the newest first, and what distinguishes runs."""

import json
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import islice
from types import MappingProxyType
from typing import Any, NamedTuple

from launcher.queue.jobs.states import OPEN_STATES, State
from launcher.queue.store.connection import known_record, known_state
from launcher.queue.store.job_names import IS_REPLACED_SQL, newest_by_superseded
from launcher.queue.store.job_selection import EVERY_JOB, find_search_selection

_FEW_JOBS = 2000  # jobs, whose order is quickly made
_MOST_NAMES = 5000  # names of a run, which are read whenever the run is listed: 1 ms


class ListingFilter(NamedTuple):
    """Which jobs are listed."""

    states: frozenset[State] = frozenset()  # none: any
    text: str = ""  # text that selects them, or a part of their name or their run's


class ListedPage(NamedTuple):
    """A page of a list."""

    numbers: list[int]  # numbers of jobs or runs, the newest first
    newer: bool = False  # there are others before it
    older: bool = False  # there are other jobs behind the page


_HAS_JOBS = "EXISTS (SELECT 1 FROM jobs WHERE run = runs.id)"  # `clean` may leave none of its jobs


class RunRecord(NamedTuple):
    """A run, and how far it is."""

    id: int
    name: str
    root: str
    share: float
    submitted: float  # the run's first job, in seconds since 1970
    started: float | None  # the run's first attempt; None: none has begun
    ended: float | None  # the newest end of an attempt
    # each name once, unless it has very many jobs
    counts: Mapping[State, int] = MappingProxyType({})
    replaced: int = 0  # jobs that a newer job of the same name replaced, which are not counted

    @property
    def jobs(self) -> int:
        """How many jobs it has."""
        return sum(self.counts.values())

    @property
    def open(self) -> int:
        """How many of its jobs have not ended."""
        return sum(self.counts.get(state, 0) for state in OPEN_STATES)


class _NamedJob(NamedTuple):
    id: int
    run_id: int
    name: str
    state: str


class ListingQueries:
    """Queries whose cost grows with the listed rows, and for a search text also with the queue."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Ask over a connection that a store has opened."""
        self._db = connection

    def jobs(
        self,
        listing_filter: ListingFilter,
        limit: int,
        *,
        older_than: int | None = None,
        newer_than: int | None = None,
    ) -> ListedPage:
        """Return a page of jobs.

        Args:
            listing_filter: which.
            limit: largest number of jobs.
            older_than: only older ones than this job.
            newer_than: job right before the newer jobs of the page, instead of `older_than`.
        """
        called = (
            find_search_selection(self._db.execute, listing_filter.text)
            if listing_filter.text
            else EVERY_JOB
        )
        conditions = [called.condition]
        if listing_filter.states:
            # few jobs are found by the index and then sorted; else the newest are read until there are enough
            column = (
                "state" if self._count_in_states(listing_filter.states) <= _FEW_JOBS else "+state"
            )
            conditions.append(f"{column} IN (SELECT value FROM json_each(:states))")
            # counted like the number of jobs in a state
            conditions.append(f"NOT {IS_REPLACED_SQL}")
        values = {**called._asdict(), "states": json.dumps(sorted(listing_filter.states))}
        return self._read_page("jobs", conditions, values, limit, (older_than, newer_than))

    def runs(
        self,
        limit: int,
        *,
        older_than: int | None = None,
        newer_than: int | None = None,
        numbers: Collection[int] | None = None,
    ) -> ListedPage:
        """Return a page of the runs that have jobs.

        Args:
            limit: largest number of runs.
            older_than: only older ones than this run.
            newer_than: run right before the newer runs of the page, instead of `older_than`.
            numbers: only these; None: all.
        """
        conditions = [_HAS_JOBS]
        if numbers is not None:
            conditions.append("id IN (SELECT value FROM json_each(:among))")
        values = {"among": json.dumps(sorted(numbers or ()))}
        return self._read_page("runs", conditions, values, limit, (older_than, newer_than))

    def _read_page(
        self,
        table: str,
        conditions: list[str],
        values: Mapping[str, object],
        limit: int,
        ends: tuple[int | None, int | None],
    ) -> ListedPage:
        def numbers(operator: str, limit_number: int | None, most: int) -> list[int]:
            where = " AND ".join(
                [*conditions, f"id {operator} :number" if limit_number is not None else "1"]
            )
            query = (
                f"SELECT id FROM {table} WHERE {where}"
                f" ORDER BY id {'ASC' if operator == '>' else 'DESC'} LIMIT :limit"
            )
            rows = self._db.execute(query, {**values, "number": limit_number, "limit": most})
            return [row["id"] for row in rows]

        before, after = ends
        if after is not None:
            listed = numbers(">", after, limit)[::-1]
        else:
            listed = numbers("<", before, limit)
        if not listed:
            return ListedPage([])
        newer, older = numbers(">", listed[0], 1), numbers("<", listed[-1], 1)
        return ListedPage(listed, newer=bool(newer), older=bool(older))

    def _count_in_states(self, states: Collection[State]) -> int:
        """Return how many jobs are in one of the states; no row is scanned."""
        (number,) = self._db.execute(
            "SELECT coalesce(sum(n), 0) FROM counters"
            " WHERE state IN (SELECT value FROM json_each(?))",
            (json.dumps(sorted(states)),),
        ).fetchone()
        return int(number)

    def runs_named(self, name: str) -> list[int]:
        """Return the runs of a name that have jobs, the oldest first; each project may have one."""
        rows = self._db.execute(
            f"SELECT id FROM runs WHERE name = ? AND {_HAS_JOBS} ORDER BY id", (name,)
        )
        return [run for (run,) in rows]

    def newest_run_named(self, name: str) -> int | None:
        """Return the newest run of a name, None if it does not exist."""
        return max(self.runs_named(name), default=None)

    def run_names(self) -> dict[int, str]:
        """Return the name of each run that has jobs."""
        return {
            row["id"]: row["name"]
            for row in self._db.execute(f"SELECT id, name FROM runs WHERE {_HAS_JOBS}")
        }

    def run_records(self, runs: Iterable[int]) -> list[RunRecord]:
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
        few = [run for run, of_run in counts.items() if sum(of_run.values()) <= _MOST_NAMES]
        replaced = self._count_superseded(few)
        records = {
            row["id"]: RunRecord(
                **dict(row),
                counts={
                    state: number - replaced[row["id"], state]
                    for state, number in counts.get(row["id"], {}).items()
                    if number > replaced[row["id"], state]
                },
                replaced=sum(number for (run, _), number in replaced.items() if run == row["id"]),
            )
            for row in rows
            if row["submitted"] is not None
        }
        return [records[run] for run in numbers if run in records]

    def _count_superseded(self, runs: Iterable[int]) -> Counter[tuple[int, State]]:
        """Return (run, state) → how many jobs of runs a newer job of the same name replaced."""
        rows = self._db.execute(
            "SELECT id, run, name, state FROM jobs WHERE run IN (SELECT value FROM json_each(?))"
            " AND name GLOB '*@[0-9]*'",  # by the index (run, name)
            (json.dumps([*runs]),),
        )
        jobs = [_NamedJob(*row) for row in rows.fetchall()]
        older = newest_by_superseded(self._db.execute, jobs)
        return Counter((job.run_id, known_state(job.state)) for job in jobs if job.id in older)

    def job_numbers(self, run: int) -> list[int]:
        """Return the numbers of a run's jobs."""
        rows = self._db.execute("SELECT id FROM jobs WHERE run = ? ORDER BY id", (run,))
        return [row["id"] for row in rows]

    def job_numbers_in_state(self, run: int, state: State, limit: int) -> list[int]:
        """Return the numbers of the newest jobs of a run in a state, the newest first.

        Jobs that a newer job of the same name replaced are left out.
        """
        numbers = self._db.execute(  # the index alone is read: a run may have very many jobs
            "SELECT id FROM jobs WHERE run = ? AND state = ? ORDER BY id DESC", (run, state)
        )
        current = (number for (number,) in numbers if not self._is_superseded(number))
        return [*islice(current, limit)]

    def _is_superseded(self, job_number: int) -> bool:
        """Return whether a newer job of the same name replaced a job."""
        row = self._db.execute("SELECT id, run, name, state FROM jobs WHERE id = ?", (job_number,))
        return bool(newest_by_superseded(self._db.execute, [_NamedJob(*row.fetchone())]))

    def first_job(self, run: int) -> int | None:
        """Return the number of a run's first job, None if the run has no job."""
        (first,) = self._db.execute("SELECT min(id) FROM jobs WHERE run = ?", (run,)).fetchone()
        return None if first is None else int(first)

    def settings_fingerprints(self) -> dict[int, dict[int, int]]:
        """Return run → job → what is another number when the job's settings are others."""
        jobs: dict[int, dict[int, int]] = {}
        for job, run, digest in self._db.execute("SELECT id, run, hash FROM jobs"):
            jobs.setdefault(run, {})[job] = hash(digest)
        return jobs

    def spec_records(self, jobs: Iterable[int]) -> Iterator[dict[str, Any]]:
        """Yield the stored specs of jobs as records; an empty one of what cannot be read."""
        rows = self._db.execute(
            "SELECT spec FROM jobs WHERE id IN (SELECT value FROM json_each(?))",
            (json.dumps([*jobs]),),
        )
        for row in rows:
            yield known_record(row["spec"])
