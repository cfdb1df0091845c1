"""`launcher stop`: no new jobs; with --now also no running ones."""

import time

import click

from launcher.cli.session import open_queue
from launcher.errors import MachineError, counted
from launcher.handover import ensure_scheduler, scheduler_pid, wake
from launcher.records import write_json
from launcher.states import State

NOW_TIMEOUT_S = 60.0  # the grace of 30 s, the kill, and taking it all in


@click.command()
@click.option("--now", is_flag=True, help="End running jobs too; they go back to the queue.")
def command(now: bool) -> None:
    """Start no more jobs; `launcher run`, `launcher add` or `launcher retry` goes on.

    Running jobs finish. With --now they get SIGTERM, save what they can, and are queued again.

    \b
    Examples:
      launcher stop
      launcher stop --now
    """
    with open_queue() as (home, store):
        write_json(home.stop, {"schema": 1, "now": now, "at": time.time()}, mode=0o600)
        running = store.read.counts().get(State.RUNNING, 0)
        if running:
            ensure_scheduler(home)
        wake(home)
        if not now:
            finish = "1 running one finishes" if running == 1 else f"{running} running ones finish"
            click.echo(f"no new jobs; {finish}", err=True)
            return
        deadline = time.monotonic() + NOW_TIMEOUT_S
        while (pid := scheduler_pid(home)) or store.read.counts().get(State.RUNNING):
            if pid is None:  # it was killed before it had taken in the ends
                ensure_scheduler(home)
            if time.monotonic() > deadline:
                raise MachineError(
                    f"the scheduler (pid {pid}) still runs after "
                    f"{NOW_TIMEOUT_S:.0f} s; its log is {home.scheduler_log}"
                )
            time.sleep(0.02)
        queued = store.read.counts().get(State.QUEUED, 0)
        verb = "waits" if queued == 1 else "wait"
        click.echo(f"stopped; {counted(queued, 'job')} {verb} in the queue", err=True)
