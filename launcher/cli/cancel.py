"""`launcher cancel`: take waiting jobs out, end running ones."""

import sys
import time

import click

from launcher.cli.selection import HELP, select
from launcher.cli.session import open_queue
from launcher.errors import UsageError
from launcher.handover import ensure_scheduler, wake
from launcher.states import OPEN, State
from launcher.views import harmless


@click.command(epilog=f"PATTERN: {HELP}")
@click.argument("patterns", nargs=-1, required=True, metavar="PATTERN…")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("-n", "--dry-run", is_flag=True, help="Only say what would be cancelled.")
def command(patterns: tuple[str, ...], yes: bool, dry_run: bool) -> None:
    """Cancel jobs, and skip those that need them.

    A running job gets SIGTERM, saves what it can, and is killed after 30 s with all its children.

    \b
    Examples:
      launcher cancel 'test/*'
      launcher cancel run:quickstart --yes
    """
    with open_queue() as (home, store):
        jobs = [job for job in select(store, patterns) if job.state in OPEN]
        running = [job for job in jobs if job.state is State.RUNNING]
        click.echo(f"{len(jobs)} open jobs, {len(running)} of them running", err=True)
        if not jobs or dry_run:
            for job in jobs:
                click.echo(f"{job.id}\t{harmless(job.name)}\t{job.state}")
            return
        if running and not yes:
            if not sys.stdin.isatty():
                raise UsageError("running jobs would be ended; say --yes where nobody can be asked")
            click.confirm(f"end {len(running)} running jobs?", abort=True, err=True)
        touched = store.cancel([job.id for job in jobs], time.time())
        if running:
            ensure_scheduler(home)
        wake(home)
    names = {job.id: job for job in jobs}
    for number in touched:
        verb = "ending" if names[number].state is State.RUNNING else "cancelled"
        click.echo(f"{number}\t{harmless(names[number].name)}\t{verb}")
