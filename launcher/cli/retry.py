"""`launcher retry`: run again what failed, was cancelled or skipped."""

import time
from collections.abc import Collection, Sequence

import click

from launcher.cli.changes import dry_run_option, in_states, rehearse, say
from launcher.cli.completing import JOBS
from launcher.cli.selection import HELP, select
from launcher.cli.session import lift_stop, open_queue, set_off
from launcher.errors import UsageError, counted
from launcher.states import ENDED, State
from launcher.store.rows import JobRow
from launcher.store.store import Store


@click.command(epilog=f"PATTERN: {HELP}")
@click.argument("patterns", nargs=-1, metavar="[PATTERN]…", shell_complete=JOBS)
@click.option("--failed", is_flag=True, help="All jobs that failed; of PATTERN, if one is given.")
@click.option("--force", is_flag=True, help="Also run again what is done.")
@dry_run_option
def command(patterns: tuple[str, ...], failed: bool, force: bool, dry_run: bool) -> None:
    """Queue ended jobs again, with the settings that they had.

    With them go what they need and what was skipped because of them. Retries count from zero. A
    job that was held when it was cancelled is held again.

    \b
    Examples:
      launcher retry --failed
      launcher retry 'train/*' --dry-run
    """
    with open_queue() as (home, store):
        chosen = _chosen(store, patterns, failed=failed, force=force)
        numbers = {job.id for job in chosen}
        queued = store.owning.again(numbers)
        held = store.owning.held_before(queued)
        if dry_run:
            rehearse(store.read.jobs_by_id(queued), lambda job: f"be {_what(job, numbers, held)}")
            return
        queued = store.owning.retry(numbers, time.time())
        lift_stop(home)
        set_off(home)
        rows = store.read.jobs_by_id(queued)
    held = {row.id for row in rows if row.state is State.HELD}
    say(rows, lambda job: _what(job, numbers, held))
    if held:
        click.echo(
            f"{counted(len(held), 'job')} {'was' if len(held) == 1 else 'were'} held before: "
            "`launcher release` lets them start",
            err=True,
        )


def _what(job: JobRow, asked: Collection[int], held: Collection[int]) -> str:
    told = "held again" if job.id in held else "queued again"
    return told if job.id in asked else f"{told} with them"


def _chosen(store: Store, patterns: Sequence[str], *, failed: bool, force: bool) -> list[JobRow]:
    if not patterns and not failed:
        raise UsageError("say which jobs: PATTERN…, or --failed")
    if not patterns:
        found = store.read.in_state(State.FAILED)
        if not found:
            raise UsageError(
                "nothing to retry: no job failed; `launcher retry PATTERN…` takes others"
            )
        return found
    states = {State.FAILED} if failed else ENDED if force else ENDED - {State.DONE}
    jobs = select(store, patterns)
    if not force and all(job.state is State.DONE for job in jobs):
        raise UsageError("nothing to retry: all of them are done; --force runs them again")
    return in_states(jobs, states, "retry")
