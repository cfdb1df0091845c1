"""The results of jobs of which no laboratory tells: the numbers that each returned."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from launcher.job import Spec
from launcher.kind_interface import Kind
from launcher.results.columns import DATA, MODEL, Row, RunResults
from launcher.results.models import PARTS, SEED, Models
from launcher.results.rows import test_name
from launcher.results.sweeps import scalar, settings_of, swept
from launcher.screens.result_table import Measured, of_result
from launcher.states import State
from launcher.store.queue import Store
from launcher.store.rows import JobRow
from launcher.system.files import Json
from launcher.system.paths import Home
from launcher.workers.progress.attempt_progress import newest_step

JOB = "job"


def results_by_job(
    home: Home, store: Store, jobs: Iterable[JobRow]
) -> dict[int, Mapping[str, Json]]:
    """Return number of a job → what it returned; of a program the numbers that it reported last.

    Jobs that are not done, or of which nothing is known, are left out.

    Args:
        home: whose jobs.
        store: its queue.
        jobs: some of them.
    """
    done = [job for job in jobs if job.state is State.DONE]
    results: dict[int, Mapping[str, Json]] = {
        number: result
        for number, result in store.frames.results(job.id for job in done).items()
        if result
    }
    for job in done:
        if job.id not in results and not job.plain_spec.entry:
            step = newest_step(home.attempt(job.id, job.attempts))
            if step is not None and step.metrics:
                results[job.id] = step.metrics
    return results


def returned_rows(
    results: Iterable[tuple[Spec, Mapping[str, Json]]],
    kinds: Mapping[str, Kind],
    among: Sequence[Spec] = (),
) -> RunResults:
    """Return a row for each job with the numbers that it returned, and the settings in which they differ.

    Args:
        results: of jobs of a run: their specs and what they returned.
        kinds: of the jobs, by name, those that are installed.
        among: jobs of other runs; settings in which the run differs from them are columns, too.
    """
    pairs = [(spec, measured(spec, result, kinds)) for spec, result in results]
    pairs = [(spec, numbers) for spec, numbers in pairs if numbers.metrics]
    specs = [spec for spec, _ in pairs]
    models, by_kind = Models(specs, kinds), swept([*specs, *among], kinds)
    names = dict.fromkeys(name for those in by_kind.values() for name in those if name != SEED)
    metrics = {name for _, numbers in pairs for name in numbers.metrics}
    columns = {
        name: f"setting_{name}" if name in {JOB, MODEL, DATA, *PARTS, *metrics} else name
        for name in names
    }
    rows = [_row(spec, numbers, models, columns) for spec, numbers in pairs]
    order = (JOB, MODEL, *PARTS, *columns.values(), DATA)
    there = {name for row in rows for name in order if row.get(name) not in {None, ""}}
    listed = [
        {name: row[name] for name in (*order, *row) if name in there or name not in order}
        for row in rows
    ]
    return RunResults(rows=listed, columns=tuple(name for name in order if name in there))


def measured(spec: Spec, result: Mapping[str, Json], kinds: Mapping[str, Kind]) -> Measured:
    """Return the numbers that a job returned."""
    data = test_name(kinds.get(spec.kind), spec)
    return of_result(spec.name, spec.model or "", data, result)


def _row(spec: Spec, numbers: Measured, models: Models, columns: Mapping[str, str]) -> Row:
    settings = settings_of(spec)
    row: dict[str, Any] = dict.fromkeys((JOB, MODEL, *PARTS, *columns.values(), DATA))
    if spec.model:
        row |= {name: models.columns(spec.model).get(name) for name in PARTS}
    row |= {column: scalar(settings.get(name)) for name, column in columns.items()}
    if SEED in settings:
        row[SEED] = scalar(settings[SEED])
    row |= {JOB: spec.name, MODEL: spec.model, DATA: numbers.data or None}
    return row | {name: metric.record() for name, metric in numbers.metrics.items()}
