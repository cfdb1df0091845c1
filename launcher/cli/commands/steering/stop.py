"""`launcher stop`: no new jobs; with --now also no running ones."""

import time
from collections.abc import Sequence

import click

from launcher.cli.left_pilots import left_pilots, number_of_pilots
from launcher.cli.option_types import policy_option
from launcher.errors import MachineError, counted
from launcher.scheduler.chosen_policy import choose_discipline, told_of
from launcher.scheduler.policy.disciplines import Discipline
from launcher.screens.format import harmless, named
from launcher.states import State
from launcher.store.client import open_queue, set_off
from launcher.store.queue import Store
from launcher.store.rows import JobRow
from launcher.system.daemon_control import ensure_scheduler, scheduler_pid, wake
from launcher.system.files import write_json
from launcher.system.paths import Home
from launcher.units import format_seconds

MARGIN_S = 30.0  # after the longest grace: for the kill, and for taking it all in


@click.command()
@click.option("--now", is_flag=True, help="Also end running jobs; they go back to the queue.")
def command(now: bool) -> None:
    """Start no more jobs until `launcher start`, `launcher run` or `launcher retry`.

    Running jobs finish; jobs added by `launcher add` wait. With --now running jobs get SIGTERM and are
    queued again; a job with `--rerun never` fails instead.

    \b
    Examples:
      launcher stop
      launcher stop --now
    """
    with open_queue() as (home, store):
        try:
            write_json(home.stop, {"schema": 1, "now": now, "at": time.time()}, mode=0o600)
        except OSError as error:
            raise MachineError(
                f"cannot write {home.stop}: {error.strerror}; make room on its disk and try again"
            ) from error
        jobs, pilots = store.read.in_state(State.RUNNING), number_of_pilots(home)
        if jobs or pilots:
            ensure_scheduler(home)
        wake(home)
        if not now:
            click.echo(f"no new jobs; {_what_finishes(len(jobs), pilots)}", err=True)
            return
        patience_s = MARGIN_S + max((job.spec.terms.grace_s for job in jobs), default=0.0)
        deadline = time.monotonic() + patience_s
        while (pid := scheduler_pid(home)) or store.read.counts().get(State.RUNNING):
            if pid is None:  # it was killed before it had taken in the ends
                ensure_scheduler(home)
            if time.monotonic() > deadline:
                raise MachineError(_what_is_left(home, store, patience_s))
            time.sleep(0.02)
        rows = store.read.jobs_by_id(job.id for job in jobs)
        _say_failed([row for row in rows if row.state is State.FAILED])
        queued = store.read.counts().get(State.QUEUED, 0)
        verb = "waits" if queued == 1 else "wait"
        click.echo(f"stopped; {counted(queued, 'job')} {verb} in the queue", err=True)


def _what_finishes(jobs: int, pilots: int) -> str:
    finish = "1 running one finishes" if jobs == 1 else f"{jobs} running ones finish"
    text = finish if jobs else "none runs"
    if pilots:
        leave = "1 pilot leaves" if pilots == 1 else f"{pilots} pilots leave"
        text += f", then {leave}" if jobs else f", and {leave}"
    return text


def _what_is_left(home: Home, store: Store, patience_s: float) -> str:
    """Return what has not ended in time, who does what about it, and what its owner can do."""
    running = ", ".join(harmless(job.name) for job in store.read.in_state(State.RUNNING))
    lines = [f"still running: {running}"] if running else []
    lines += left_pilots(home)
    what = "not everything has ended" if lines else "the scheduler has not left"
    text = (
        f"after {format_seconds(patience_s)} {what}; the queue stays stopped, and the scheduler goes "
        f"on with it: {home.scheduler_log} says what it does"
    )
    return "\n".join([text, *(f"  {line}" for line in lines)])


def _say_failed(jobs: Sequence[JobRow]) -> None:
    """Name the jobs that were stopped and must never run twice: these do not wait in the queue."""
    never = [job for job in jobs if job.spec.terms.rerun == "never"]
    if never:
        numbers = " ".join(str(job.id) for job in never)
        failed = f"failed, as {'it' if len(never) == 1 else 'they'} must never run twice"
        click.echo(f"{failed}: {named(never, len(never))}", err=True)
        click.echo(f"  launcher retry {numbers}", err=True)


@click.command()
@policy_option
def start(policy: Discipline | None) -> None:
    """Start jobs again after `launcher stop`; with --policy, let another policy decide which.

    \b
    Examples:
      launcher start
      launcher start --policy easy
    """
    with open_queue() as (home, _):
        if policy is not None:
            choose_discipline(home, policy)
            click.echo(told_of(home), err=True)
        was_stopped = home.stop.exists()
        home.stop.unlink(missing_ok=True)
        set_off(home)
    if was_stopped or policy is None:
        click.echo("the queue goes on" if was_stopped else "the queue was not stopped", err=True)
