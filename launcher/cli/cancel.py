"""`launcher cancel`: take waiting jobs out, end running ones."""

import time

import click

from launcher.cli.changes import (
    ask,
    dry_run_option,
    in_states,
    many,
    rehearse,
    say,
    say_missed,
    yes_option,
)
from launcher.cli.selection import HELP, select
from launcher.cli.session import open_queue
from launcher.errors import counted
from launcher.handover import ensure_scheduler, wake
from launcher.states import OPEN, State
from launcher.store.rows import JobRow
from launcher.views import named


@click.command(epilog=f"PATTERN: {HELP}")
@many
@yes_option
@dry_run_option
def command(patterns: tuple[str, ...], yes: bool, dry_run: bool) -> None:
    """Cancel jobs, and skip those that need them.

    A running job gets SIGTERM, saves what it can, and is killed after its grace (30 s if nothing
    else was said) with all its children. That needs --yes where nobody can be asked.

    \b
    Examples:
      launcher cancel 'test/*'
      launcher cancel run:quickstart --yes
    """
    with open_queue() as (home, store):
        jobs = in_states(select(store, patterns), OPEN, "cancel")
        running = [job for job in jobs if job.state is State.RUNNING]
        needy = store.read.dependants_of(job.id for job in jobs)
        if needy:
            told = (
                f"{counted(len(needy), 'job')} that {'needs' if len(needy) == 1 else 'need'} them"
            )
            would = "would" if dry_run else "will"
            click.echo(f"{told} {would} be skipped: {named(needy)}", err=True)
        if dry_run:
            rehearse(jobs, _would)
            return
        if not yes and (running or len(jobs) > 1):
            question = f"end {counted(len(running), 'running job')}?"
            if not running:
                question = f"cancel {counted(len(jobs), 'job')}?"
            ask(jobs, question, needed=bool(running))
        touched = set(store.owning.cancel([job.id for job in jobs], time.time()))
        wake(home)
        say([job for job in jobs if job.id in touched], _what)
        say_missed(jobs, touched)
        if running:
            ensure_scheduler(home)


def _what(job: JobRow) -> str:
    return "ending" if job.state is State.RUNNING else "cancelled"


def _would(job: JobRow) -> str:
    return "be ended" if job.state is State.RUNNING else "be cancelled"
