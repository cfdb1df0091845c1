"""New searches on their way into the queue, and searches that go on with more trials."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from launcher.experiments.functions.program_start import check_folders
from launcher.experiments.functions.programs import PREFIX, SubmitRequest, check_programs
from launcher.experiments.search.definition import (
    SearchDefinition,
    check_continuation,
    check_extra,
    check_outputs,
    define,
    has_same_trials,
    read_definition,
    sample_values,
)
from launcher.experiments.search.trial_jobs import program_of_trial
from launcher.experiments.search.words import SearchWords
from launcher.experiments.taskfile.domains import Range, text_of
from launcher.experiments.taskfile.programs import (
    LONGEST_SWEPT_NAME,
    swept_command,
    terms_with_braces,
)
from launcher.queue.jobs.context import INPUTS, Context, with_programs
from launcher.queue.jobs.job import Spec, Terms
from launcher.queue.jobs.signatures import program_cost
from launcher.queue.store.queue import Store
from launcher.queue.store.searches import CANCELLED, NewTrial, SearchRow
from launcher.system.errors import UsageError, pluralize
from launcher.system.terminal import print_stderr


class SearchRequest(NamedTuple):
    """A search that a command asks for."""

    name: str  # name of the search's jobs without values; '' if they get numbers
    definition: SearchDefinition


def program_search(
    words: SearchWords,
    sweeps: Sequence[str],
    flags: Sequence[str],
    name: str,
    argv: tuple[str, ...],
    settings: Mapping[str, Any],
    terms: Terms,
) -> SearchRequest:
    """Return the search of a program, without its resources.

    Args:
        words: The options of the search.
        sweeps: `lr=1e-5..1e-1:log` and `act=relu,gelu`, as typed.
        flags: Names that are true or false.
        name: Full name of the jobs; '' if they get numbers.
        argv: Program and arguments with braces.
        settings: Files, folder and variables of the program.
        terms: Terms of its jobs.

    Raises:
        UsageError: an option is wrong, or an extra is missing.
        TaskFileError: the braces do not fit.
    """
    pairs: dict[str, str] = {}
    for sweep in sweeps:
        key, equals, values = sweep.partition("=")
        if not equals:
            raise UsageError(f"--sweep {sweep}: no values. Write --sweep {key}=LOW..HIGH.")
        if key in pairs:
            raise UsageError(f"--sweep {key} is given twice. Remove one of them.")
        pairs[key] = values
    definition = define(words, pairs, flags)
    check_extra()
    repeated = [] if definition.repeat is None else [definition.repeat]
    typed = [
        *(
            f"{key}={text_of(domain.first)}"
            for key, domain in definition.space.items()
            if key not in flags
        ),
        *(f"{each.name}={text_of(each.values[0])}" for each in repeated),
    ]
    lines, warnings = swept_command(
        typed,
        name.removeprefix(PREFIX) or None,
        argv,
        settings,
        flags,
        may_repeat=False,
        terms=terms_with_braces(terms),
    )
    for warning in warnings:
        print_stderr(str(warning))
    first = lines[0]
    spec = Spec(
        name=name, kind="", role="", run="", root="", argv=first.argv, settings=first.settings
    )
    definition = definition._replace(spec=spec)
    samples = sample_specs(definition)
    check_folders(sample.settings for sample in samples)
    longest = max((sample.name.removeprefix(PREFIX) for sample in samples), key=len)
    if len(longest) > LONGEST_SWEPT_NAME:
        raise UsageError(
            f"the name of a job would have {len(longest)} characters: {longest[:60]}…. "
            f"The limit is {LONGEST_SWEPT_NAME}. Write shorter values."
        )
    check_outputs(definition, "--output {}")
    return SearchRequest(name, definition)


def sample_specs(definition: SearchDefinition) -> list[Spec]:
    """Return jobs of a program that together have each listed value and both bounds of each range."""
    return [
        program_of_trial(definition, NewTrial(0, repeat, values, {}, 0))
        for values, repeat in sample_values(definition)
    ]


def with_request(search: SearchRequest, store: Store, request: SubmitRequest) -> SearchRequest:
    """Return a search of a program with the resources and terms of its jobs.

    Raises:
        UsageError: its jobs could not be queued.
    """
    program = search.definition.spec
    assert program is not None
    spec = request.spec._replace(
        name=search.name,
        argv=program.argv,
        settings=program.settings,
        signature=program_cost(program.settings, program.argv),
    )
    checked = check_programs(store, request, [spec._replace(name="")])
    if INPUTS in spec.settings:
        for sample in sample_specs(search.definition._replace(spec=spec)):
            check_programs(store, request, [sample._replace(name="")])
    definition = search.definition._replace(
        spec=checked.specs[0]._replace(name=search.name),
        tags=tuple(request.tags),
        after=tuple(dict.fromkeys([*checked.dependencies, *checked.producers[0]])),
        after_any=tuple(checked.after_any),
    )
    return search._replace(definition=definition)


def commit_search(
    store: Store, context: Context, search: SearchRequest, share: float | None = None
) -> tuple[SearchRow, bool]:
    """Add a search, or continue that of its run and name. Return it, and whether it is continued.

    Args:
        store: The queue.
        context: Where its jobs run.
        search: The search.
        share: Share of the machine for its run.

    Raises:
        UsageError: another search has its name.
    """
    definition = search.definition
    spec = definition.spec
    assert spec is not None
    context = with_programs(context, _started_specs(definition, context))
    with store.database.writing():
        continued = find_continued(store, search)
        if continued is not None:
            definition = definition._replace(continued_at=count_asked(store, continued))
        run = store.ensure_run(Path(spec.root), spec.run, share=share)
        number = store.searches.add(
            run,
            search.name,
            json.dumps(definition.to_json()),
            store.ensure_context(context),
            time.time(),
        )
        row = store.searches.read(number)
        assert row is not None
    return row, continued is not None


def _started_specs(definition: SearchDefinition, context: Context) -> list[Spec]:
    """Return the specifications of the jobs that a trial starts."""
    if definition.plan is None:
        assert definition.spec is not None
        return [definition.spec]
    # the planner, which a search of `launcher add` does not need
    from launcher.experiments.search.trial_plans import specs_of_trial

    return specs_of_trial(definition, context.environment)


def find_same(store: Store, search: SearchRequest) -> SearchRow | None:
    """Return an earlier search that is the same, and neither failed nor was cancelled; None if there is none."""
    row = _find_earlier(store, search)
    if row is None or row.failed or row.reason == CANCELLED:
        return None
    return row if has_same_trials(read_definition(row.body), search.definition) else None


def find_continued(store: Store, search: SearchRequest) -> SearchRow | None:
    """Return the earlier search that a search continues, None if it is the first of its name.

    Raises:
        UsageError: the earlier one looks for something else, or has as many trials.
    """
    row, definition = _find_earlier(store, search), search.definition
    if row is None:
        return None
    before = read_definition(row.body)
    title = row.name.removeprefix(PREFIX)
    where = (
        f"the search {title!r} of run {row.run!r}" if title else f"the search of run {row.run!r}"
    )
    check_continuation(before, definition, where, store.searches.context(row.id).folder)
    known = before.trials if row.is_open else count_asked(store, row)
    if definition.trials <= known:
        option = f"trials: {2 * known}" if definition.plan else f"--trials {2 * known}"
        raise UsageError(
            f"{where} has {pluralize(known, 'trial')} already. To continue it, write more trials, such as {option}."
        )
    return row


def count_asked(store: Store, row: SearchRow) -> int:
    """Return of how many trials the values were chosen."""
    return max((each.number for each in store.searches.trials(row.id)), default=-1) + 1


def search_warnings(definition: SearchDefinition, folder: str, spelling: str) -> list[str]:
    """Return warnings about files of numbers that several trials name, and notes about ranges.

    Args:
        definition: The search.
        folder: In which it is added.
        spelling: How the user writes an option.
    """
    spec = definition.spec
    notes = [
        f"note: the values of {name} end at {domain.last:g}, because {domain.high:g} is not a whole number of "
        f"steps of {domain.step:g} from {domain.low:g}"
        for name, domain in definition.space.items()
        if isinstance(domain, Range) and domain.step and domain.last < domain.high
    ]
    if spec is None or not (spec.terms.metrics or spec.terms.tensorboard):
        return notes
    # for few searches
    from launcher.experiments.functions.shared_files import search_files_warnings

    repeated = [] if definition.repeat is None else [definition.repeat.name]
    names = [*definition.space, *repeated]
    return [*notes, *search_files_warnings(spec, names, folder, spelling=spelling)]


def _find_earlier(store: Store, search: SearchRequest) -> SearchRow | None:
    spec = search.definition.spec
    assert spec is not None
    return store.searches.find(store.read.find_run(spec.root, spec.run), search.name)


def describe(row: SearchRow, definition: SearchDefinition) -> str:
    """Return what a search does, in one line."""
    goals = ", ".join(
        f"{'minimize' if each.lower else 'maximize'} {each.metric}"
        for each in definition.objectives
    )
    title = row.name.removeprefix(PREFIX)
    names = f"{title} in run {row.run}" if title else f"run {row.run}"
    seeds = (
        ""
        if definition.repeat is None
        else f" × {pluralize(len(definition.repeat.values), definition.repeat.name)}"
    )
    return f"search of {names}: {goals}, {pluralize(definition.trials, 'trial')}{seeds}, {definition.sampler}"
