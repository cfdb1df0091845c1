"""Additions of searches to the output of `launcher results`."""

import shlex
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from launcher.experiments.results.returned_rows import JOB
from launcher.experiments.results.table import COUNTS, Row, RunResults
from launcher.queue.jobs.context import FOLDER_PLACEHOLDERS, program_words
from launcher.queue.store.rows import JobRow
from launcher.queue.store.searches import SearchRow
from launcher.system.text import sanitize_terminal


def repeated_names(searches: Sequence[SearchRow]) -> tuple[str, ...]:
    """Return the parameters over which the searches of a run average."""
    if not searches:
        return ()
    # definitions of searches, which most runs lack
    from launcher.experiments.search.definition import read_definition

    repeats = (read_definition(search.body).repeat for search in searches)
    return tuple(dict.fromkeys(repeat.name for repeat in repeats if repeat is not None))


class RowJobs(NamedTuple):
    """Which jobs belong to the rows of a table, also to means of several jobs."""

    names: Mapping[tuple[object, ...], Sequence[str]]  # identifying values of a row → names of jobs
    columns: Sequence[str]

    def names_of(self, row: Row) -> Sequence[str]:
        """Return the names of the jobs of a row."""
        return self.names.get(_key(row, self.columns), ())


def jobs_of_rows(single: RunResults, results: RunResults) -> RowJobs:
    """Return which jobs belong to the rows of a table.

    Args:
        single: One row per job.
        results: The same rows, or means of them.
    """
    columns = [name for name in results.columns if name not in COUNTS]
    names: dict[tuple[object, ...], list[str]] = {}
    for row in single.rows:
        if JOB in row:
            names.setdefault(_key(row, columns), []).append(str(row[JOB]))
    return RowJobs(names, columns)


def _key(row: Row, columns: Sequence[str]) -> tuple[object, ...]:
    values = [row.get(name) for name in columns]
    return (*values, *(value.__class__ for value in values))  # 1 and 1.0 are different texts


def repeating_command(job: JobRow, *, is_trial: bool) -> str:
    """Return the line that says how to repeat the best job. The queue repeats it if the job's folder comes from the queue."""
    spec = job.spec_without_sources
    words = program_words(spec.settings, spec.argv)
    if any(folder in word for word in words for folder in FOLDER_PLACEHOLDERS):
        words = ("launcher", "add", "--", *words)
    what = "trial" if is_trial else "job"
    return sanitize_terminal(f"to repeat the best {what} (job {job.id}): {shlex.join(words)}")
