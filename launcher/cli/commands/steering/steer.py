"""`launcher hold`: keep queued jobs from starting."""

import time

import click

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
from launcher.errors import counted
from launcher.screens.format import named
from launcher.states import OPEN, State
from launcher.store.client import open_queue, say_if_stopped, set_off
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
        touched = set(store.steering.hold([job.id for job in jobs], time.time()))
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
        touched = set(store.steering.release([job.id for job in jobs], time.time()))
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
        touched = set(store.steering.prioritise([job.id for job in jobs], number))
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
        touched = set(store.steering.cancel([job.id for job in jobs], time.time()))
        wake(home)
        say([job for job in jobs if job.id in touched], _cancelled)
        say_missed(jobs, touched)
        if running:
            ensure_scheduler(home)


def _cancelled(job: JobRow) -> str:
    return "ending" if job.state is State.RUNNING else "cancelled"


def _would(job: JobRow) -> str:
    return "be ended" if job.state is State.RUNNING else "be cancelled"
