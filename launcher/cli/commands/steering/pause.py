"""`launcher pause`, `launcher resume`: let running programs stand still, and go on."""

import time
from collections.abc import Mapping

import click

from launcher.cli.prompts import dry_run_option, in_states, many, rehearse, say, say_missed
from launcher.cli.select_jobs import HELP, select
from launcher.errors import UsageError
from launcher.screens.format import named, pause_reason, reserved_text
from launcher.states import State
from launcher.store.client import open_queue
from launcher.store.rows import AttemptRow, JobRow
from launcher.system.daemon_control import ensure_scheduler, wake


@click.command(epilog=f"PATTERN: {HELP}")
@many
@dry_run_option
def command(patterns: tuple[str, ...], dry_run: bool) -> None:
    """Let running programs stand still until `launcher resume`.

    All processes of a job get SIGSTOP. Its cores, main memory and GPU memory stay reserved, and it goes on
    holding the memory that it has on its GPUs. Its time limit does not come nearer, and the pause counts
    neither as run time nor as use of the machine. `launcher cancel` ends a paused job, too.

    \b
    Examples:
      launcher pause train/gan2:pre
      launcher pause 12 13
    """
    with open_queue() as (home, store):
        jobs = in_states(select(store, patterns), {State.RUNNING}, "pause")
        attempts = store.read.newest_attempts(job.id for job in jobs)
        jobs = _here(jobs, attempts)
        if dry_run:
            rehearse(jobs, lambda job: f"be {_kept(attempts[job.id])}")
            return
        now = time.time()
        reasons = {
            job.id: pause_reason(attempts[job.id].device, attempts[job.id].claim, now)
            for job in jobs
        }
        touched = set(store.steering.pause(reasons, now))
        wake(home)
        ensure_scheduler(home)
    say([job for job in jobs if job.id in touched], lambda job: _kept(attempts[job.id]))
    _say_left(jobs, touched, "paused already, or about to end")


@click.command(epilog=f"PATTERN: {HELP}")
@many
@dry_run_option
def resume(patterns: tuple[str, ...], dry_run: bool) -> None:
    """Let programs go on that `launcher pause` has stopped.

    \b
    Examples:
      launcher resume train/gan2:pre
      launcher resume run:quickstart --dry-run
    """
    with open_queue() as (home, store):
        jobs = in_states(select(store, patterns), {State.RUNNING}, "resume")
        paused = [job for job in jobs if job.paused is not None]
        if not paused:
            raise UsageError(f"nothing to resume: {named(jobs)} is not paused")
        if dry_run:
            rehearse(paused, lambda _: "go on")
            return
        touched = set(store.steering.resume([job.id for job in paused], time.time()))
        wake(home)
        ensure_scheduler(home)
    say([job for job in paused if job.id in touched], lambda _: "goes on")
    say_missed(paused, touched)


def _here(jobs: list[JobRow], attempts: Mapping[int, AttemptRow]) -> list[JobRow]:
    """Return the jobs that run on this machine; name the others.

    Raises:
        UsageError: none does.
    """
    elsewhere = [job for job in jobs if attempts[job.id].pilot]
    here = [job for job in jobs if not attempts[job.id].pilot]
    if elsewhere:
        why = (
            f"left as they are, on nodes of a cluster: {named(elsewhere)}; a pilot cannot pause a "
            "program: its allocation would run out meanwhile"
        )
        if not here:
            raise UsageError(f"nothing to pause: {why}")
        click.echo(why, err=True)
    return here


def _kept(attempt: AttemptRow) -> str:
    """Return what stays reserved while a job is paused."""
    kept = reserved_text(attempt.device, attempt.claim)
    return f"paused; {kept}" if kept else "paused"


def _say_left(jobs: list[JobRow], touched: set[int], why: str) -> None:
    left = [job for job in jobs if job.id not in touched]
    if left:
        click.echo(f"left as they are, {why}: {named(left)}", err=True)
