"""`launcher top`: GPUs and jobs on the whole screen."""

import importlib
import os
import sys
from contextlib import closing
from threading import Event

import click

from launcher.cli.main import main
from launcher.errors import UsageError, counted
from launcher.gpu.monitor import Lookout
from launcher.gpu.nvml import Nvml
from launcher.screens.dashboard.controller import Controller
from launcher.screens.queue_view import screen_lines
from launcher.screens.snapshots import Queue
from launcher.screens.terminal import coloured, say, width
from launcher.screens.text_table import Line, line
from launcher.states import State
from launcher.store.client import revive_if_dead
from launcher.system.paths import check_home, find_home

PATIENCE_S = 1.0  # for the first look at the GPUs


@click.command()
@click.option("--read-only", is_flag=True, help="Disable all keys that change the queue.")
@click.option("--once", is_flag=True, help="Print the screen once, also into a pipe, and exit.")
def command(read_only: bool, once: bool) -> int:
    """Show GPUs and jobs on the whole screen; open, hold, cancel and retry jobs.

    The key ? lists all keys. Leaving the screen does not affect the jobs.

    \b
    Examples:
      launcher top
      launcher top --read-only
      launcher top --once
    """
    if not once:
        _need_terminal()
    home, looked = find_home(os.environ), Event()
    if home.exists():
        check_home(home)
    with closing(Queue(home, lookout=Lookout(Nvml().snapshot, looked.set), measures=True)) as queue:
        if once:
            say(_picture(queue, looked))
            return 0
        store = None if read_only else queue.current()
        if store is not None:
            revive_if_dead(home, store)
        # every other command must start at once, and Textual takes a quarter of a second to import
        top = importlib.import_module("launcher.screens.dashboard.app").Top
        app = top(queue, colour=coloured(sys.stderr), read_only=read_only)
        code = app.run(mouse=False)
        if app.return_code:  # it crashed, and has printed why
            return int(app.return_code)
        click.echo(_farewell(app.controller), err=True)
    return code or 0


def _need_terminal() -> None:
    streams = (sys.stdin, sys.stdout, sys.stderr)
    if os.environ.get("TERM") == "dumb" or not all(stream.isatty() for stream in streams):
        raise UsageError(
            "top needs a terminal on which it can draw; "
            "`launcher status` or `launcher top --once` prints the same once"
        )


def _picture(queue: Queue, looked: Event) -> list[Line]:
    """Return one frame, as long as it is."""
    screen = queue.look()
    if not screen.gpus and queue.store is not None and looked.wait(PATIENCE_S):
        screen = queue.look()
    note = [line(queue.note)] if queue.note else []
    return [*screen_lines(screen, width()), *note]


def _farewell(controller: Controller) -> str:
    """Return what continues after the screen is left."""
    counts = {} if controller.screen is None else controller.screen.counts
    running, queued = counts.get(State.RUNNING, 0), counts.get(State.QUEUED, 0)
    if running:
        left = f"{counted(running, 'job')} {'goes' if running == 1 else 'go'} on"
    elif queued:
        left = f"{counted(queued, 'job')} {'waits' if queued == 1 else 'wait'}"
    else:
        return "no job runs or waits; `launcher top` to come back"
    return f"{left}; `launcher top` to come back, `launcher stop` to stop"


if __name__ == "__main__":
    main(["top", *sys.argv[1:]])
