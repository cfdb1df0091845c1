"""`launcher group`: how many jobs of a group may run at once; `launcher share`: what each run gets."""

import json
import sys
import time

import click

from launcher.cli.complete import GROUPS, RUN_PREFIX, RUNS
from launcher.cli.option_types import SHARE, whole
from launcher.cli.prompts import NOTHING_CHANGED
from launcher.cli.select_jobs import Row, groups_of
from launcher.errors import UsageError, counted, nearest
from launcher.scheduler.run_turns import runs_of
from launcher.screens.format import columns, harmless, tabbed
from launcher.states import State
from launcher.store.client import open_queue
from launcher.store.queue import Store
from launcher.system.daemon_control import wake


@click.command()
@click.argument("name", required=False, shell_complete=GROUPS)
@click.option("--limit", type=whole(1, 1_000_000), help="Run at most this many at once.")
@click.option("--no-limit", is_flag=True, help="Remove the limit.")
@click.option("-n", "--dry-run", is_flag=True, help="Print what would change, and change nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (schema 1).")
def command(
    name: str | None, limit: int | None, no_limit: bool, dry_run: bool, as_json: bool
) -> None:
    """Limit how many jobs of the group NAME run at once; without NAME, list all groups.

    `launcher add --group NAME` puts a job into a group. In a pipe: name, limit, running, waiting.

    \b
    Examples:
      launcher group
      launcher group downloads --limit 2
      launcher group downloads --no-limit
    """
    if limit is not None and no_limit:
        raise UsageError("say --limit or --no-limit, not both")
    changes = limit is not None or no_limit
    if changes and not name:
        raise UsageError("say which group: launcher group NAME --limit N")
    with open_queue(make=limit is not None and not dry_run) as (home, store):
        if name is not None and limit is None:
            _check_known(store, name)
        if name is not None and changes:
            if not dry_run:
                store.steering.limit(name, limit)
                wake(home)
            limit_text = "no limit" if limit is None else f"at most {counted(limit, 'job')} at once"
            click.echo(f"{harmless(name)}\t{f'would get {limit_text}' if dry_run else limit_text}")
            if dry_run:
                click.echo(f"{NOTHING_CHANGED} (dry run)", err=True)
            return
        running = store.read.in_state(State.RUNNING)
        rows = [
            _with_waiting(store, row)
            for row in groups_of(store, running)
            if name in {None, row["name"]}
        ]
    if as_json:
        click.echo(json.dumps({"schema": 1, "groups": rows}))
    elif not rows:
        click.echo("no groups; `launcher group NAME --limit N` makes one", err=True)
    elif sys.stdout.isatty():
        table = [("GROUP", "LIMIT", "RUNNING", "WAITING"), *map(_cells, rows)]
        click.echo("\n".join(columns(table, right=frozenset({1, 2, 3}))))
    else:
        click.echo(tabbed(map(_cells, rows)))


@click.command()
@click.argument("run", required=False, shell_complete=RUNS)
@click.argument("number", required=False, type=SHARE)
@click.option("-n", "--dry-run", is_flag=True, help="Print what would change, and change nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (schema 1).")
def share(run: str | None, number: float | None, dry_run: bool, as_json: bool) -> None:
    """Set the share of RUN; without NUMBER print it, without RUN those of all runs with open jobs.

    While several runs wait, the one that used least of the machine for its share comes next: one with share 3 gets
    three times the GPU time of one with 1, the default. The GPU-hours that are listed count half after a day. In a
    pipe: run, share, GPU-hours, running, waiting.

    \b
    Examples:
      launcher share
      launcher share quickstart 3
    """
    with open_queue() as (home, store):
        rows = runs_of(store, time.time())
        if run is not None:
            run = run.removeprefix(RUN_PREFIX)
            _check_run(store, run)
        if run is not None and number is not None:
            if not dry_run:
                store.steering.share(run, number)
                wake(home)
            click.echo(f"{harmless(run)}\t{'would get ' if dry_run else ''}share {number:g}")
            if dry_run:
                click.echo(f"{NOTHING_CHANGED} (dry run)", err=True)
            return
    rows = [row for row in rows if run in {None, row.account.name}]
    if as_json:
        click.echo(json.dumps({"schema": 1, "runs": [row.record() for row in rows]}))
    elif not rows:
        whose = "no run has" if run is None else f"run {harmless(run)} has no"
        click.echo(f"{whose} jobs that run or wait", err=True)
    elif sys.stdout.isatty():
        title = ("RUN", "SHARE", "GPU-HOURS LATELY", "RUNNING", "WAITING")
        cells = [title, *(row.cells() for row in rows)]
        click.echo("\n".join(columns(cells, right=frozenset({1, 2, 3, 4}))))
    else:
        click.echo(tabbed(row.cells() for row in rows))


def _check_run(store: Store, name: str) -> None:
    names = store.read.runs()
    if name not in names:
        close = nearest(name, names)
        hint = f"; did you mean {close!r}?" if close else "; `launcher share` lists the runs"
        raise UsageError(f"there is no run {name!r}{hint}")


def _with_waiting(store: Store, row: Row) -> Row:
    return {**row, "waiting": store.read.waiting_in(str(row["name"]))}


def _check_known(store: Store, name: str) -> None:
    names = [group.name for group in store.read.groups()]
    if name not in names:
        close = nearest(name, names)
        hint = f"; did you mean {close!r}?" if close else ";"
        raise UsageError(
            f"there is no group {name!r}{hint} `launcher group {name} --limit N` makes one"
        )


def _cells(row: Row) -> tuple[str, ...]:
    return (harmless(str(row["name"])), *(str(row[key]) for key in ("limit", "running", "waiting")))
