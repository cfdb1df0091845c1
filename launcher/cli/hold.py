"""`launcher hold`: keep queued jobs from starting."""

import time

import click

from launcher.cli.changes import dry_run_option, in_states, many, rehearse, say, say_missed
from launcher.cli.selection import HELP, select
from launcher.cli.session import open_queue
from launcher.handover import wake
from launcher.states import State


@click.command(epilog=f"PATTERN: {HELP}")
@many
@dry_run_option
def command(patterns: tuple[str, ...], dry_run: bool) -> None:
    """Keep queued jobs from starting until `launcher release`; running ones are left alone.

    \b
    Examples:
      launcher hold 'train/*'
      launcher hold run:quickstart --dry-run
    """
    with open_queue() as (home, store):
        jobs = in_states(select(store, patterns), {State.QUEUED}, "hold")
        if dry_run:
            rehearse(jobs, lambda _: "be held")
            return
        touched = set(store.owning.hold([job.id for job in jobs], time.time()))
        wake(home)
    say([job for job in jobs if job.id in touched], lambda _: "held")
    say_missed(jobs, touched)
