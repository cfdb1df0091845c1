"""Jobs page by page, the newest first: filtered by state and by a text in their names."""

import json
import sqlite3
from collections.abc import Collection
from dataclasses import dataclass

from launcher.states import State
from launcher.store.screen_queries import TAG_PREFIX

RUN_PREFIX = "run:"
_FEW = 2000  # jobs, whose order is quickly made
_WILD = frozenset("*?[")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilter:
    """Which jobs are listed."""

    states: frozenset[State] = frozenset()  # none: any
    text: str = ""  # in the job's name or its run's, a glob, the job's number, tag:TAG, or run:RUN

    @property
    def pattern(self) -> str:
        """The text as a glob."""
        return self.text if set(self.text) & _WILD else f"*{self.text}*"

    @property
    def tag(self) -> str:
        """The tag that it asks for, or a glob of tags; '': for none."""
        return self.text.removeprefix(TAG_PREFIX) if self.text.startswith(TAG_PREFIX) else ""

    @property
    def run(self) -> str:
        """The name of the run that it asks for; '': for none."""
        return self.text.removeprefix(RUN_PREFIX) if self.text.startswith(RUN_PREFIX) else ""


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
        if chosen.tag:
            conditions.append("id IN (SELECT job FROM tags WHERE tag GLOB :tag)")
        elif chosen.run:
            conditions.append("run IN (SELECT id FROM runs WHERE name = :run)")
        elif chosen.text:
            conditions.append(
                "(name GLOB :pattern OR CAST(id AS TEXT) = :text"
                " OR run IN (SELECT id FROM runs WHERE name GLOB :pattern))"
            )
        query = (
            f"SELECT id FROM jobs WHERE {' AND '.join(conditions)} ORDER BY id {order} LIMIT :limit"
        )
        values = {
            "job": job,
            "limit": limit,
            "states": json.dumps(sorted(chosen.states)),
            "pattern": chosen.pattern,
            "tag": chosen.tag,
            "run": chosen.run,
            "text": chosen.text,
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
