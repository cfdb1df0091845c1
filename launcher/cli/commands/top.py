"""`launcher top`: GPUs and jobs on the whole screen."""

import importlib
import os
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import Event
from typing import TextIO

import click

from launcher.cli.main import main
from launcher.cli.option_types import real
from launcher.errors import MachineError, UsageError, counted
from launcher.gpu.monitor import Lookout
from launcher.gpu.nvml import Nvml
from launcher.screens.dashboard.controller import Controller
from launcher.screens.dashboard.screen_recording import Recorder, read_day
from launcher.screens.dashboard.sources import Queue, Replay, Source
from launcher.screens.queue_view import screen_lines
from launcher.screens.snapshots import WAITING
from launcher.screens.terminal import coloured, say, width
from launcher.screens.text_table import Line, line
from launcher.states import State
from launcher.store.client import revive_if_dead
from launcher.system.paths import check_home, find_home

PATIENCE_S = 1.0  # for the first look at the GPUs
LEAST_SPEED, MOST_SPEED = 0.01, 100_000.0


@click.command()
@click.option("--read-only", is_flag=True, help="Disable all keys that change the queue.")
@click.option("--once", is_flag=True, help="Print the screen once, also into a pipe, and exit.")
@click.option(
    "--record",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Append each change of the screen to FILE as a line of JSON.",
)
@click.option(
    "--replay",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Show a recording instead of the queue.",
)
@click.option(
    "--speed",
    metavar="X",
    type=real(LEAST_SPEED, MOST_SPEED),
    default=1.0,
    show_default=True,
    help="Speed of the replay.",
)
def command(
    read_only: bool, once: bool, record: Path | None, replay: Path | None, speed: float
) -> int:
    """Show GPUs and jobs on the whole screen; open, hold, cancel and retry jobs.

    The key ? lists all keys. Leaving the screen does not affect the jobs.

    \b
    Examples:
      launcher top
      launcher top --read-only --record day.jsonl
      launcher top --replay day.jsonl --speed 60
    """
    if replay is not None and record is not None:
        raise UsageError("a recording is shown or made: say --replay or --record, not both")
    if not once:
        _need_terminal()
    looked = Event()
    with ExitStack() as open_things:
        source: Source
        if replay is not None:
            source = Replay(read_day(replay), speed=speed)
        else:
            queue = _queue(record, looked, open_things)
            if not read_only and not once and queue.home.exists():
                queue.look(waiting=0, sought="")
                assert queue.store is not None
                revive_if_dead(queue.home, queue.store)
            source = queue
        if once:
            say(_picture(source, looked))
            if source.complaint:
                raise MachineError(source.complaint)
            return 0
        # every other command must start at once, and Textual takes a quarter of a second to import
        top = importlib.import_module("launcher.screens.dashboard.app").Top
        app = top(source, colour=coloured(sys.stderr), read_only=read_only)
        code = app.run(mouse=False)
        if app.return_code:  # it crashed, and has printed why
            return int(app.return_code)
        if replay is None:
            click.echo(_farewell(app.controller), err=True)
    return code or 0


def _need_terminal() -> None:
    streams = (sys.stdin, sys.stdout, sys.stderr)
    if os.environ.get("TERM") == "dumb" or not all(stream.isatty() for stream in streams):
        raise UsageError(
            "top needs a terminal on which it can draw; "
            "`launcher status` or `launcher top --once` prints the same once"
        )


def _queue(record: Path | None, looked: Event, open_things: ExitStack) -> Queue:
    home = find_home(os.environ)
    if home.exists():
        check_home(home)
    recorder = None
    if record is not None:
        try:
            file = record.open("a", encoding="utf-8")
        except OSError as error:
            raise UsageError(
                f"cannot write the recording {record}: {error.strerror}; "
                "name a file in a folder that you can write"
            ) from error
        open_things.callback(_close, file)
        recorder = Recorder(file)
    queue = Queue(home, lookout=Lookout(Nvml().snapshot, looked.set), recorder=recorder)
    open_things.callback(queue.close)
    return queue


def _close(recording: TextIO) -> None:
    with suppress(OSError):  # the failed write has been reported
        recording.close()


def _picture(source: Source, looked: Event) -> list[Line]:
    """Return one frame, as long as it is."""
    screen = source.look(waiting=WAITING, sought="")
    if not screen.gpus and source.store is not None and looked.wait(PATIENCE_S):
        screen = source.look(waiting=WAITING, sought="")
    note = [line(source.note)] if source.note and source.home is not None else []
    return [*screen_lines(screen, width()), *note]


def _farewell(controller: Controller) -> str:
    """Return what continues after the screen is left."""
    counts = {} if controller.screen is None else controller.screen.counts
    running, queued = counts.get(State.RUNNING, 0), counts.get(State.QUEUED, 0)
    number, verb = (running, ("goes", "go")) if running else (queued, ("waits", "wait"))
    if not number:
        return "no job runs or waits; `launcher top` to come back"
    left = f"{counted(number, 'job')} {verb[0] if number == 1 else verb[1]}"
    on = " on" if running else ""
    return f"{left}{on}; `launcher top` to come back, `launcher stop` to stop"


if __name__ == "__main__":
    main(["top", *sys.argv[1:]])
