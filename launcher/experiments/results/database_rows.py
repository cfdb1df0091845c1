"""The rows of a database of results: jobs, attempts, settings, scores, epochs, errors."""

import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from launcher.experiments.kind_interface import HasEpochs, Kind
from launcher.experiments.results.database_tables import PARTS, PLAIN, to_cell
from launcher.experiments.results.metric import interval_columns, read_metric
from launcher.experiments.results.model_columns import SEED, ModelIndex, settings_of, swept_settings
from launcher.experiments.results.returned_rows import JOB, ReturnedValues, returned_rows
from launcher.experiments.results.rows import RowJobIndex, laboratory_function
from launcher.experiments.results.table import DATA, MODEL, POOLED, Row, RunResults
from launcher.queue.home.paths import Home
from launcher.queue.jobs.job import CPU, FUNCTION, PROGRAM
from launcher.queue.jobs.params import to_param_value
from launcher.queue.store.rows import AttemptRow, JobRow
from launcher.queue.texts import first_line, iso_time, iso_time_or_none
from launcher.system.log_files import last_lines
from launcher.system.secret_arguments import hide_secrets
from launcher.system.terminal_codes import strip_colours

# keys of a number with an interval, as plugin packages write it
_INTERVAL = frozenset({"value", "low", "high"})
SUPERSEDED = "superseded"
# columns that do not come from plugin packages
OWN_COLUMNS = frozenset({"id", "run", "row", "test", "maker", "job", SUPERSEDED})
# limits on the end of a log: enough for a traceback with its context
LINES, MOST_BYTES = 200, 1 << 15


def job_cells(
    job: JobRow,
    run: int,
    number: int,
    models: ModelIndex,
    attempt: AttemptRow | None,
    *,
    is_superseded: bool,
) -> tuple[Any, ...]:
    """Return the cells of a job.

    Args:
        job: Job of the queue.
        run: ID of the run's row.
        number: ID of the job's row.
        models: Models of its run.
        attempt: Its newest attempt.
        is_superseded: Whether a newer job of the run has its name.
    """
    spec = job.spec_without_sources
    parts = models.columns(spec.model) if spec.model else {}
    seed = parts.get(SEED)
    own = {**parts, SEED: to_param_value(settings_of(spec).get(SEED)) if seed is None else seed}
    resources = spec.resources
    began = attempt.claimed if attempt else None
    return (
        number, run, job.id, job.name, job.kind, spec.role, str(job.state), first_line(job.reason),
        str(job.state_reason.code), spec.model, spec.base, spec.data, *(own.get(name) for name in PARTS),
        shlex.join(hide_secrets(spec.argv)), str(spec.run_folder), job.priority, resources.cpus, resources.ram,
        resources.gpus if resources.may_need_gpu else 0, resources.vram, spec.terms.group or None,
        job.attempts, job.failures, iso_time(job.submitted), iso_time_or_none(began), iso_time_or_none(job.ended),
        attempt.seconds if attempt else None, job.hash, int(is_superseded),
    )  # fmt: skip


def attempt_cells(attempt: AttemptRow, job: int) -> tuple[Any, ...]:
    """Return the cells of an attempt of a job."""
    # the result of a job may be long and is not needed here
    outcome = {"ending": "done"} if attempt.is_done else attempt.outcome or {}
    done = outcome.get("ending") == "done"
    began, ended = attempt.claimed, attempt.ended
    on_gpu = attempt.device != CPU
    return (
        job, attempt.number, attempt.device, attempt.cpus, iso_time(began), iso_time_or_none(ended),
        attempt.seconds, outcome.get("ending"), attempt.reason_code,
        0 if done else outcome.get("exit_code"), outcome.get("signal"),
        attempt.vram if on_gpu else None, attempt.peak, attempt.pilot,
    )  # fmt: skip


def setting_rows(
    jobs: Sequence[JobRow], rows: Mapping[int, int], kinds: Mapping[str, Kind]
) -> Iterator[tuple[Any, ...]]:
    """Yield the settings of jobs: job, name, value, and whether it differs between jobs of its kind."""
    sweeping = {
        kind: frozenset(names)
        for kind, names in swept_settings((job.spec_without_sources for job in jobs), kinds).items()
    }
    for job in jobs:
        number, names = rows[job.id], sweeping[job.kind]
        for name, value in settings_of(job.spec_without_sources).items():
            yield number, name, to_param_value(value), name in names


def score_rows(
    results: RunResults, jobs: RowJobIndex, rows: Mapping[int, int]
) -> Iterator[dict[str, Any]]:
    """Yield flat rows of results: a number with an interval becomes three columns.

    Args:
        results: Results of a run.
        jobs: Jobs of the run.
        rows: Job number → ID of its row.
    """
    names: dict[str, int] = {}
    for row in results.rows:
        label = _label(row)
        names[label] = times = names.get(label, 0) + 1
        test, maker = jobs.test(row), jobs.maker(row)
        yield {
            "row": label if times == 1 else f"{label} ({times})",
            "test": None if test is None else rows[test],
            "maker": None if maker is None else rows[maker],
            **flatten_row(row),
            SUPERSEDED: 0,
        }


def program_rows(
    returned_values: Iterable[ReturnedValues],
    kinds: Mapping[str, Kind],
    rows: Mapping[int, int],
    counted_jobs: Collection[int],
    trial_marks: Mapping[int, str],
) -> Iterator[dict[str, Any]]:
    """Yield one row per program or function: its parameters and the last reported numbers.

    Args:
        returned_values: Returned values of the jobs of a run.
        kinds: Installed kinds of the jobs, by name.
        rows: Job number → ID of its row.
        counted_jobs: The jobs that count, one per name.
        trial_marks: Job → its value in the column of trials that are not complete.
    """
    programs = [each for each in returned_values if each.job.kind in {PROGRAM, FUNCTION}]
    number_of = {each.job.name: each.job.id for each in programs}
    for row in returned_rows(programs, kinds, trial_marks=trial_marks).rows:
        job, cells = number_of[row[JOB]], {key: cell for key, cell in row.items() if key != JOB}
        own = {"row": row[JOB], "test": rows[job], "maker": rows[job], POOLED: 0}
        yield {**own, **flatten_row(cells), SUPERSEDED: int(job not in counted_jobs)}


def _label(row: Row) -> str:
    """Return a label of a row; it is rarely shared by two rows of a run."""
    if POOLED not in row:
        return " · ".join(str(value) for value in row.values() if isinstance(value, str) and value)
    parts = (row.get(MODEL), row.get(DATA), row.get("data_root"))
    return " · ".join(str(part) for part in parts if part)


def flatten_row(row: Row) -> dict[str, Any]:
    """Return a row with one column per number: value, lower bound and upper bound of an interval."""
    cells: dict[str, Any] = {}
    for key, value in row.items():
        name = f"{key}_" if key in OWN_COLUMNS else key
        if value is None or value.__class__ in PLAIN:  # by far the most frequent cases
            cells[name] = value
        elif value.__class__ is dict and value.keys() == _INTERVAL:
            cells[name] = value["value"]
            cells[f"{name}_low"], cells[f"{name}_high"] = value["low"], value["high"]
        elif isinstance(value, Mapping) and (metric := read_metric(value)) is not None:
            cells |= interval_columns(name, metric)
        else:
            cells[name] = to_cell(value)
    return cells


def epoch_rows(
    jobs: Sequence[JobRow], kinds: Mapping[str, Kind], makers: Mapping[str, int]
) -> Iterator[dict[str, Any]]:
    """Yield the epochs of the models of a run, each with the row of the job that made the model."""
    for name, kind in kinds.items():
        if not isinstance(kind, HasEpochs) or not kind.epochs:
            continue
        specs = [
            job.spec_without_sources
            for job in jobs
            if job.kind == name and job.spec_without_sources.model
        ]
        models = list(dict.fromkeys(str(spec.model) for spec in specs))
        if models:
            folder: Path = specs[0].run_folder
            for record in laboratory_function(kind.epochs)(folder, models):
                cells = {
                    f"{key}_" if key in OWN_COLUMNS else key: value for key, value in record.items()
                }
                yield {"job": makers.get(str(record[MODEL])), **cells}


def error_rows(
    home: Home,
    attempts: Iterable[AttemptRow],
    rows: Mapping[int, int],
    known_attempts: Collection[tuple[int, int]],
) -> Iterator[tuple[Any, ...]]:
    """Yield job, attempt, error and end of the log of each unsuccessful ended attempt.

    Args:
        home: Queue folder.
        attempts: Attempts of jobs.
        rows: Job number → ID of its row.
        known_attempts: (row of a job, attempt) that are in the database: an ended log does not change.
    """
    for attempt in attempts:
        row, outcome = rows[attempt.job], None if attempt.is_done else attempt.outcome
        if (
            not outcome
            or outcome.get("ending") == "done"
            or (row, attempt.number) in known_attempts
        ):
            continue
        log = home.attempt(attempt.job, attempt.number).error_log
        lines = last_lines(log, LINES, MOST_BYTES)
        error = outcome.get("error") or outcome.get("why") or outcome.get("ending")
        yield row, attempt.number, str(error), "\n".join(map(strip_colours, lines))
