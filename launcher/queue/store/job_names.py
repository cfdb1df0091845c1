"""Names of the jobs of a run: a new job may take the name of an ended one, which is then called NAME@NUMBER.

The job that got such a name is superseded: a newer job of its run has the name under which it was queued.
"""

from collections.abc import Callable, Iterable
from typing import Any, Protocol

_SEPARATOR = "'"  # is appended as often as needed if a job already has the name NAME@NUMBER
# By the index (run, name). Behind the name and "@" comes a number, and ":" follows "9".
_NEWEST_OF_NAME = (
    "SELECT max((SELECT coalesce(max(id), 0) FROM jobs WHERE run = ?1 AND name = ?2),"
    " (SELECT coalesce(max(id), 0) FROM jobs WHERE run = ?1 AND name >= ?2 || '@0'"
    " AND name < ?2 || '@:' AND rtrim(name, '''') = ?2 || '@' || id))"
)
# the name under which a superseded job was queued
_QUEUED_NAME = (
    "substr(rtrim(jobs.name, ''''), 1, length(rtrim(jobs.name, '''')) - length(jobs.id) - 1)"
)
# Condition of a job that a newer job superseded, as `newest_by_superseded` finds it. Each of the two subqueries uses the
# index (run, name).
HAS_NEWER_SQL = (
    "(rtrim(jobs.name, '''') GLOB '*@' || jobs.id"
    " AND (EXISTS (SELECT 1 FROM jobs AS newer WHERE newer.run = jobs.run"
    f" AND newer.name = {_QUEUED_NAME} AND newer.id > jobs.id)"
    " OR EXISTS (SELECT 1 FROM jobs AS newer WHERE newer.run = jobs.run"
    f" AND newer.name >= {_QUEUED_NAME} || '@0' AND newer.name < {_QUEUED_NAME} || '@:'"
    f" AND newer.id > jobs.id AND rtrim(newer.name, '''') = {_QUEUED_NAME} || '@' || newer.id)))"
)
# the same for a failed or skipped job
IS_REPLACED_SQL = f"(jobs.state IN ('failed', 'skipped') AND {HAS_NEWER_SQL})"


class HasRunAndName(Protocol):
    """A job of which at least this is known."""

    @property
    def id(self) -> int:
        """Its number."""
        ...

    @property
    def run_id(self) -> int:
        """The number of its run."""
        ...

    @property
    def name(self) -> str:
        """Its name in the run."""
        ...


def superseded_name(name: str, job_number: int) -> str:
    """Return the name of a job after a newer one took its name."""
    return f"{name}@{job_number}"


def queued_name(name: str, job_number: int) -> str:
    """Return the name under which a job was queued.

    Args:
        name: its name now.
        job_number: number of the job.
    """
    before, at, digits = name.rstrip(_SEPARATOR).rpartition("@")
    return before if at and digits == str(job_number) else name


def newest_by_superseded(
    execute: Callable[..., Any], jobs: Iterable[HasRunAndName]
) -> dict[int, int]:
    """Return superseded job → the newest job of the name under which it was queued, of those given.

    Args:
        execute: function that executes SQL in a database.
        jobs: some jobs; those that no newer job superseded are left out.
    """
    newest: dict[int, int] = {}
    for job in jobs:
        name = queued_name(job.name, job.id)
        if name != job.name:
            (number,) = execute(_NEWEST_OF_NAME, (job.run_id, name)).fetchone()
            if number > job.id:
                newest[job.id] = number
    return newest
