"""Results of jobs without a plugin package's table: the numbers that jobs returned, one row per job."""

import re
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from launcher.experiments.kind_interface import Kind
from launcher.experiments.results.model_columns import (
    SEED,
    ModelIndex,
    settings_of,
    swept_settings,
    test_name,
    unused_name,
)
from launcher.experiments.results.pivot import ResultMetrics, flatten_record, metrics_of_result
from launcher.experiments.results.result_jobs import state_word
from launcher.experiments.results.table import (
    DATA,
    MODEL,
    POOLED,
    AbsentRow,
    Row,
    RunResults,
    names_of,
)
from launcher.queue.home.paths import Home
from launcher.queue.jobs.job import FUNCTION, PROGRAM, Spec
from launcher.queue.jobs.params import (
    filled_options,
    swept_values,
    to_param_value,
    words_before_options,
)
from launcher.queue.jobs.signatures import program_signature
from launcher.queue.jobs.states import ReasonCode, State
from launcher.queue.store.queue import Store
from launcher.queue.store.rows import JobRow
from launcher.queue.store.tags import REMOVED_TAG
from launcher.queue.workers.progress.attempt_progress import (
    LEFT_OUT,
    NUMBER_FAULTS,
    READ_FROM,
    REPORTED,
    NumberNotes,
    read_last_metrics,
    split_reserved_keys,
)
from launcher.system.executables import script_of, without_wrappers
from launcher.system.files import Json

JOB = "job"
TRIAL = "trial"  # a column, if a trial of a search is not complete
PRUNED, INCOMPLETE, FAILED = "pruned", "incomplete", "failed"  # values of the mark of a trial
# identifying columns, also if a program reports a number with such a name
_RESERVED_NAMES = frozenset(
    {JOB, MODEL, DATA, POOLED, REMOVED_TAG, READ_FROM, NUMBER_FAULTS, LEFT_OUT}
)


class ReturnedValues(NamedTuple):
    """The returned values of a done job."""

    job: JobRow
    numbers: ResultMetrics
    texts: Mapping[str, Json]  # texts, and booleans of a function
    is_removed: bool  # the task file does not contain the program's values any more
    read_from: str = ""  # sources of the numbers of a program that it did not report itself
    sources: Mapping[str, str] = {}  # number → source, if there are several
    faults: tuple[str, ...] = ()  # why numbers that were to be read are missing
    left_out: tuple[str, ...] = ()  # printed names that are no results


def read_returned_values(
    home: Home, store: Store, jobs: Iterable[JobRow], kinds: Mapping[str, Kind]
) -> list[ReturnedValues]:
    """Return the returned values of jobs; for a program the last reported numbers.

    Jobs that are not done are omitted, and those with neither values nor faults.

    Args:
        home: Queue folder.
        store: Queue.
        jobs: Jobs of the queue.
        kinds: Installed kinds of the jobs, by name.
    """
    done = [job for job in jobs if job.state is State.DONE]
    results = store.read.results(job.id for job in done)
    tags = store.job_control.tags_of(job.id for job in done)
    returned = []
    for job in done:
        spec = job.spec_without_sources
        result: Mapping[str, Json] = results.get(job.id) or {}
        if not result and not spec.entry and not job.is_accepted_unrun:
            result = read_last_metrics(job.attempt_in(home), may_be_cut=_is_pruned(job))
        notes = NumberNotes()
        if _has_log_numbers(spec):
            result, notes = split_reserved_keys(result)
        source, sources = _sources(result.get(READ_FROM) if _has_log_numbers(spec) else None)
        if source:  # a parameter that a program prints is no result
            result = {
                name: value
                for name, value in result.items()
                if name != READ_FROM
                and (name not in settings_of(spec) or sources.get(name) == REPORTED)
            }
        if result or notes.faults or notes.left_out:
            data = _data_of(job, kinds)
            numbers = metrics_of_result(spec.name, spec.model or "", data, result)
            told = flatten_record(result) if spec.kind == FUNCTION else ()
            texts = {name: value for name, value in told if isinstance(value, str | bool)}
            returned.append(
                ReturnedValues(
                    job,
                    numbers,
                    texts,
                    REMOVED_TAG in tags.get(job.id, ()),
                    source,
                    sources,
                    notes.faults,
                    tuple(name for name in notes.left_out if name not in settings_of(spec)),
                )
            )
    return returned


def _has_log_numbers(spec: Spec) -> bool:
    """Return whether the numbers of a job may be from its log: those of a program, or of a function without others."""
    return not spec.entry or spec.kind == FUNCTION


def _sources(stored_record: Json) -> tuple[str, Mapping[str, str]]:
    """Return the sources of numbers that a program did not report, and those of each number if there are several."""
    if not isinstance(stored_record, Mapping):
        return str(stored_record or ""), {}
    sources = {name: str(source) for name, source in stored_record.items()}
    return ", ".join(dict.fromkeys(sources.values())), sources


def with_sources(rows: Iterable[Row], returned_values: Iterable[ReturnedValues]) -> list[Row]:
    """Return rows for JSON: numbers from several sources have an object in the place of a word."""
    by_job = {each.job.name: each.sources for each in returned_values if each.sources}
    return [
        {**row, READ_FROM: {**sources}}
        if READ_FROM in row and (sources := by_job.get(str(row.get(JOB))))
        else row
        for row in rows
    ]


def returned_rows(
    returned_values: Iterable[ReturnedValues],
    kinds: Mapping[str, Kind],
    model_specs: Sequence[Spec] = (),
    newest_jobs: Iterable[JobRow] = (),
    trial_marks: Mapping[int, str] = MappingProxyType({}),
) -> RunResults:
    """Return one row per job with its returned values and the settings that differ between jobs.

    Args:
        returned_values: Returned values of the jobs of a run.
        kinds: Installed kinds of the jobs, by name.
        model_specs: Jobs of other runs; settings that differ from them are also columns.
        newest_jobs: Current jobs of the run. Those without a result that are similar to one with a result become
            absent rows.
        trial_marks: Job → its value in the column of trials that are not complete.
    """
    telling = [each for each in returned_values if each.numbers.metrics or each.texts]
    similar = {each.job.id: _similarity_key(each.job) for each in telling}
    absent = _similar_without_result(similar, newest_jobs)
    specs = [each.job.spec_without_sources for each in telling]
    every = [*specs, *(job.spec_without_sources for job in absent)]
    models = ModelIndex(every, kinds)
    parts = (MODEL, *models.parts) if any(spec.model for spec in specs) else ()
    told = {name for each in telling for name in (*each.numbers.metrics, *each.texts)}
    marks = (
        REMOVED_TAG,
        *([TRIAL] if any(trial_mark(each.job, trial_marks) for each in telling) else ()),
    )
    taken = {JOB, DATA, READ_FROM, NUMBER_FAULTS, LEFT_OUT, *marks, *parts, *told}
    columns = {
        name: unused_name(name, taken)
        for name in _varying_settings(every, model_specs, kinds, parts)
    }
    rows = [
        {
            **_row(spec, each, models, columns, marks),
            REMOVED_TAG: "yes" if each.is_removed else None,
            **({TRIAL: mark} if (mark := trial_mark(each.job, trial_marks)) else {}),
            **({READ_FROM: each.read_from} if each.read_from else {}),
        }
        for spec, each in zip(specs, telling, strict=True)
    ]
    order = tuple(dict.fromkeys((JOB, *parts, *columns.values(), DATA, *marks)))
    there = {name for row in rows for name in order if row.get(name) not in {None, ""}}
    names = [name for name in names_of(rows, order) if name in there or name not in order]
    listed = [{name: row.get(name) for name in names} for row in rows]
    programs = {each.job.name: _program_key(each.job, similar[each.job.id]) for each in telling}
    return RunResults(
        rows=listed,
        columns=tuple(name for name in order if name in there),
        programs=programs if len({*programs.values()}) > 1 else {},
        absent=[
            AbsentRow(
                {
                    **_identifying_columns(
                        job.spec_without_sources, _data_of(job, kinds), models, columns
                    ),
                    **({TRIAL: mark} if (mark := trial_mark(job, trial_marks)) else {}),
                },
                _absence_reason(job),
            )
            for job in absent
        ],
    )


def silent_jobs(
    returned_values: Collection[ReturnedValues], done_jobs: Iterable[JobRow]
) -> list[JobRow]:
    """Return the done jobs that are similar to jobs with a row, and returned nothing."""
    telling = (each for each in returned_values if each.numbers.metrics or each.texts)
    similar = {each.job.id: _similarity_key(each.job) for each in telling}
    known = {each.job.id for each in returned_values}  # some have notes of their own
    others = (job for job in done_jobs if job.id not in known and not job.is_accepted_unrun)
    return _similar_without_result(similar, others)


def trial_mark(job: JobRow, trial_marks: Mapping[int, str]) -> str | None:
    """Return the value of a job in the column of trials that are not complete, None if it has none."""
    return PRUNED if _is_pruned(job) else trial_marks.get(job.id)


def _is_pruned(job: JobRow) -> bool:
    return job.state_reason.code is ReasonCode.PRUNED


def _similar_without_result(
    similar: Mapping[int, Hashable], jobs: Iterable[JobRow]
) -> list[JobRow]:
    """Return the jobs without a result that are similar to a job with one: repetitions or other swept values.

    Args:
        similar: Job with a result → the key of similar jobs.
        jobs: Newest jobs.
    """
    alike = {*similar.values()}
    without = (job for job in jobs if job.state is not State.DONE or job.id not in similar)
    return [job for job in without if _similarity_key(job) in alike]


def _program_key(job: JobRow, similar: Hashable) -> Hashable:
    """Return the key of the jobs that differ only in parameters: that of similar jobs, with folder and environment."""
    settings = job.spec_without_sources.settings
    folder, variables = settings.get("cwd"), settings.get("env")
    return similar if folder is variables is None else (similar, str(folder), str(variables))


def _similarity_key(job: JobRow) -> Hashable:
    """Return the key of the jobs that differ only in values."""
    spec = job.spec_without_sources
    if spec.kind == PROGRAM:
        return spec.kind, program_signature(_program_words(spec)), frozenset(spec.params)
    if spec.kind == FUNCTION:
        return spec.kind, spec.name.rpartition("#")[0], frozenset(spec.params)
    return (spec.kind,)


def _program_words(spec: Spec) -> list[str]:
    """Return the words that name a program, with `#` for swept texts.

    They are its script. If the script is unknown, they are the words before the first option, and the first Python
    file after it, such as the script of torchrun.
    """
    words = [script_of(spec.argv)]
    if not words[0]:
        words = words_before_options(without_wrappers(spec.argv))
        values = [*spec.params.values()]
        files = [word for word in spec.argv if re.fullmatch(r"[^-].*\.py", word)]
        words += [file for file in files if file not in values][:1]
    swept = [value for value in swept_values(spec.settings).values() if isinstance(value, str)]
    for value in sorted(filter(None, swept), key=len, reverse=True):
        words = [re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", "#", word) for word in words]
    return words


def _absence_reason(job: JobRow) -> str:
    if job.state is not State.DONE:
        return state_word(job.state)
    return "accepted, not run" if job.is_accepted_unrun else "without a result"


def _data_of(job: JobRow, kinds: Mapping[str, Kind]) -> str:
    """Return the data of a job for a table."""
    return test_name(kinds.get(job.kind), job.spec_without_sources)


def _varying_settings(
    specs: Sequence[Spec],
    model_specs: Sequence[Spec],
    kinds: Mapping[str, Kind],
    parts: Sequence[str],
) -> list[str]:
    """Return the settings that are columns: settings that differ between jobs, swept settings, and the seed.

    An option that all jobs make of swept values alike, such as `--name y{seed}`, is none.
    """
    telling = {
        name for those in swept_settings([*specs, *model_specs], kinds).values() for name in those
    }
    telling |= {name for spec in specs for name in swept_values(spec.settings)} | {SEED}
    hidden = _names_filled_alike([*specs, *model_specs])
    names = dict.fromkeys(name for spec in specs for name in settings_of(spec) if name in telling)
    return [name for name in names if name not in parts and name not in hidden]


def _names_filled_alike(specs: Sequence[Spec]) -> set[str]:
    """Return the options that all jobs with them make of swept values in the same way."""
    filled = [filled_options(spec.settings) for spec in specs]
    forms: dict[str, set[Any]] = {name: set() for each in filled for name in each}
    if not forms:
        return set()
    for spec, each in zip(specs, filled, strict=True):
        for name in forms:
            if name in each or name in settings_of(spec):
                forms[name].add(each.get(name))
    return {name for name, known in forms.items() if len(known) == 1 and None not in known}


def _row(
    spec: Spec,
    returned_values: ReturnedValues,
    models: ModelIndex,
    columns: Mapping[str, str],
    marks: Collection[str],
) -> Row:
    row = _identifying_columns(spec, returned_values.numbers.data, models, columns)
    metrics = {name: metric.to_json() for name, metric in returned_values.numbers.metrics.items()}
    cells = {**metrics, **returned_values.texts}
    reserved = _RESERVED_NAMES.union(marks)
    return row | {f"{name}_" if name in reserved else name: cell for name, cell in cells.items()}


def _identifying_columns(
    spec: Spec, data: str, models: ModelIndex, columns: Mapping[str, str]
) -> dict[str, Any]:
    """Return the columns that identify the row of a job."""
    settings = settings_of(spec)
    row: dict[str, Any] = {JOB: spec.name, DATA: data or None}
    if spec.model:
        parts = models.columns(spec.model)
        row |= {MODEL: spec.model, **{name: parts.get(name) for name in models.parts}}
    if SEED in settings and SEED not in columns:
        row[SEED] = to_param_value(settings[SEED])
    return row | {column: to_param_value(settings.get(name)) for name, column in columns.items()}
