"""`launcher priority`: which waiting jobs start first."""

import click

from launcher.cli.add import PRIORITY
from launcher.cli.changes import dry_run_option, in_states, many, rehearse, say, say_missed
from launcher.cli.selection import HELP, select
from launcher.cli.session import open_queue
from launcher.handover import wake
from launcher.states import State
from launcher.store.rows import JobRow


# a negative number is no option
@click.command(epilog=f"PATTERN: {HELP}", context_settings={"ignore_unknown_options": True})
@click.argument("number", type=PRIORITY)
@many
@dry_run_option
def command(number: int, patterns: tuple[str, ...], dry_run: bool) -> None:
    """Give waiting jobs the priority NUMBER: first the number, then which jobs.

    Higher starts sooner, 0 is usual. A point is worth a day of waiting: a job with priority 1
    starts before those of priority 0 that were queued less than a day before it.

    \b
    Examples:
      launcher priority 10 'train/*'
      launcher priority -1 run:quickstart
    """

    def what(job: JobRow) -> str:
        return f"priority {job.priority} → {number}"

    with open_queue() as (home, store):
        jobs = in_states(select(store, patterns), {State.QUEUED, State.HELD}, "change")
        if dry_run:
            rehearse(jobs, lambda job: f"get {what(job)}")
            return
        touched = set(store.owning.prioritise([job.id for job in jobs], number))
        wake(home)
    say([job for job in jobs if job.id in touched], what)
    say_missed(jobs, touched)
