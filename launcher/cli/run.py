"""`launcher run TASKFILE`: plan, queue, watch, and tell what came out."""

import gc
import hashlib
import importlib.util
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import click

from launcher.cli.planned import draw_plan, plan_json
from launcher.cli.results import collect, draw, terminal_width
from launcher.cli.session import open_queue, set_off
from launcher.cli.watching import Watcher, watch_run
from launcher.errors import TaskFileError, counted
from launcher.kinds import installed
from launcher.paths import find_home
from launcher.plan import Plan, plan
from launcher.records import stamp
from launcher.specs import this_context
from launcher.states import OPEN, State
from launcher.store.rows import JobRow
from launcher.store.store import Store
from launcher.submission import Standing, Submitted, judge, submit
from launcher.taskfile import read_taskfile
from launcher.views import harmless

LEFT = 130


@click.command()
@click.argument("taskfiles", nargs=-1, required=True, metavar="TASKFILE…")
@click.option("--dry-run", "-n", is_flag=True, help="List what would run and why; write nothing.")
@click.option(
    "--json", "as_json", is_flag=True, help="With --dry-run: the plan as JSON (schema 1)."
)
@click.option("--all", "everything", is_flag=True, help="With --dry-run: list every job.")
@click.option("--detach", is_flag=True, help="Queue the jobs and come back at once.")
@click.option("--force", is_flag=True, help="Run again what is done already.")
def command(
    taskfiles: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
    everything: bool,
    detach: bool,
    force: bool,
) -> int:
    """Queue the jobs of TASKFILE and watch them; Ctrl-C leaves the view, the jobs go on.

    What is done already, with the same settings, code and files, is not done again.

    \b
    Examples:
      launcher run tasks/quickstart.yaml --dry-run
      launcher run tasks/quickstart.yaml
    """
    with _uncollected():
        plans = [_plan(Path(path)) for path in taskfiles]
    if dry_run:
        return _list(plans, taskfiles, as_json=as_json, everything=everything, force=force)
    for made in plans:
        _refuse_missing(made)
    code = 0
    with open_queue(make=True) as (home, store):
        with _uncollected():
            submitted = [_queue(store, made, force=force) for made in plans]
        try:
            if any(one.queued or one.joined for one in submitted):
                home.stop.unlink(missing_ok=True)
                set_off(home)
            if detach:
                return 0
            for one in submitted:
                watch_run(Watcher(home, store, one.jobs), live=sys.stderr.isatty())
                code = max(code, _conclude(store, one))
        except KeyboardInterrupt:
            _say_left(store, submitted)
            return LEFT
    return code


@contextmanager
def _uncollected() -> Iterator[None]:
    """Look for no garbage meanwhile: of thousands of jobs to be queued nothing is any."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _plan(path: Path) -> Plan:
    kinds = installed()
    return plan(
        read_taskfile(path, kinds),
        kinds,
        root=Path.cwd(),
        exists=Path.exists,
        digest=_digest,
        content=_content,
    )


@cache
def _digest(module: str) -> str:
    """Return a digest of a module's source, or a package's, without importing it."""
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        return "absent"
    origin = Path(found.origin)
    files = sorted(origin.parent.rglob("*.py")) if origin.name == "__init__.py" else [origin]
    digest = hashlib.sha256()
    for file in files:
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]


@cache
def _content(path: Path) -> str:
    """Return a digest of a file; a folder's is empty: to read all images would take too long."""
    if path.is_dir():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _standings(store: Store | None, made: Plan, *, force: bool) -> list[Standing]:
    rows = store.read.jobs_of(Path.cwd(), made.name) if store else {}
    return judge(made, rows, stamp, force=force)


def _list(
    plans: Iterable[Plan],
    taskfiles: Iterable[str],
    *,
    as_json: bool,
    everything: bool,
    force: bool,
) -> int:
    home = find_home(os.environ)
    for made, path in zip(plans, taskfiles, strict=True):
        if home.exists():
            with open_queue() as (_, store):
                standings = _standings(store, made, force=force)
        else:
            standings = _standings(None, made, force=force)
        if as_json:
            click.echo(json.dumps(plan_json(made, standings)))
        else:
            click.echo(draw_plan(made, standings, taskfile=path, everything=everything))
    return 0


def _refuse_missing(made: Plan) -> None:
    """Raise what a dry run only warns of: nothing is queued that must fail."""
    if made.missing:
        raise TaskFileError(made.missing)


def _queue(store: Store, made: Plan, *, force: bool) -> Submitted:
    standings = _standings(store, made, force=force)
    one = submit(store, Path.cwd(), made, standings, this_context(), time.time())
    said = [f"{one.queued} queued"]
    said += [f"{one.joined} under way already"] if one.joined else []
    said += [f"{one.cached} done before"] if one.cached else []
    click.echo(f"{made.name}: {counted(len(one.jobs), 'job')}, {', '.join(said)}", err=True)
    return one


def _say_left(store: Store, submitted: Iterable[Submitted]) -> None:
    """Tell someone who leaves the view what goes on, and how to come back."""
    numbers = [number for one in submitted for number in one.jobs]
    left = sum(row.state in OPEN for row in store.read.jobs_by_id(numbers))
    click.echo(
        f"\n{counted(left, 'job')} {'goes' if left == 1 else 'go'} on; "
        "the same `launcher run` comes back to them, "
        "`launcher status` lists them, `launcher stop` stops",
        err=True,
    )


def _conclude(store: Store, one: Submitted) -> int:
    rows = store.read.jobs_by_id(one.jobs)
    table = collect(rows)
    if table:
        click.echo(draw(table, width=terminal_width()))
    _say_what_is_missing(rows)
    click.echo(f"\nfiles: {rows[0].spec.run_folder}", err=True)
    return 0 if all(row.state is State.DONE for row in rows) else 1


def _say_what_is_missing(rows: Sequence[JobRow]) -> None:
    """Name what failed and what to do next; what was skipped because of it is only counted."""
    for row in rows:
        if row.state in {State.FAILED, State.CANCELLED}:
            reason = harmless(row.reason.partition("\n")[0])
            click.echo(f"{row.state}: {harmless(row.name)}: {reason}", err=True)
            click.echo(f"  launcher logs {row.id} · launcher show {row.id}", err=True)
    skipped = sum(row.state is State.SKIPPED for row in rows)
    if skipped:
        verb = "needs" if skipped == 1 else "need"
        click.echo(f"skipped: {counted(skipped, 'job')} that {verb} them", err=True)
    if any(row.state is not State.DONE for row in rows):
        click.echo("the same `launcher run` again runs only what is not done", err=True)
