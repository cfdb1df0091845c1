"""New searches on their way into the queue, and searches that go on with more trials."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from launcher.context import Context
from launcher.errors import UsageError, pluralize
from launcher.functions.programs import PREFIX, SubmitRequest, check_programs
from launcher.job import Spec
from launcher.screens.terminal import print_stderr
from launcher.search.definition import (
    SearchDefinition,
    check_continuation,
    check_extra,
    define,
    read_definition,
)
from launcher.search.space import Range, text_of
from launcher.search.words import SearchWords
from launcher.signatures import program_cost
from launcher.store.queue import Store
from launcher.store.searches import CANCELLED, SearchRow
from launcher.taskfile.programs import swept_command


class SearchRequest(NamedTuple):
    """A search that a command asks for."""

    name: str  # name of its jobs without values; '' if they get numbers
    definition: SearchDefinition


def program_search(
    words: SearchWords,
    sweeps: Sequence[str],
    flags: Sequence[str],
    name: str,
    argv: tuple[str, ...],
    settings: Mapping[str, Any],
) -> SearchRequest:
    """Return the search of a program, without its resources.

    Args:
        words: The options of the search.
        sweeps: `lr=1e-5..1e-1:log` and `act=relu,gelu`, as typed.
        flags: Names that are true or false.
        name: Full name of the jobs; '' if they get numbers.
        argv: Program and arguments with braces.
        settings: Files, folder and variables of the program.

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
            f"{key}={text_of(domain.low if isinstance(domain, Range) else domain.values[0])}"
            for key, domain in definition.space.items()
            if key not in flags
        ),
        *(f"{each.name}={text_of(each.values[0])}" for each in repeated),
    ]
    lines, warnings = swept_command(
        typed, name.removeprefix(PREFIX) or None, argv, settings, flags, may_repeat=False
    )
    for warning in warnings:
        print_stderr(str(warning))
    _, filled, stored = lines[0]
    spec = Spec(name=name, kind="", role="", run="", root="", argv=filled, settings=stored)
    return SearchRequest(name, definition._replace(spec=spec))


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
    assert definition.spec is not None
    root, run_name = definition.spec.root, definition.spec.run
    with store.database.writing():
        run = store.ensure_run(Path(root), run_name, share=share)
        earlier = store.searches.find(run, search.name)
        if earlier is not None:
            asked = max((each.number for each in store.searches.trials(earlier.id)), default=-1) + 1
            check_enlarged(earlier, definition, run_name, asked)
        number = store.searches.add(
            run,
            search.name,
            json.dumps(definition.to_json()),
            store.ensure_context(context),
            time.time(),
        )
        row = store.searches.read(number)
        assert row is not None
    return row, earlier is not None


def same_search(store: Store, search: SearchRequest) -> SearchRow | None:
    """Return an earlier search that is the same, and neither failed nor was cancelled; None if there is none."""
    spec = search.definition.spec
    assert spec is not None
    row = store.searches.find(store.read.find_run(spec.root, spec.run), search.name)
    if row is None or row.failed or row.reason == CANCELLED:
        return None
    same = read_definition(row.body)._replace(plan=None) == search.definition._replace(plan=None)
    return row if same else None


def check_enlarged(earlier: SearchRow, definition: SearchDefinition, run: str, asked: int) -> None:
    """Refuse a search that does not continue the one of its name, of which some trials were asked.

    Raises:
        UsageError: it looks for something else, or has no further trials.
    """
    before = read_definition(earlier.body)
    title = earlier.name.removeprefix(PREFIX)
    where = f"the search {title!r} of run {run!r}" if title else f"the search of run {run!r}"
    check_continuation(before, definition, where)
    known = before.trials if earlier.is_open else asked
    if definition.trials <= known:
        raise UsageError(
            f"{where} has {pluralize(known, 'trial')} already. To continue it, write a larger "
            f"--trials, such as --trials {2 * known}."
        )


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
        else f" × {len(definition.repeat.values)} {definition.repeat.name}s"
    )
    return f"search of {names}: {goals}, {pluralize(definition.trials, 'trial')}{seeds}, {definition.sampler}"
