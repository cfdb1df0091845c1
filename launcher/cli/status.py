"""`launcher status`: the jobs and their states."""

import json
import os
import sys

import click

from launcher.cli.selection import HELP, select
from launcher.cli.session import open_queue, step_of
from launcher.handover import scheduler_pid
from launcher.paths import Home, find_home
from launcher.records import read_json
from launcher.states import OPEN, State
from launcher.store.rows import JobRow
from launcher.store.store import Store
from launcher.views import GLYPHS, JobLine, columns, job_line, tabbed, tally

RECENT = 10  # ended jobs that are listed when nothing particular was asked for
WAITING = 40  # waiting jobs, likewise


@click.command(epilog=f"PATTERN: {HELP}")
@click.argument("patterns", nargs=-1, metavar="[PATTERN]…")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (schema 1).")
@click.option("--exit-status", is_flag=True, help="Exit with 1 when a listed job failed.")
def command(patterns: tuple[str, ...], as_json: bool, exit_status: bool) -> int:
    """List what runs, what waits and why, and what ended lately.

    \b
    Examples:
      launcher status
      launcher status run:quickstart --json
    """
    home = find_home(os.environ)
    if not home.exists():
        click.echo(json.dumps(_report(home, [], {})) if as_json else "no jobs", err=not as_json)
        return 0
    with open_queue() as (_, store):
        jobs = select(store, patterns) if patterns else _interesting(store)
        lines = [job_line(job, step_of(home, job)) for job in jobs]
        counts = store.read.counts()
    if as_json:
        click.echo(json.dumps(_report(home, lines, counts)))
    elif sys.stdout.isatty():
        _draw(home, lines, counts)
    elif lines:
        click.echo(tabbed(line.columns() for line in lines))
    failed = any(job.state is State.FAILED for job in jobs)
    return 1 if exit_status and failed else 0


def _interesting(store: Store) -> list[JobRow]:
    running = store.read.jobs("jobs.state = 'running'")
    waiting = store.read.jobs_page("jobs.state IN ('queued', 'held')", WAITING)
    ended = store.read.jobs_page(
        "jobs.state IN ('done', 'failed', 'cancelled', 'skipped')", -RECENT
    )
    return [*ended, *running, *waiting]


def _report(home: Home, lines: list[JobLine], counts: dict[State, int]) -> dict[str, object]:
    return {
        "schema": 1,
        "home": str(home.folder),
        "scheduler": {"pid": scheduler_pid(home), "state": _scheduler_state(home)},
        "counts": {state: counts.get(state, 0) for state in State},
        "jobs": [line.record() for line in lines],
    }


def _scheduler_state(home: Home) -> str:
    if scheduler_pid(home) is None:
        return "stopped" if home.stop.exists() else "absent"
    return "stopping" if home.stop.exists() else "running"


def _draw(home: Home, lines: list[JobLine], counts: dict[State, int]) -> None:
    pid = scheduler_pid(home)
    record = read_json(home.scheduler_record) or {}
    loop = f"scheduler pid {pid}" if pid else f"scheduler {_scheduler_state(home)}"
    version = f", version {record['version']}" if pid and "version" in record else ""
    click.echo(f"launcher  {home.folder}  {loop}{version}")
    click.echo(tally(counts))
    if any(line.state in OPEN for line in lines) or lines:
        click.echo()
    width = os.get_terminal_size().columns
    rows = [
        (f"{GLYPHS[line.state]} {line.state}", str(line.id), line.run, line.name, line.note)
        for line in lines
    ]
    for text in columns(rows, right=frozenset({1})):
        click.echo(text if len(text) <= width else text[: width - 1] + "…")
