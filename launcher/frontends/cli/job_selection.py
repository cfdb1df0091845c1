"""Jobs on the command line: selection by patterns, output, and confirmation of changes."""

import gc
import shlex
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import click

from launcher.frontends.cli.complete import offer_jobs
from launcher.frontends.cli.help_pages import HelpPage, launcher_command
from launcher.frontends.cli.option_types import flag
from launcher.frontends.screens.option_answers import columns_hint
from launcher.frontends.screens.usage_errors import set_hint
from launcher.queue.jobs.job import PROGRAM
from launcher.queue.jobs.states import State, strip_state_prefix
from launcher.queue.store.client import missing_run_text
from launcher.queue.store.job_selection import GROUP_PREFIX, RUN_PREFIX, TAG_PREFIX, is_job_number
from launcher.queue.store.queue import Store
from launcher.queue.store.rows import JobRow
from launcher.queue.store.searches import SearchRow
from launcher.queue.texts import failure_hold_texts, format_job_names
from launcher.system.errors import UsageError, nearest, pluralize, suggestion_or_known_names
from launcher.system.terminal import print_stderr
from launcher.system.text import sanitize_terminal
from launcher.system.text_table import columns, tab_separated

PATTERN_HELP = (
    "a number, a name, a prefix (train/), a pattern ('train/*'), run:NAME, tag:NAME or group:NAME."
)
_ALL_WORDS = frozenset({"all", "ALL", "everything"})  # words for all jobs in other tools
NOTHING_CHANGED = "nothing was changed"
EXIT_ABORTED = 130  # the exit code if a user refuses or interrupts
_VERBS = {  # verbs before these states; others use is, are
    State.FAILED: ("has", "have"),
    State.CANCELLED: ("was", "were"),
    State.SKIPPED: ("was", "were"),
}
dry_run_option = flag("-n", "--dry-run", help="Print the changes without making them.")
yes_option = flag("-y", "--yes", help="Do not ask for confirmation.")
required_patterns = click.argument(
    "patterns", nargs=-1, required=True, metavar="PATTERN…", shell_complete=offer_jobs
)
optional_patterns = click.argument(
    "patterns", nargs=-1, metavar="[PATTERN]…", shell_complete=offer_jobs
)


@contextmanager
def gc_paused() -> Iterator[None]:
    """Disable garbage collection, which finds nothing among thousands of new jobs."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def pattern_command(**settings: Any) -> Callable[[Callable[..., Any]], HelpPage]:
    """Return a decorator that creates a verb whose help ends with the description of PATTERN."""
    return launcher_command(epilog=f"PATTERN: {PATTERN_HELP}", **settings)


def select(
    store: Store, patterns: Sequence[str], *, newest: bool = False, current: bool = False
) -> list[JobRow]:
    """Return the jobs that match any of the patterns, in the order in which they were queued.

    Args:
        store: the queue.
        patterns: as in `PATTERN_HELP`.
        newest: a whole name means the newest job of that name, not those of all runs. Includes `current`.
        current: return the newest job of its name for each superseded job, unless a pattern is its number or its
            whole name.

    Raises:
        UsageError: a pattern matches nothing; the nearest name is suggested.
    """
    chosen: dict[int, JobRow] = {}
    for pattern in patterns:
        matching = store.read.select_by_pattern(pattern)
        if not matching:
            raise UsageError(_no_match_text(store, pattern))
        if not all(names_job(pattern, job) for job in matching):
            matching = store.read.replace_superseded(matching) if newest or current else matching
        elif newest:
            matching = matching[-1:]
        chosen.update({job.id: job for job in matching})
    return sorted(chosen.values(), key=lambda job: job.id)


def open_searches(store: Store, patterns: Sequence[str]) -> dict[str, list[SearchRow]]:
    """Return pattern → the open searches of the run that it names, without patterns that name none."""
    found = {
        pattern: store.searches.open_searches_in_runs(pattern.removeprefix(RUN_PREFIX))
        for pattern in patterns
        if pattern.startswith(RUN_PREFIX)
    }
    return {pattern: searches for pattern, searches in found.items() if searches}


def failed_searches(store: Store, patterns: Sequence[str]) -> list[SearchRow]:
    """Return the failed searches of the runs that patterns name."""
    runs = [each.removeprefix(RUN_PREFIX) for each in patterns if each.startswith(RUN_PREFIX)]
    return [each for run in runs for each in store.searches.searches_in_runs(run) if each.failed]


def select_with_searches(
    store: Store, patterns: Sequence[str]
) -> tuple[list[JobRow], list[SearchRow]]:
    """Return the newest jobs that match any of the patterns, and the open searches of the runs that these name.

    Raises:
        UsageError: a pattern matches neither a job nor an open search.
    """
    searches = open_searches(store, patterns)
    # a search that failed before its first trial has no job
    known = {*searches, *(each for each in patterns if failed_searches(store, [each]))}
    there = [each for each in patterns if each not in known or store.read.select_by_pattern(each)]
    jobs = select(store, there, newest=True)
    return jobs, [each for found in searches.values() for each in found]


def names_job(pattern: str, job: JobRow) -> bool:
    """Whether a pattern that matches a job is its number or its whole name."""
    if is_job_number(pattern):
        return int(pattern) == job.id
    return job.name in {pattern, f"{PROGRAM}/{pattern}"}


def only_job(store: Store, pattern: str) -> JobRow:
    """Return the newest job that a pattern names exactly.

    Raises:
        UsageError: none, or a pattern that matches several.
    """
    jobs = select(store, [pattern])
    names = list(dict.fromkeys(job.name for job in jobs))
    if len(names) > 1:
        shown = ", ".join(sorted(names[:5])) + (", …" if len(names) > 5 else "")
        raise UsageError(f"{pattern!r} matches {len(jobs)} jobs: {shown}. Name one of them.")
    return jobs[-1]


def _no_match_text(store: Store, pattern: str) -> str:
    if pattern.startswith(RUN_PREFIX):
        return missing_run_text(store, pattern.removeprefix(RUN_PREFIX), RUN_PREFIX)
    if pattern.startswith(TAG_PREFIX):
        tag = pattern.removeprefix(TAG_PREFIX)
        hint = suggestion_or_known_names(tag, sorted(store.job_control.all_tags()), TAG_PREFIX)
        return f"no job has the tag {tag!r}{hint}"
    if pattern.startswith(GROUP_PREFIX):
        group = pattern.removeprefix(GROUP_PREFIX)
        names = store.read.group_names()
        if group in names:
            return f"group {group!r} has no jobs. Add one: launcher add --group {group} -- PROGRAM"
        return (
            f"group {group!r} does not exist{suggestion_or_known_names(group, names, GROUP_PREFIX)}"
        )
    if pattern in _ALL_WORDS:
        return f"no job matches {pattern!r}. To name all jobs: 'run:*'"
    if pattern in store.read.runs():
        word = shlex.quote(f"{RUN_PREFIX}{pattern}")
        return f"no job matches {pattern!r}, which is a run. List its jobs: launcher status {word}"
    close = None if pattern.isdecimal() else nearest(pattern, store.read.sample_names())
    hint = f"Did you mean {close!r}?" if close else "List all jobs: launcher status --all"
    context = click.get_current_context(silent=True)
    hint = columns_hint(pattern, context) or set_hint(pattern, context) or hint
    if is_job_number(pattern):
        return f"job {pattern} does not exist. {hint}"
    return f"no job matches {pattern!r}. {hint}"


def filter_by_state(jobs: Sequence[JobRow], states: Collection[State], change: str) -> list[JobRow]:
    """Return the jobs that are in one of `states`; name the others on stderr.

    Args:
        jobs: Selected jobs.
        states: States in which the change is possible.
        change: The change, as in "nothing to hold".

    Raises:
        UsageError: no job is in one of the states.
    """
    wrong = [job for job in jobs if job.state not in states]
    kept = [job for job in jobs if job.state in states]
    excluded = {
        state: there for state in State if (there := [job for job in wrong if job.state is state])
    }
    if not kept:
        *others, last = [str(state) for state in State if state in states]
        could = f"{', '.join(others)} or {last}" if others else last
        raise UsageError(f"nothing to {change}. {_states_text(excluded)}. Jobs must be {could}.")
    for state, there in excluded.items():
        print_stderr(f"unchanged, {state}: {format_job_names(there, other_jobs=kept)}")
    return kept


def _states_text(jobs: Mapping[State, Sequence[JobRow]]) -> str:
    """Return a sentence, without the full stop, that names jobs with their states."""
    if len(jobs) != 1:
        states = [f"{state}: {format_job_names(there)}" for state, there in jobs.items()]
        return (
            f"The jobs have other states ({'; '.join(states)})" if states else "No job is selected"
        )
    ((state, there),) = jobs.items()
    singular, plural = _VERBS.get(state, ("is", "are"))
    if len(there) == 1:
        return f"Job {there[0].id} {sanitize_terminal(there[0].name)} {singular} {state}"
    which = "Both matching jobs" if len(there) == 2 else f"All {len(there):,} matching jobs"
    return f"{which} {plural} {state}: {format_job_names(there)}"


def print_jobs(
    jobs: Sequence[JobRow], describe: Callable[[JobRow], str], *, err: bool = False
) -> None:
    """Print one line per job: number, name and change."""
    rows = [(str(job.id), job.name, describe(job)) for job in jobs]
    drawn = sys.stdout.isatty()
    text = "\n".join([*columns(rows, right={0}), ""]) if drawn else tab_separated(rows)
    click.echo(text, err=err, nl=False)


def print_failed_jobs(rows: Sequence[JobRow]) -> None:
    """Name the failed jobs and what to do next; count those that were skipped because of them."""
    for row in rows:
        if row.state in {State.FAILED, State.CANCELLED}:
            reason = sanitize_terminal(strip_state_prefix(row.reason.partition("\n")[0]))
            print_stderr(f"{row.state}: {sanitize_terminal(row.name)}: {reason}")
            print_stderr(f"  launcher logs {row.id} · launcher show {row.id}")
    for text in failure_hold_texts(rows):
        print_stderr(text)
    skipped = sum(row.state is State.SKIPPED for row in rows)
    if skipped:
        verb = "depends" if skipped == 1 else "depend"
        print_stderr(f"skipped: {pluralize(skipped, 'job')} that {verb} on them")


def print_planned_changes(jobs: Sequence[JobRow], describe: Callable[[JobRow], str]) -> None:
    """Print the planned change of each job, and that nothing was changed.

    Args:
        jobs: Jobs to change.
        describe: The change after the word "would": "be cancelled".
    """
    print_jobs(jobs, lambda job: f"would {describe(job)}")
    print_unchanged()


def print_unchanged() -> None:
    """Print that a dry run changed nothing."""
    print_stderr(f"{NOTHING_CHANGED} (dry run)")


def confirm_changes(jobs: Sequence[JobRow], question: str, *, is_needed: bool) -> None:
    """Show the jobs to change with their states, and ask for confirmation.

    Args:
        jobs: Jobs to change.
        question: Question with its question mark.
        is_needed: Whether to raise an error without a terminal, instead of continuing.

    Raises:
        UsageError: there is no terminal, and an answer is needed.
        click.exceptions.Exit: the answer is no, or Ctrl-C; prints that nothing was changed.
    """
    if not sys.stdin.isatty():
        if is_needed:
            raise UsageError(
                f"{question} Without a terminal, add --yes to confirm or --dry-run to see the changes."
            )
        return
    print_jobs(jobs, lambda job: str(job.state), err=True)
    try:
        agreed = click.confirm(question, err=True)
    except click.Abort:
        print_stderr("")
        agreed = False
    if not agreed:
        print_stderr(NOTHING_CHANGED)
        raise click.exceptions.Exit(EXIT_ABORTED)
