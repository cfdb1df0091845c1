"""`launcher show`: all that is known of a job."""

from collections.abc import Sequence
from typing import Any

import click

from launcher.cli.complete import offer_jobs
from launcher.cli.jobs import HELP, only_job
from launcher.cli.option_types import json_option
from launcher.cli.output import json_text
from launcher.errors import UsageError, counted
from launcher.screens.chart import number, sparkline
from launcher.screens.format import columns, command_text, harmless, named, zone
from launcher.screens.job_details import (
    _text,
    attempt_cells,
    event_cells,
    facts_of,
    needed_cells,
    needy_text,
    record_of,
)
from launcher.states import OPEN
from launcher.store.client import open_queue
from launcher.store.rows import JobRow
from launcher.system.files import last_lines
from launcher.system.paths import Home
from launcher.workers.progress.attempt_progress import reported_steps
from launcher.workers.progress.steps import curves

EVENTS = 12  # the newest are what a person looks for
LOG_LINES = 10
CURVES, CURVE_WIDTH = 20, 40  # numbers that are listed; columns of each one's curve
NEEDS = 10  # jobs that are listed; the others are counted


@click.command(epilog=f"JOB: {HELP}")
@click.argument("job", shell_complete=offer_jobs)
@json_option
@click.option(
    "--command", "runs", is_flag=True, help="Print only its command line, as a shell reads it."
)
def command(job: str, as_json: bool, runs: bool) -> None:
    """Print the settings, state, attempts and events of JOB.

    \b
    Examples:
      launcher show train/gan2:pre
      launcher show 12 --json
      launcher show 12 --command
    """
    if as_json and runs:
        raise UsageError(
            "--command prints a line for a shell, and --json an object: leave one of them out"
        )
    with open_queue() as (home, store):
        row = only_job(store, job)
        if runs:
            click.echo(command_text(row, store.read.folder_of(row.id)))
            return
        needy = store.read.dependants_of([row.id])
        record = record_of(home, store, row, needy)
        if as_json:
            click.echo(json_text(record))
            return
        needs, awaited = store.read.needed_by(row.id), store.read.awaited_by(row.id)
        awaiting = store.read.awaiting(row.id)
    click.echo(f"{record['name']}  ({record['run']}, job {record['id']})")
    note = "" if record["note"] == record["state"] else f": {record['note']}"
    turn = f"\n{record['turn']}" if record["turn"] else ""
    click.echo(f"{record['state']}{note}{turn}\n")
    click.echo("\n".join(columns([*facts_of(record, row)])))
    _say_before("needs", needs)
    _say_before("starts after the end of", awaited)
    _say_behind(row, needy, awaiting)
    _say_attempts(home, row, record)
    _say_progress(home, row, record["progress"])
    events = event_cells(record["events"])
    click.echo(f"\nevents, in local time ({zone(row.submitted)})")
    if len(events) > EVENTS:
        earlier = counted(len(events) - EVENTS, "earlier event")
        click.echo(f"  … and {earlier}: launcher show {row.id} --json lists them")
    click.echo("\n".join(columns(events[-EVENTS:])))
    if record["result"]:
        facts = [(f"  {_text(key)}", _text(value)) for key, value in record["result"].items()]
        _say_rows("result", facts)


def _say_rows(title: str, rows: Sequence[Sequence[str]], left: str = "") -> None:
    """Print a part: its title, rows, and what is left out of them."""
    click.echo("\n".join(["", title, *columns(rows), *([f"  and {left}"] if left else [])]))


def _say_before(title: str, needs: list[JobRow]) -> None:
    """List jobs that come before the one that is shown, those that it waits for first."""
    left = len(needs) - NEEDS
    if needs:
        _say_rows(title, needed_cells(needs, NEEDS), f"{left:,} more" if left > 0 else "")


def _say_behind(row: JobRow, needy: list[JobRow], awaiting: list[JobRow]) -> None:
    """Name the open jobs that come after the one that is shown."""
    if row.state not in OPEN:
        return
    if needy:
        click.echo(f"\n{needy_text(needy)}")
    if awaiting:
        verb = "starts" if len(awaiting) == 1 else "start"
        text = f"{counted(len(awaiting), 'open job')} {verb} after its end, done or not"
        click.echo(f"\n{text}: {named(awaiting)}")


def _say_progress(home: Home, row: JobRow, progress: dict[str, Any] | None) -> None:
    """Print how far the newest attempt is, and the numbers that it reported with their curves."""
    if progress is None:
        return
    done = f"{progress['step']}" + (f" of {progress['total']}" if progress["total"] else "")
    rate = f", {progress['rate']:.3g}/s" if progress["rate"] else ""
    named_curves = curves(reported_steps(row.attempt_in(home)))
    rows = [
        (f"  {harmless(name)}", number(points[-1][1]), sparkline(points, CURVE_WIDTH))
        for name, points in named_curves.items()
    ]
    left = len(rows) - CURVES
    _say_rows(
        f"progress of attempt {row.attempts}: step {done}{rate}",
        rows[:CURVES] or [("",)],
        f"{counted(left, 'more number')}: launcher top draws each" if left > 0 else "",
    )


def _say_attempts(home: Home, row: JobRow, record: dict[str, Any]) -> None:
    _say_rows("attempts", attempt_cells(home, record) or [("  none yet",)])
    attempts = record["attempts"]
    if not attempts or (attempts[-1]["outcome"] or {}).get("ending") not in {
        "failed",
        "lost",
        "out-of-memory",
    }:
        return
    number = attempts[-1]["number"]
    lines = last_lines(home.attempt(row.id, number).log, LOG_LINES)
    if lines:
        click.echo(f"\nthe log of attempt {number} ends with")
        click.echo("\n".join(f"  {harmless(line)}" for line in lines))
