"""`launcher retry`: queue ended jobs again, as they were or changed."""

import time
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import click

from launcher.cli.complete import JOBS
from launcher.cli.prompts import dry_run_option, in_states, rehearse, say
from launcher.cli.select_jobs import HELP, select
from launcher.errors import UsageError, counted
from launcher.states import ENDED, State
from launcher.store.client import lift_stop, open_queue, set_off
from launcher.store.queue import Store
from launcher.store.rows import JobRow
from launcher.system.paths import Home

if TYPE_CHECKING:
    from launcher.planning.revision import Revision


@click.command(epilog=f"PATTERN: {HELP}")
@click.argument("patterns", nargs=-1, metavar="[PATTERN]…", shell_complete=JOBS)
@click.option(
    "--failed", is_flag=True, help="Select failed jobs: all, or those that match PATTERN."
)
@click.option("--force", is_flag=True, help="Also select jobs that are done.")
@click.option(
    "--set",
    "sets",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change this of each of them: an option (resources.vram=16GiB), or of a program argv, cwd, env; repeatable.",
)
@dry_run_option
def command(
    patterns: tuple[str, ...], failed: bool, force: bool, sets: tuple[str, ...], dry_run: bool
) -> None:
    """Queue ended jobs again, as they were, or with other resources.

    Jobs that they depend on, and jobs that were skipped because of them, are queued, too. Retries
    count from zero. A job that was held when it was cancelled is held again.

    \b
    Examples:
      launcher retry --failed
      launcher retry 'train/*' --dry-run
      launcher retry 12 --set resources.vram=16GiB --set resources.time_limit=8h
    """
    with open_queue() as (home, store):
        chosen = _chosen(store, patterns, failed=failed, force=force)
        numbers = {job.id for job in chosen}
        queued = store.steering.again(numbers)
        held = store.steering.held_before(queued)
        changes = _changes(home, store, chosen, sets)
        if dry_run:
            rehearse(
                store.read.jobs_by_id(queued),
                lambda job: f"be {_retried(job, numbers, held)}{_changed(job, changes)}",
            )
            return
        queued = store.steering.retry(
            numbers, time.time(), [change.stored() for change in changes.values()]
        )
        lift_stop(home)
        set_off(home)
        rows = store.read.jobs_by_id(queued)
    held = {row.id for row in rows if row.state is State.HELD}
    say(rows, lambda job: f"{_retried(job, numbers, held)}{_changed(job, changes)}")
    if held:
        click.echo(
            f"{counted(len(held), 'job')} {'was' if len(held) == 1 else 'were'} held before: "
            "`launcher release` lets them start",
            err=True,
        )


def _retried(job: JobRow, asked: Collection[int], held: Collection[int]) -> str:
    outcome = "held again" if job.id in held else "queued again"
    return outcome if job.id in asked else f"{outcome} with them"


def _chosen(store: Store, patterns: Sequence[str], *, failed: bool, force: bool) -> list[JobRow]:
    if not patterns and not failed:
        raise UsageError("say which jobs: PATTERN…, or --failed")
    if not patterns:
        failed_jobs = store.read.in_state(State.FAILED)
        if not failed_jobs:
            raise UsageError(
                "nothing to retry: no job failed; `launcher retry PATTERN…` takes others"
            )
        return failed_jobs
    states = {State.FAILED} if failed else ENDED if force else ENDED - {State.DONE}
    jobs = select(store, patterns)
    if not force and all(job.state is State.DONE for job in jobs):
        raise UsageError("nothing to retry: all of them are done; --force runs them again")
    return in_states(jobs, states, "retry")


def _changes(
    home: Home, store: Store, jobs: Sequence[JobRow], sets: Sequence[str]
) -> "Mapping[int, Revision]":
    """Return how `--set` changes each job; one that has those values already is not among them.

    Raises:
        UsageError: one of them cannot be changed so; says which.
    """
    if not sets:
        return {}
    # kinds and pydantic, which no other verb of this room needs
    from launcher.functions.plan_checks import check_revisions
    from launcher.planning.revision import revise_all

    revisions = revise_all(store, jobs, sets, time.time())
    check_revisions(home, store, revisions.values())
    return revisions


def _changed(job: JobRow, changes: "Mapping[int, Revision]") -> str:
    return f", changed: {changes[job.id].summary}" if job.id in changes else ""
