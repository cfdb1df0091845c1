"""Searches of task files: each trial is a plan of the file with one value per name."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from launcher.experiments.functions.plan_checks import compare
from launcher.experiments.kind_interface import Kind, ReportsValidation
from launcher.experiments.planning.load import load, plan
from launcher.experiments.planning.plan import Plan, PlannedJob
from launcher.experiments.planning.submit import RunPaths, spec_of, submit
from launcher.experiments.search.definition import (
    PlannedEntry,
    SearchDefinition,
    check_outputs,
    define,
    sample_values,
)
from launcher.experiments.search.words import TPE, SearchWords
from launcher.experiments.taskfile.domains import (
    IN_FILE,
    Choice,
    Range,
    Value,
    choice_of,
    parse_domain,
    text_of,
)
from launcher.experiments.taskfile.searches import VALUES, ChosenValues, SearchEntry
from launcher.queue.backends.eligibility import with_default_backends
from launcher.queue.backends.settings import read_configured_backends
from launcher.queue.jobs.context import Context
from launcher.queue.jobs.job import Spec
from launcher.queue.store.queue import Store
from launcher.system.errors import UnknownName, UsageError
from launcher.system.files import Json

MOST_PLANNED = 60  # trials that are planned before a search is queued
VALIDATION = "val_"  # beginning of the names of numbers on validation images


def planned_search(
    file: str, text: str, settings: Sequence[str], search_index: int, entry: SearchEntry
) -> SearchDefinition:
    """Return a search of a task file, with one of its jobs as the template.

    Args:
        file: Path of the file.
        text: Its text.
        settings: `key=value` each, stronger than the file.
        search_index: Which of the entries with a search.
        entry: The entry.

    Raises:
        UsageError: an option is wrong.
        TaskFileError: the entry is wrong.
    """
    words = entry.words
    values = words[VALUES]
    assert isinstance(values, dict)
    where = f"{file}, line {entry.place.line}"
    try:
        definition = define(
            SearchWords(
                metrics=str(words["metric"]),
                trials=_whole(words, "trials"),
                parallel=_whole(words, "parallel"),
                sampler=str(words.get("sampler") or TPE),
                pruner=None if words.get("pruner") is None else str(words["pruner"]),
                repeat=_repeat(words.get("repeat")),
                seed=_whole(words, "seed") or 0,
                spelling="metric: {}",
            ),
            {name: _values(name, value) for name, value in values.items()},
        )
        if not entry.is_program:
            _check_validation(definition)
    except UsageError as error:
        raise UsageError(f"{where}: search: {error}") from error
    options: dict[str, Json] = {"settings": [*settings]}
    definition = definition._replace(
        plan=PlannedEntry(str(Path(file).absolute()), text, search_index, options)
    )
    made, job = plan_of_trial(definition, _first_values(definition), os.environ, where)
    root = made.run_folder.parent.parent
    if not entry.is_program:
        try:
            _check_reported(definition, made.kinds[job.kind], job)
        except UsageError as error:
            raise UsageError(f"{where}: search: {error}") from error
    spec = spec_of(job, RunPaths(root, made.name))
    whole = definition._replace(spec=spec._replace(name=job.name.partition("@")[0]))
    if entry.is_program:
        check_outputs(whole, f"{where}: outputs: {{}}")
    _plan_samples(whole, where)
    return whole


def _plan_samples(definition: SearchDefinition, place: str) -> None:
    """Plan a job with each listed value and both bounds of each range, so that no trial is refused later.

    Raises:
        UsageError: one cannot be planned.
        TaskFileError: a value is wrong.
    """
    _, *others = islice(sample_values(definition), MOST_PLANNED)
    for values, repeat in others:
        planned = values
        if definition.repeat is not None:
            planned = {**values, definition.repeat.name: definition.repeat.values[repeat]}
        plan_of_trial(definition, planned, os.environ, place)


def plan_of_trial(
    definition: SearchDefinition,
    values: Mapping[str, Value],
    environment: Mapping[str, str],
    place: str = "",
) -> tuple[Plan, PlannedJob]:
    """Return the plan of a trial, with its job and all that this needs; and the job.

    Raises:
        UsageError: the entry makes several jobs per combination.
        TaskFileError: the file is wrong.
    """
    entry = definition.plan
    assert entry is not None
    settings = entry.options.get("settings")
    given = [str(each) for each in settings] if isinstance(settings, list) else []
    texts = {name: text_of(value) for name, value in values.items()}

    def make_plan(chosen_values: ChosenValues | None) -> Plan:
        task = load(
            entry.file,
            settings=given,
            text=entry.text,
            chosen=chosen_values,
            environment=environment,
        )
        return plan(task)

    whole = make_plan(ChosenValues(entry.entry, texts, definition.path_labels(texts)))
    kind = whole.searches[entry.entry].kind
    others = {job.name for job in make_plan(None).jobs} if len(whole.jobs) > 1 else set[str]()
    own = [job for job in whole.jobs if job.kind == kind and job.name not in others]
    if len(own) != 1:
        names = ", ".join(job.name for job in own) or "none"
        raise UsageError(
            f"{place}: search: an entry with a search makes one job per combination, not {names}. "
            "Give it one method and one poison."
        )
    by_name = {job.name: job for job in whole.jobs}
    wanted, todo = set[str](), [own[0].name]
    while todo:
        name = todo.pop()
        if name in by_name and name not in wanted:
            wanted.add(name)
            todo += [*by_name[name].needs, *by_name[name].after_any]
    jobs = tuple(job for job in whole.jobs if job.name in wanted)
    backends = read_configured_backends(os.environ)
    made = replace(whole, jobs=jobs).with_terms(
        lambda terms: with_default_backends(terms, backends)
    )
    return made, own[0]


def queue_planned(
    store: Store,
    definition: SearchDefinition,
    values: Mapping[str, Value],
    context: Context,
    record: Callable[[int], None],
) -> None:
    """Queue the job of a trial and the jobs that it needs.

    Args:
        store: The queue.
        definition: The search.
        values: Of the trial.
        context: Where its jobs run.
        record: Is called with the number of the job in the transaction that inserts it.

    Raises:
        Error: the plan cannot be queued.
    """
    made, job = plan_of_trial(definition, values, context.environment)
    root = made.run_folder.parent.parent
    comparison = compare(store, made, root, force=False, accept_code=False)
    submit(
        store,
        root,
        comparison,
        context,
        time.time(),
        is_whole=False,
        record=lambda numbers: record(numbers[job.name]),
    )


def specs_of_trial(definition: SearchDefinition, environment: Mapping[str, str]) -> list[Spec]:
    """Return the specifications of the jobs of a trial, with the first values.

    Args:
        definition: The search.
        environment: The variables that the plan may name.
    """
    made, _ = plan_of_trial(definition, _first_values(definition), environment)
    folders = RunPaths(made.run_folder.parent.parent, made.name)
    return [spec_of(job, folders) for job in made.jobs]


def _first_values(definition: SearchDefinition) -> dict[str, Value]:
    first = {name: domain.first for name, domain in definition.space.items()}
    if definition.repeat is not None:
        first[definition.repeat.name] = definition.repeat.values[0]
    return first


def _check_validation(definition: SearchDefinition) -> None:
    """Refuse metrics of the lab that are not measured on validation images.

    Raises:
        UsageError: there is one.
    """
    for objective in definition.objectives:
        if not objective.metric.startswith(VALIDATION):
            raise UsageError(
                f"metric {objective.metric!r} is not a validation number. A search that chooses on test images "
                f"makes their results too good. Use a number whose name begins with {VALIDATION!r}, such as val_loss."
            )


def _check_reported(definition: SearchDefinition, kind: Kind, job: PlannedJob) -> None:
    """Refuse metrics that jobs of a kind never report.

    Raises:
        UsageError: there is one.
    """
    known = kind.validation_metrics(job.settings) if isinstance(kind, ReportsValidation) else None
    if known is None:
        return
    for objective in definition.objectives:
        if not known:
            raise UsageError(
                f"{kind.name} jobs report no number on validation images, so a search has nothing to choose by. Use a "
                "matrix."
            )
        if objective.metric not in known:
            raise UnknownName(f"metric of {kind.name} jobs", objective.metric, known)


def _values(name: str, value: Json) -> Range | Choice:
    if isinstance(value, list):
        odd = [each for each in value if not isinstance(each, str | int | float)]
        if odd:
            word = "null" if odd[0] is None else str(odd[0])
            raise UsageError(
                f"{name}: expected numbers and words, got {word}. For the text, write '{word}' in quotes."
            )
        return choice_of(name, [each for each in value if isinstance(each, str | int | float)])
    return parse_domain(name, "" if value is None else str(value), IN_FILE)


def _repeat(value: Any) -> str | None:
    if isinstance(value, dict) and len(value) == 1:
        ((name, values),) = value.items()
        texts = values if isinstance(values, list) else [values]
        return f"{name}={','.join(map(str, texts))}"
    return None if value is None else str(value)


def _whole(words: Mapping[str, Json], name: str) -> int | None:
    value = words.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise UsageError(f"{name}: expected a whole number, got {value!r}")
    return value
