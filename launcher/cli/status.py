"""`launcher status`: the jobs and their states."""

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from textwrap import wrap

import click

from launcher.cli.group import Row, groups_of
from launcher.cli.selection import HELP, select
from launcher.cli.session import line_of, open_queue, revive_if_dead, seen_gpus
from launcher.errors import counted
from launcher.handover import scheduler_pid
from launcher.homes import mounts, network_warning
from launcher.paths import Home, find_home
from launcher.records import Json, read_json
from launcher.states import OPEN, State
from launcher.store.store import Store
from launcher.units import format_bytes, format_seconds
from launcher.views import GLYPHS, JobLine, clock, columns, harmless, iso, tabbed, tally

RECENT = 10  # ended jobs that are listed when nothing particular was asked for
WAITING = 40  # waiting jobs, likewise
DAY_S = 86_400.0
KEPT = "\u00a0"  # a space at which no line is broken
FRESH_S = 15.0  # what the scheduler saw of the GPUs before says nothing of now
_STATES = {
    (True, False): "running",
    (True, True): "stopping",
    (False, False): "absent",
    (False, True): "stopped",
}  # by whether a scheduler lives, and whether the queue was told to stop


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What status tells, whatever the form."""

    home: Home
    lines: Sequence[JobLine] = ()
    counts: Mapping[State, int] = field(default_factory=dict)
    groups: Sequence[Row] = ()
    more: int = 0  # waiting jobs that are not listed

    def record(self) -> dict[str, Json]:
        """Return the report for JSON."""
        groups: list[Json] = [dict(row) for row in self.groups]
        return {
            "schema": 1,
            "home": str(self.home.folder),
            "warning": network_warning(self.home.folder, mounts()),
            "scheduler": scheduler_record(self.home),
            "counts": {state: self.counts.get(state, 0) for state in State},
            "groups": groups,
            "jobs": [line.record() for line in self.lines],
        }


@click.command(epilog=f"PATTERN: {HELP}")
@click.argument("patterns", nargs=-1, metavar="[PATTERN]…")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (schema 1).")
@click.option("--exit-status", is_flag=True, help="Exit with 1 when a listed job failed.")
def command(patterns: tuple[str, ...], as_json: bool, exit_status: bool) -> int:
    """List what runs, what waits and why, and what ended lately.

    That is all that runs, the first 40 that wait, and the last 10 that ended; with PATTERN, every
    job that matches, such as '*'. In a pipe: id, run, name, state, since, and why, with tabs.

    \b
    Examples:
      launcher status
      launcher status run:quickstart --json
    """
    home = find_home(os.environ)
    if not home.exists():
        report = Report(home=home)
        click.echo(json.dumps(report.record()) if as_json else "no jobs", err=not as_json)
        return 0
    with open_queue() as (_, store):
        revive_if_dead(home, store)
        report = _report(home, store, patterns)
    if as_json:
        click.echo(json.dumps(report.record()))
    elif sys.stdout.isatty():
        _draw(report, time.time())
    elif report.lines:
        click.echo(tabbed(line.columns() for line in report.lines))
    failed = any(line.state is State.FAILED for line in report.lines)
    return 1 if exit_status and failed else 0


def scheduler_record(home: Home) -> dict[str, Json]:
    """Return who the scheduler is and how it is: running, stopping, stopped or absent."""
    pid = scheduler_pid(home)
    stop = home.stop.exists()
    record = read_json(home.scheduler_record) or {}
    known = record if pid is not None and record.get("pid") == pid else {}
    since = known.get("since")
    return {
        "pid": pid,
        "state": _STATES[pid is not None, stop],
        "since": iso(since) if isinstance(since, int | float) else None,
        "version": known.get("version"),
    }


def _report(home: Home, store: Store, patterns: Sequence[str]) -> Report:
    counts = store.read.counts()
    more = 0
    running = store.read.in_state(State.RUNNING)
    if patterns:
        jobs = select(store, patterns)
    else:
        jobs = [*store.read.ended_lately(RECENT), *running, *store.read.waiting(WAITING)]
        waiting = counts.get(State.QUEUED, 0) + counts.get(State.HELD, 0)
        more = waiting - sum(job.state in {State.QUEUED, State.HELD} for job in jobs)
    return Report(
        home=home,
        lines=[line_of(home, store, job) for job in jobs],
        counts=counts,
        groups=groups_of(store, running),
        more=max(0, more),
    )


def _draw(report: Report, now: float) -> None:
    home = report.home
    scheduler = scheduler_record(home)
    known = scheduler["pid"] is not None
    loop = f"scheduler pid {scheduler['pid']}" if known else f"scheduler {scheduler['state']}"
    version = f", version {scheduler['version']}" if scheduler["version"] else ""
    click.echo(f"launcher  {harmless(str(home.folder))}  {loop}{version}")
    if warning := network_warning(home.folder, mounts()):
        click.echo(f"warning: {harmless(warning)}", err=True)
    click.echo(tally(report.counts))
    width = os.get_terminal_size().columns
    for line in _gpus(home, now, width):
        click.echo(line)
    if report.groups:
        click.echo("groups: " + " · ".join(map(_group, report.groups)))
    if report.lines:
        click.echo()
    rows = [
        (
            f"{GLYPHS[line.state]} {line.state}",
            str(line.id),
            line.run,
            line.name,
            _when(line, now),
            line.note,
        )
        for line in report.lines
    ]
    for text in columns(rows, right=frozenset({1, 4})):
        click.echo(text if len(text) <= width else text[: width - 1] + "…")
    if report.more:
        verb = "waits" if report.more == 1 else "wait"
        click.echo(
            f"{counted(report.more, 'more job')} {verb}; launcher status '*' lists every one"
        )


def _gpus(home: Home, now: float, width: int) -> Iterator[str]:
    """Give the GPUs as the scheduler sees them while it has something to do with them."""
    look = seen_gpus(home)
    if look is None or now - look.at > FRESH_S:
        return
    if look.trouble:
        yield f"warning: {harmless(look.trouble)}"
    said = []
    for gpu in look.gpus:
        if gpu.fault:
            said.append(f"{gpu.label} {gpu.fault}")
        elif gpu.used is None:
            said.append(f"{gpu.label} does not say how much memory is used")
        else:
            free = format_bytes(max(0, gpu.total - gpu.used))
            said.append(f"{gpu.label} {free} of {format_bytes(gpu.total)} free")
    kept = (harmless(one).replace(" ", KEPT) for one in said)  # no line is broken inside of one
    for line in wrap("GPUs: " + " · ".join(kept), width, subsequent_indent="  ") if said else ():
        yield line.replace(KEPT, " ")


def _group(row: Row) -> str:
    return f"{harmless(str(row['name']))} {row['running']} of {row['limit']}"


def _when(line: JobLine, now: float) -> str:
    """Return how long a job runs, or when it ended; nothing for one that waits."""
    if line.state is State.RUNNING:
        return format_seconds(max(0.0, now - line.since))
    if line.state in OPEN:
        return ""
    if now - line.since < DAY_S:
        return clock(line.since)
    return datetime.fromtimestamp(line.since).astimezone().strftime("%Y-%m-%d")
