"""The first values of a search, and its cost."""

import shlex
from contextlib import suppress

import click

from launcher.experiments.functions.programs import PREFIX
from launcher.experiments.search.definition import SearchDefinition
from launcher.experiments.search.study import Exhausted, SearchStudy
from launcher.experiments.search.submission import SearchRequest, count_asked, find_continued
from launcher.experiments.search.trial_jobs import program_of_trial
from launcher.experiments.taskfile.domains import Value
from launcher.queue.jobs.context import program_words
from launcher.queue.store.queue import Store
from launcher.queue.store.searches import NewTrial
from launcher.system.errors import pluralize
from launcher.system.terminal import print_stderr
from launcher.system.text import sanitize_terminal
from launcher.system.units import format_seconds

SHOWN = 5  # trials; the values of later ones depend on results


def first_values(definition: SearchDefinition) -> list[dict[str, Value]]:
    """Return the values of the first trials, which do not depend on results."""
    study, values = SearchStudy(definition, "preview"), list[dict[str, Value]]()
    with suppress(Exhausted):
        for number in range(min(SHOWN, definition.trials)):
            values.append(study.ask(number)[0])
    return values


def print_preview(store: Store, search: SearchRequest) -> None:
    """Print name and command line of the first jobs, and the cost if such jobs have run.

    Raises:
        UsageError: the search would be refused.
    """
    definition, earlier = search.definition, find_continued(store, search)
    asked = 0 if earlier is None else count_asked(store, earlier)
    for values in [] if asked else first_values(definition):
        spec = program_of_trial(definition, NewTrial(0, 0, values, {}, 0))
        words = shlex.join(program_words(spec.settings, spec.argv))
        click.echo(f"{sanitize_terminal(spec.name or f'{PREFIX}…')}\t{sanitize_terminal(words)}")
    trials = definition.trials - asked
    jobs = trials * len(definition.repeats)
    assert definition.spec is not None
    usage = store.usage_records.usage(definition.spec.signature)
    mean_s = sum(usage.seconds) / len(usage.seconds) if usage.is_own and usage.seconds else None
    cost = (
        "unknown, because no such job has run"
        if mean_s is None
        else f"about {format_seconds(mean_s)} per job, {format_seconds(mean_s * jobs)} one after another"
    )
    further = f" after {pluralize(asked, 'earlier one')}" if asked else ""
    print_stderr(
        f"{pluralize(trials, 'trial')}{further}, {pluralize(jobs, 'job')}; cost: {cost}. "
        "Nothing was queued (dry run)"
    )
