"""Runs page by page, the newest first, and what of all their jobs tells them apart."""

import json
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from launcher.states import OPEN, State
from launcher.store.connection import known_record, known_state

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
