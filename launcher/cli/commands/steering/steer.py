"""`launcher hold`: keep queued jobs from starting."""

import time
from collections.abc import Collection, Sequence

import click

from launcher.cli.complete import JOBS
from launcher.cli.option_types import PRIORITY
from launcher.cli.prompts import (
    ask,
    dry_run_option,
    in_states,
    many,
    rehearse,
    say,
    say_missed,
    yes_option,
)
from launcher.cli.select_jobs import HELP, select
from launcher.errors import UsageError, counted
from launcher.screens.format import named
from launcher.states import ENDED, OPEN, State
from launcher.store.client import lift_stop, open_queue, say_if_stopped, set_off
from launcher.store.queue import Store
from launcher.store.rows import JobRow
from launcher.system.daemon_control import ensure_scheduler, wake


@click.command(epilog=f"PATTERN: {HELP}")
@many
@dry_run_option
def hold(patterns: tuple[str, ...], dry_run: bool) -> None:
    """Keep queued jobs from starting until `launcher release`; running jobs are not affected.

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


@click.command(epilog=f"PATTERN: {HELP}")
@many
@dry_run_option
def release(patterns: tuple[str, ...], dry_run: bool) -> None:
    """Let jobs start that were held by `launcher hold` or `launcher add --hold`.

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


# a negative number is no option
@click.command(epilog=f"PATTERN: {HELP}", context_settings={"ignore_unknown_options": True})
@click.argument("number", type=PRIORITY)
@many
@dry_run_option
def priority(number: int, patterns: tuple[str, ...], dry_run: bool) -> None:
    """Set the priority of waiting jobs: first the number, then the jobs.

    Higher starts sooner; the default is 0. A point is worth a day of waiting: a job with priority 1
    starts before jobs with priority 0 that were queued less than a day earlier.

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


@click.command(epilog=f"PATTERN: {HELP}")
@many
@yes_option
@dry_run_option
def cancel(patterns: tuple[str, ...], yes: bool, dry_run: bool) -> None:
    """Cancel jobs, and skip jobs that depend on them.

    A running job gets SIGTERM, and SIGKILL after its grace period (30 s by default), with all its
    child processes. Without a terminal to ask for confirmation this needs --yes.

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
            skipped = (
                f"{counted(len(needy), 'job')} that {'needs' if len(needy) == 1 else 'need'} them"
            )
            would = "would" if dry_run else "will"
            click.echo(f"{skipped} {would} be skipped: {named(needy)}", err=True)
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
        say([job for job in jobs if job.id in touched], _cancelled)
        say_missed(jobs, touched)
        if running:
            ensure_scheduler(home)


def _cancelled(job: JobRow) -> str:
    return "ending" if job.state is State.RUNNING else "cancelled"


def _would(job: JobRow) -> str:
    return "be ended" if job.state is State.RUNNING else "be cancelled"


@click.command(epilog=f"PATTERN: {HELP}")
@click.argument("patterns", nargs=-1, metavar="[PATTERN]…", shell_complete=JOBS)
@click.option(
    "--failed", is_flag=True, help="Select failed jobs: all, or those that match PATTERN."
)
@click.option("--force", is_flag=True, help="Also select jobs that are done.")
@dry_run_option
def retry(patterns: tuple[str, ...], failed: bool, force: bool, dry_run: bool) -> None:
    """Queue ended jobs again, with the same settings.

    Jobs that they depend on, and jobs that were skipped because of them, are queued, too. Retries
    count from zero. A job that was held when it was cancelled is held again.

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
            rehearse(
                store.read.jobs_by_id(queued), lambda job: f"be {_retried(job, numbers, held)}"
            )
            return
        queued = store.owning.retry(numbers, time.time())
        lift_stop(home)
        set_off(home)
        rows = store.read.jobs_by_id(queued)
    held = {row.id for row in rows if row.state is State.HELD}
    say(rows, lambda job: _retried(job, numbers, held))
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
