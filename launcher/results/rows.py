"""The results of a run: what its laboratories tell of tests and folders, with the parts of the models.

Of jobs of which no laboratory tells, the numbers that each returned.
"""

import importlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from launcher.draft import condition_of_test, tested
from launcher.errors import MachineError
from launcher.ids import model_folder_name
from launcher.job import Spec
from launcher.kind_interface import Kind, Role
from launcher.kinds import find_kinds, installed
from launcher.planning.missing_packages import missing_packages
from launcher.results.columns import (
    CONDITION,
    DATA,
    MODEL,
    PLACE,
    POOLED,
    Row,
    RunResults,
    names_of,
)
from launcher.results.models import PARTS, SEED, Models, number, scalar, settings_of, swept
from launcher.screens.result_table import Measured, of_result
from launcher.states import State
from launcher.store.queue import Store
from launcher.store.rows import JobRow
from launcher.system.files import Json
from launcher.system.paths import Home
from launcher.workers.progress.attempt_progress import newest_step

_TELLING = frozenset({Role.TEST, Role.FOLDER})  # of which a table of results tells


def collect(jobs: Sequence[JobRow]) -> list[Row]:
    """Return the rows of `results_of`."""
    return [*results_of(jobs).rows]


def results_of(jobs: Sequence[JobRow], models: Models | None = None) -> RunResults:
    """Return the results of a run's tests and folders, each laboratory telling its own.

    A row of a test has besides the parts of its model, the settings in which the trainings and
    unlearnings of the run differ, and the conditions under which it was done.

    Args:
        jobs: of the run.
        models: of the run, where they were looked through already.

    Raises:
        MachineError: packages that a laboratory reads its results with are not installed.
    """
    rows = _told(jobs)
    if not any(MODEL in row for row in rows):
        return RunResults(rows=rows, columns=PLACE)
    models = models or models_of(jobs)
    taken = {name for row in rows for name in row}
    swept = {name: _free(name, taken) for name in models.swept}
    conditions = list(dict.fromkeys(name for row in rows for name in _conditions(row)))
    under = {name: _free(name, taken | set(swept)) for name in conditions}
    order = (MODEL, *PARTS, *swept.values(), *PLACE[1:], *under.values())
    described = [_described(row, models, swept, under) for row in rows]
    # of a kind that names columns of its own, these come with the parts
    more = dict.fromkeys(name for row in described for name in row if name not in taken)
    columns = dict.fromkeys((*order[: 1 + len(PARTS)], *more, *order))
    names = names_of(described, tuple(columns))
    ordered = [{name: row[name] for name in names if name in row} for row in described]
    return RunResults(rows=ordered, columns=tuple(columns))


def models_of(jobs: Sequence[JobRow]) -> Models:
    """Return what the models of a run are made of."""
    kinds = find_kinds(sorted({job.kind for job in jobs})).kinds
    return Models([job.plain_spec for job in jobs], kinds)


def test_name(kind: Kind | None, spec: Spec) -> str:
    """Return the name of a test among those of its model: its data, and under what it is done."""
    return tested(spec.data or "", "" if kind is None else kind.settings.condition(spec.settings))


def _told(jobs: Sequence[JobRow]) -> list[Row]:
    """Return the rows as the laboratories tell them."""
    done = [job for job in jobs if job.state is State.DONE and job.plain_spec.role in _TELLING]
    rows: list[Row] = []
    for name in sorted({job.kind for job in done}):
        kind = installed([name]).get(name)
        if kind is None or not kind.results:
            continue
        if uninstalled := missing_packages([kind]):
            raise MachineError("; ".join(uninstalled))
        specs = [job.plain_spec for job in done if job.kind == name and _is_there(job.plain_spec)]
        if specs:
            table = laboratory_function(kind.results)
            rows += table(specs[0].run_folder, [_subject(kind, spec) for spec in specs])
    return rows


def laboratory_function(name: str) -> Any:
    """Return a function that a laboratory names as `module:function`.

    Here its code enters the command line: only a laboratory can read its files.
    """
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)


class JobsOfRows:
    """Which jobs the rows of a run's results are of."""

    def __init__(
        self, jobs: Sequence[JobRow], kinds: Mapping[str, Kind], models: Models | None = None
    ) -> None:
        """Look through the jobs of a run.

        Args:
            jobs: of the run.
            kinds: of the jobs, by name, those that are installed.
            models: of the run, where they were looked through already.
        """
        self.named = {job.name: job.id for job in jobs}
        self._tests = {
            (job.plain_spec.model, test_name(kinds.get(job.kind), job.plain_spec)): job.id
            for job in jobs
            if job.plain_spec.model and job.plain_spec.data
        }
        models = models or Models([job.plain_spec for job in jobs], kinds)
        self.makers = {
            model: self.named[spec.name]
            for model, spec in models.makers.items()
            if spec.name in self.named
        }

    def test(self, row: Row) -> int | None:
        """Return the job that tested it; None of what pools tests."""
        place = str(row.get(MODEL)), str(row.get(DATA))
        return None if row.get(POOLED) else self._tests.get(place)

    def maker(self, row: Row) -> int | None:
        """Return the job that made its model."""
        return self.makers.get(str(row.get(MODEL)))


def _is_there(spec: Spec) -> bool:
    """Tell whether a made folder was left as it was; what a test wrote is its laboratory's business."""
    return spec.role != Role.FOLDER or all(Path(path).exists() for path in spec.outputs)


def _subject(kind: Kind, spec: Spec) -> tuple[str, str]:
    """Return what a table tells of a job: a model and its test, or no model and a folder."""
    if spec.role == Role.FOLDER:
        return "", model_folder_name(spec.name.partition("/")[2])
    return spec.model or "", test_name(kind, spec)


def _described(
    row: Row, models: Models, swept: Mapping[str, str], under: Mapping[str, str]
) -> dict[str, Any]:
    """Return a row with the columns of its model and of its test's conditions.

    Args:
        row: of a laboratory.
        models: of the run.
        swept: setting → column, of those in which trainings differ.
        under: setting → column, of those that make the conditions.
    """
    model = row.get(MODEL)
    if not isinstance(model, str):
        return {**row}
    parts = models.columns(model)
    conditions = _conditions(row)
    return {
        **{swept.get(name, name): value for name, value in parts.items()},
        **{column: conditions.get(name) for name, column in under.items()},
        **row,
    }


def _conditions(row: Row) -> dict[str, str | int | float]:
    """Return the settings that stand in the condition of a test."""
    data = row.get(DATA)
    text = row.get(CONDITION) or (condition_of_test(data) if isinstance(data, str) else "")
    pairs = (pair.partition("=") for pair in str(text).split(",") if "=" in pair)
    return {name: number(value) for name, _, value in pairs}


def _free(name: str, taken: set[str]) -> str:
    """Return the name of a setting's column; it must not hide what a laboratory tells."""
    return f"setting_{name}" if name in taken or name in PARTS else name


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
        for number, result in store.read.results(job.id for job in done).items()
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
