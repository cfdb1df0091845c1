"""The results of one run, or of several in one table, each row with its run and its job."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from launcher.job import Spec
from launcher.kind_interface import Kind
from launcher.kinds import find_kinds
from launcher.results.columns import DATA, MODEL, PLACE, POOLED, Row, RunResults
from launcher.results.models import Models
from launcher.results.returned import JOB, results_by_job, returned_rows
from launcher.results.rows import results_of, test_name
from launcher.store.queue import Store
from launcher.store.rows import JobRow
from launcher.system.paths import Home

RUN, NUMBER = "run", "job number"  # columns beside those of a run's results
_OURS = frozenset({RUN, NUMBER})


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """The results of some runs, and the kinds of their jobs by name."""

    results: RunResults
    kinds: Mapping[str, Kind]


def compare(home: Home, store: Store, runs: Sequence[Sequence[JobRow]]) -> Compared:
    """Return the results of runs with the settings in which any two of their jobs differ.

    Args:
        home: whose runs.
        store: its queue.
        runs: the jobs of each.

    Raises:
        MachineError: packages that a laboratory reads its results with are not installed.
    """
    kinds = find_kinds(sorted({job.kind for jobs in runs for job in jobs})).kinds
    specs = [job.plain_spec for jobs in runs for job in jobs]
    rows: list[Row] = []
    columns: dict[str, None] = {RUN: None}
    for jobs in runs:
        results = _results_of(home, store, jobs, kinds, specs)
        numbers = _Numbers(jobs, kinds)
        rows += [{**_placed(row, jobs[0].run), NUMBER: numbers.of(row)} for row in results.rows]
        columns |= dict.fromkeys(map(_free, results.columns))
    # where a row belongs comes after what tells models apart
    order = sorted(columns, key=lambda name: name in PLACE and name != MODEL)
    return Compared(results=RunResults(rows=rows, columns=(*order, NUMBER)), kinds=kinds)


def _results_of(
    home: Home,
    store: Store,
    jobs: Sequence[JobRow],
    kinds: Mapping[str, Kind],
    among: Sequence[Spec],
) -> RunResults:
    """Return what laboratories tell of a run, else what its jobs returned."""
    results = results_of(jobs, Models([job.plain_spec for job in jobs], kinds, among))
    if results.rows:
        return results
    returned = results_by_job(home, store, jobs)
    pairs = [(job.plain_spec, returned[job.id]) for job in jobs if job.id in returned]
    return returned_rows(pairs, kinds, among) if pairs else results


class _Numbers:
    """Which job a row of results is of."""

    def __init__(self, jobs: Sequence[JobRow], kinds: Mapping[str, Kind]) -> None:
        self._names = {job.name: job.id for job in jobs}
        self._tests: dict[tuple[str, str], int] = {}
        for job in jobs:
            spec = job.plain_spec
            if spec.model and spec.data:
                self._tests[spec.model, test_name(kinds.get(job.kind), spec)] = job.id
        models = Models([job.plain_spec for job in jobs], kinds)
        self._makers = {
            model: self._names[spec.name]
            for model, spec in models.makers.items()
            if spec.name in self._names
        }

    def of(self, row: Row) -> int | None:
        """Return the job that returned or tested it, else the one that made its model."""
        if row.get(JOB) in self._names:
            return self._names[row[JOB]]
        model, data = row.get(MODEL), row.get(DATA)
        test = None if row.get(POOLED) else self._tests.get((str(model), str(data)))
        return self._makers.get(str(model)) if test is None else test


def _placed(row: Row, run: str) -> dict[str, Any]:
    return {RUN: run, **{_free(name): value for name, value in row.items()}}


def _free(name: str) -> str:
    """Return the name of a column; it must not hide ours."""
    return f"setting_{name}" if name in _OURS else name
