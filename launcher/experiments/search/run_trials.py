"""The trials of the searches of a run beside its results, without imports of searches, which few runs have."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from launcher.experiments.results.metric_direction import Direction
from launcher.experiments.results.returned_rows import JOB
from launcher.experiments.results.table import AbsentRow, RunResults
from launcher.queue.store.rows import JobRow
from launcher.system.files import Json


class UnqueuedSeeds(NamedTuple):
    """The seeds of a trial that have no job with its settings."""

    name: str  # the repeated parameter
    values: Sequence[Json]
    why: str


class RunSearches(NamedTuple):
    """The directions and trials of the searches of a run."""

    # metric → better direction; None: two searches disagree
    directions: Mapping[str, Direction | None] = {}
    trials: frozenset[int] = frozenset()  # jobs of trials
    marks: Mapping[int, str] = {}  # jobs of trials that are not complete → why
    unqueued: Mapping[int, UnqueuedSeeds] = {}  # job of the trial → seeds
    has_front: bool = False  # a search has several metrics, so several trials may be best

    def metric_of(self, results: RunResults) -> str:
        """Return the metric by which the rows of a table are ranked, empty if there is none."""
        metrics = {*results.metrics} if self.directions else set()
        return next((name for name in self.directions if name in metrics), "")

    def with_unqueued_seeds(self, results: RunResults, jobs: Iterable[JobRow]) -> RunResults:
        """Return results whose absent rows include the seeds that have no job.

        Args:
            results: One row per job.
            jobs: Jobs of the rows and of the absent rows.
        """
        if not self.unqueued:
            return results
        rows = {row.get(JOB): row for row in (*results.rows, *(e.row for e in results.absent))}
        absent = [
            AbsentRow({**rows[job.name], seeds.name: value}, seeds.why)
            for job in {job.id: job for job in jobs}.values()
            if (seeds := self.unqueued.get(job.id)) is not None and job.name in rows
            for value in seeds.values
        ]
        return results._replace(absent=[*results.absent, *absent])
