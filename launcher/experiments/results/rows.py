"""The results of a run: tests and folders as reported by its plugin packages, with the parts of the models.

For jobs without a plugin package's table: the numbers that they returned.
"""

import importlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from launcher.experiments.draft import condition_of_test
from launcher.experiments.kind_interface import Kind, Role
from launcher.experiments.kinds import find_kinds, installed_kinds
from launcher.experiments.planning.missing_packages import missing_packages
from launcher.experiments.results.model_columns import ModelIndex, test_name, unused_name
from launcher.experiments.results.result_jobs import RESULT_ROLES, made_folder_name, state_word
from launcher.experiments.results.returned_rows import read_returned_values, returned_rows
from launcher.experiments.results.table import (
    CONDITION,
    DATA,
    MODEL,
    POOLED,
    ROW_KEY_COLUMNS,
    AbsentRow,
    Row,
    RunResults,
    names_of,
)
from launcher.queue.home.paths import Home
from launcher.queue.jobs.job import Spec
from launcher.queue.jobs.params import parse_number
from launcher.queue.jobs.states import State
from launcher.queue.store.queue import Store
from launcher.queue.store.rows import JobRow
from launcher.system.errors import MachineError


def kinds_of(jobs: Iterable[JobRow]) -> Mapping[str, Kind]:
    """Return the installed kinds of jobs by name."""
    return find_kinds(sorted({job.kind for job in jobs})).kinds


def results_of(
    jobs: Sequence[JobRow],
    models: ModelIndex | None = None,
    newest_jobs: Sequence[JobRow] | None = None,
) -> RunResults:
    """Return the results of a run's tests and folders, as reported by each plugin package.

    A row of a test also has the parts of its model and the condition of the test. It also has the settings that
    differ between the trainings and unlearnings of the run.

    Args:
        jobs: jobs of the run.
        models: models of the run, if they are known already.
        newest_jobs: the newest jobs of the same names as they are. None if these are `jobs`.

    Raises:
        MachineError: packages that a laboratory reads its results with are not installed.
    """
    rows = _read_laboratory_rows(jobs)
    if not any(MODEL in row for row in rows):
        return RunResults(rows=rows, columns=ROW_KEY_COLUMNS)
    if models is None:
        models = ModelIndex([job.spec_without_sources for job in jobs], kinds_of(jobs))
    taken = {name for row in rows for name in row}
    used = {*taken, *models.parts}
    swept = {name: unused_name(name, used) for name in models.swept}
    conditions = dict.fromkeys(name for row in rows for name in _conditions(row))
    under = {name: unused_name(name, used | set(swept)) for name in conditions}
    described = [_with_model_columns(row, models, swept, under) for row in rows]
    # columns that a kind names itself come with the parts
    more = (name for row in described for name in row if name not in taken)
    columns = tuple(dict.fromkeys((MODEL, *models.parts, *more, *ROW_KEY_COLUMNS[1:])))
    names = names_of(described, columns)
    ordered = [{name: row[name] for name in names if name in row} for row in described]
    absent = [
        AbsentRow(_with_model_columns(row, models, swept, under), why)
        for row, why in _absent_tests(jobs if newest_jobs is None else newest_jobs)
    ]
    return RunResults(rows=ordered, columns=columns, absent=absent)


def _absent_tests(jobs: Sequence[JobRow]) -> Iterator[tuple[Row, str]]:
    """Yield model and data of each test without a result, and the reason."""
    absent = [
        job
        for job in jobs
        if job.state is not State.DONE
        and job.spec_without_sources.role == Role.TEST
        and job.spec_without_sources.model
    ]
    kinds = kinds_of(absent) if absent else {}
    for job in absent:
        spec = job.spec_without_sources
        row = {MODEL: spec.model, DATA: test_name(kinds.get(job.kind), spec), POOLED: False}
        yield row, state_word(job.state)


def _read_laboratory_rows(jobs: Sequence[JobRow]) -> list[Row]:
    """Return the rows of the plugin packages."""
    done = [
        job
        for job in jobs
        if job.state is State.DONE and job.spec_without_sources.role in RESULT_ROLES
    ]
    rows: list[Row] = []
    for name in sorted({job.kind for job in done}):
        kind = installed_kinds([name]).get(name)
        if kind is None or not kind.results:
            continue
        if uninstalled := missing_packages([kind]):
            raise MachineError("; ".join(uninstalled))
        specs = [
            job.spec_without_sources
            for job in done
            if job.kind == name and _is_there(job.spec_without_sources)
        ]
        if specs:
            table = laboratory_function(kind.results)
            rows += table(specs[0].run_folder, [_subject(kind, spec) for spec in specs])
    return rows


def unreadable_results(jobs: Iterable[JobRow]) -> str:
    """Return why the results of tests and folders cannot be read, with the remedy; '' if they can."""
    names = sorted({job.kind for job in jobs if job.state is State.DONE})
    found = find_kinds(names)
    faults = (*found.unusable.values(), *missing_packages(found.kinds.values()))
    return "; ".join(faults)


def laboratory_function(name: str) -> Any:
    """Return the function that a plugin package names as `module:function`.

    The command line imports its code here, because only the plugin package can read its files.
    """
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)


class RowJobIndex:
    """The jobs of the rows of a run's results."""

    def __init__(
        self, jobs: Sequence[JobRow], kinds: Mapping[str, Kind], models: ModelIndex | None = None
    ) -> None:
        """Index the jobs of a run.

        Args:
            jobs: Jobs of the run.
            kinds: Installed kinds of the jobs, by name.
            models: Models of the run, if they are indexed already.
        """
        self.named = {job.name: job.id for job in jobs}
        self._tests = {
            (
                job.spec_without_sources.model,
                test_name(kinds.get(job.kind), job.spec_without_sources),
            ): job.id
            for job in jobs
            if job.spec_without_sources.model and job.spec_without_sources.data
        }
        models = models or ModelIndex([job.spec_without_sources for job in jobs], kinds)
        self.makers = {
            model: self.named[spec.name]
            for model, spec in models.makers.items()
            if spec.name in self.named
        }

    def test(self, row: Row) -> int | None:
        """Return the job that tested a row, None for a row that pools tests."""
        place = str(row.get(MODEL)), str(row.get(DATA))
        return None if row.get(POOLED) else self._tests.get(place)

    def maker(self, row: Row) -> int | None:
        """Return the job that made the model of a row."""
        return self.makers.get(str(row.get(MODEL)))


def _is_there(spec: Spec) -> bool:
    """Return whether an output folder is unchanged; files of tests are checked by the plugin package."""
    return spec.role != Role.FOLDER or all(Path(path).exists() for path in spec.outputs)


def _subject(kind: Kind, spec: Spec) -> tuple[str, str]:
    """Return the subject of a job in a table: a model and its test, or None and a folder."""
    if spec.role == Role.FOLDER:
        return "", made_folder_name(spec)
    return spec.model or "", test_name(kind, spec)


def _with_model_columns(
    row: Row, models: ModelIndex, swept_names: Mapping[str, str], column_names: Mapping[str, str]
) -> dict[str, Any]:
    """Return a row with the columns of its model and of its test's conditions.

    Args:
        row: Row of a plugin package.
        models: Models of the run.
        swept_names: Setting → column, for settings that differ between trainings.
        column_names: Setting → column, for settings of conditions.
    """
    model = row.get(MODEL)
    if not isinstance(model, str):
        return {**row}
    parts = models.columns(model)
    conditions = _conditions(row)
    return {
        **{swept_names.get(name, name): value for name, value in parts.items()},
        **{column: conditions.get(name) for name, column in column_names.items()},
        **row,
    }


def _conditions(row: Row) -> dict[str, str | int | float]:
    """Return the settings in the condition of a test."""
    data = row.get(DATA)
    text = row.get(CONDITION) or (condition_of_test(data) if isinstance(data, str) else "")
    pairs = (pair.partition("=") for pair in str(text).split(",") if "=" in pair)
    return {name: parse_number(value) for name, _, value in pairs}


def rows_of(
    home: Home,
    store: Store,
    jobs: Sequence[JobRow],
    kinds: Mapping[str, Kind],
    model_specs: Sequence[Spec] = (),
    newest_jobs: Sequence[JobRow] | None = None,
    trial_marks: Mapping[int, str] = MappingProxyType({}),
) -> RunResults:
    """Return the rows of the plugin packages for a run, otherwise the returned values of its jobs.

    Args:
        home: Queue folder.
        store: Queue.
        jobs: Jobs of the run.
        kinds: kinds of the jobs, by name, those that are installed.
        model_specs: jobs of other runs; settings in which the run differs from them are columns, too.
        newest_jobs: newest jobs as of `results_of`; those without a result become absent rows.
        trial_marks: trial marks as of `returned_rows`.

    Raises:
        MachineError: packages that a laboratory reads its results with are not installed.
    """
    models = ModelIndex([job.spec_without_sources for job in jobs], kinds, model_specs)
    results = results_of(jobs, models, newest_jobs)
    if results.rows:
        return results
    returned = read_returned_values(home, store, jobs, kinds)
    return returned_rows(returned, kinds, model_specs, newest_jobs or (), trial_marks)
