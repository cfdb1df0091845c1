"""`launcher release`: let held jobs start."""

import time

import click

from launcher.cli.changes import dry_run_option, in_states, many, rehearse, say, say_missed
from launcher.cli.selection import HELP, select
from launcher.cli.session import open_queue, say_if_stopped, set_off
from launcher.states import State


@click.command(epilog=f"PATTERN: {HELP}")
@many
@dry_run_option
def command(patterns: tuple[str, ...], dry_run: bool) -> None:
    """Let jobs start that `launcher hold` or `launcher add --hold` keeps waiting.

    \b
    Examples:
      launcher release 'train/*'
      launcher release 12 13
    """
    with open_queue() as (home, store):
        jobs = in_states(select(store, patterns), {State.HELD}, "release")
        if dry_run:
            rehearse(jobs, lambda _: "be released")
            return
        touched = set(store.owning.release([job.id for job in jobs], time.time()))
        set_off(home)
        say([job for job in jobs if job.id in touched], lambda _: "released")
        say_missed(jobs, touched)
        say_if_stopped(home)
