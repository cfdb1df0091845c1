"""`launcher show`: all that is known of a job, or a summary of a run."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

from launcher.frontends.cli.complete import offer_jobs
from launcher.frontends.cli.help_pages import launcher_command
from launcher.frontends.cli.job_selection import PATTERN_HELP, only_job
from launcher.frontends.cli.option_types import json_option
from launcher.frontends.screens.chart import number, sparkline
from launcher.frontends.screens.command_output import print_json
from launcher.frontends.screens.job_details import (
    attempt_cells,
    dependency_cells,
    dependents_text,
    event_cells,
    facts_of,
    result_cells,
    time_zone_of,
    zone_title,
)
from launcher.frontends.screens.job_records import record_of
from launcher.queue.home.paths import Home
from launcher.queue.jobs.states import OPEN_STATES, ReasonCode, State
from launcher.queue.store.client import open_queue
from launcher.queue.store.job_selection import RUN_PREFIX, is_job_number
from launcher.queue.store.listings import ListingQueries
from launcher.queue.store.queue import Store
from launcher.queue.store.rows import JobRow
from launcher.queue.store.searches import end_text
from launcher.queue.texts import command_text, format_job_names
from launcher.queue.workers.exit_outcome import LOG_END_BYTES
from launcher.queue.workers.failure_words import find_last_error
from launcher.queue.workers.progress.attempt_progress import read_reported_steps
from launcher.queue.workers.progress.steps import curves
from launcher.system.errors import UsageError, pluralize
from launcher.system.files import read_file_end
from launcher.system.log_files import last_lines
from launcher.system.terminal_codes import apply_backspaces
from launcher.system.text import sanitize_terminal
from launcher.system.text_table import columns

EVENTS = 12  # the newest are what a person looks for
LOG_LINES = 10
CURVES, CURVE_WIDTH = 20, 40  # numbers that are listed; columns of each one's curve
LEFT_OUT = 12  # printed names that are listed
NEEDS = 10  # jobs that are listed; the others are counted


@launcher_command(
    epilog=f"JOB: {PATTERN_HELP}",
    heading="Watch",
    place=40,
    offered_states=(State.RUNNING, State.FAILED),
    other_names={"JOB": "info inspect describe sstat seff -i"},
)
@click.argument("job", shell_complete=offer_jobs)
@click.option(
    "--command", "runs", is_flag=True, help="Print only the command line, quoted for a shell."
)
@json_option
def command(job: str, as_json: bool, runs: bool) -> None:
    """Print one job: settings, state, attempts, events.

    For a run, print how many of its jobs are in each state, and its failures and tags. For each search of
    the run, print its state, why it ended, its values and the best trials.

    \b
    Examples:
      launcher show train/gan2:pre
      launcher show 12 --json
      launcher show 12 --command
      launcher show run:tune
    """
    if as_json and runs:
        raise UsageError("--command cannot be combined with --json. Remove one of them.")
    with open_queue() as (home, store):
        if (run := _run_of(store, job)) and not runs:
            # it imports definitions of searches, which jobs do not need
            from launcher.frontends.cli.shown_runs import run_parts, run_records

            if as_json:
                print_json(run_records(store, run))
            else:
                click.echo("\n\n".join("\n".join(part) for part in run_parts(store, run)))
            return
        row = only_job(store, job)
        if runs:
            click.echo(command_text(row, store.read.working_folder(row.id)))
            return
        needy = store.read.dependents_of([row.id])
        record = record_of(home, store, row, needy)
        if as_json:
            print_json(record)
            return
        parts = ["\n".join(part) for part in _parts(home, store, row, record, needy)]
    click.echo("\n\n".join(parts))


def _run_of(store: Store, pattern: str) -> str:
    """Return the run that a pattern names, '' if none. A name without `run:` is a run if no job has it."""
    name = pattern.removeprefix(RUN_PREFIX)
    if name == pattern and (is_job_number(pattern) or store.read.select_by_pattern(pattern)):
        return ""
    has_jobs = ListingQueries(store.database).runs_named(name)
    return name if has_jobs or store.searches.searches_in_runs(name) else ""


def _parts(
    home: Home, store: Store, row: JobRow, record: Mapping[str, Any], dependents: Sequence[JobRow]
) -> Iterator[Sequence[str]]:
    """Give what is printed, part by part."""
    note = "" if record["note"] == record["state"] else f": {record['note']}"
    yield [
        f"{record['name']}  ({record['run']}, job {record['id']})",
        f"{record['state']}{note}",
        *filter(None, [record["turn"], _error_of_done(home, row)]),
        *([f"To continue: launcher release {row.id}"] if row.is_held_by_failures else []),
    ]
    yield columns([*facts_of(record, row)])
    if row.state_reason.code is ReasonCode.SEARCH_ENDED:
        yield [end_text(each) for each in store.searches.searches_of_jobs([row.id])]
    before = {
        "needs": store.read.dependencies_of(row.id),
        "starts after the end of": store.read.awaited_jobs_of(row.id),
    }
    for title, jobs in before.items():
        if jobs:
            left = len(jobs) - NEEDS
            more = [f"  and {left:,} more"] if left > 0 else []
            yield [title, *columns(dependency_cells(jobs, NEEDS)), *more]
    if row.state in OPEN_STATES and dependents:
        yield [dependents_text(dependents)]
    awaiting = store.read.jobs_awaiting(row.id)
    if row.state in OPEN_STATES and awaiting:
        verb = "starts" if len(awaiting) == 1 else "start"
        text = f"{pluralize(len(awaiting), 'open job')} {verb} after the end of this job"
        yield [f"{text}: {format_job_names(awaiting)}"]
    yield [
        "attempts",
        *columns(attempt_cells(home, record, time_zone_of(record)) or [("  none yet",)]),
    ]
    yield from _end_of_log(home, row, record["attempts"])
    if record["progress"] is not None:
        yield _progress(home, row, record["progress"])
    if faults := record["number_faults"]:
        yield ["numbers that do not count", *(f"  {fault}" for fault in faults)]
    if names := [(f"  {name}", reason) for name, reason in record["left_out"].items()]:
        left = len(names) - LEFT_OUT
        more = [f"  and {left:,} more: launcher numbers {record['log']}"] if left > 0 else []
        yield ["printed names that are no results", *columns(names[:LEFT_OUT]), *more]
    events = event_cells(record, time_zone_of(record))
    earlier = len(events) - EVENTS
    left_out = (
        f"  … and {pluralize(earlier, 'earlier event')}. List all: launcher show {row.id} --json"
    )
    yield [
        f"events, {zone_title(record)}",
        *([left_out] if earlier > 0 else []),
        *columns(events[-EVENTS:]),
    ]
    if record["result"]:
        yield ["result", *columns(result_cells(record))]


def _error_of_done(home: Home, row: JobRow) -> str:
    """Return a warning if the program of a job that is done ended with an error but with exit code 0."""
    if row.state != State.DONE or not row.attempts:
        return ""
    files = home.attempt(row.id, row.attempts)
    end, _ = read_file_end(files.error_log, LOG_END_BYTES)
    error = find_last_error(end, is_cut=len(end) == LOG_END_BYTES)
    if not error:
        return ""
    return f"warning: exit code 0, but the last output is an error: {sanitize_terminal(error)}"


def _progress(home: Home, row: JobRow, progress: Mapping[str, Any]) -> list[str]:
    """Return how far the newest attempt is, and the numbers that it reported with their curves."""
    done = f"{progress['step']}" + (f" of {progress['total']}" if progress["total"] else "")
    if progress["batch"]:
        done += ", {} of {}".format(*progress["batch"])
    rate = f", {progress['rate']:.3g}/s" if progress["rate"] else ""
    named_curves = curves(read_reported_steps(row.attempt_in(home)))
    rows = [
        (f"  {name}", number(points[-1][1]), sparkline(points, CURVE_WIDTH))
        for name, points in named_curves.items()
    ]
    left = len(rows) - CURVES
    more = f"  and {pluralize(left, 'more number')}. See their curves: launcher top"
    return [
        f"progress of attempt {row.attempts}: {progress['unit']} {done}{rate}",
        *columns(rows[:CURVES] or [("",)]),
        *([more] if left > 0 else []),
    ]


def _end_of_log(
    home: Home, row: JobRow, attempts: Sequence[Mapping[str, Any]]
) -> Iterator[Sequence[str]]:
    """Give the last lines that an attempt printed which failed."""
    if not attempts or (attempts[-1]["outcome"] or {}).get("ending") not in {
        "failed",
        "lost",
        "out-of-memory",
    }:
        return
    attempt = attempts[-1]["number"]
    files = home.attempt(row.id, attempt)
    what = "standard error" if files.error_log == files.stderr else "the log"
    lines = last_lines(files.error_log, LOG_LINES)
    if lines:
        yield [
            f"end of {what} of attempt {attempt}",
            *(f"  {sanitize_terminal(apply_backspaces(line)[0])}" for line in lines),
        ]
