"""The verbs that show GPUs and jobs: `gpus` once, `top` on the whole screen, `web` as a page in the browser."""

import importlib
import os
import sys
from contextlib import closing
from functools import partial
from threading import Event
from typing import TYPE_CHECKING

import click

from launcher.frontends.cli.help_pages import launcher_command
from launcher.frontends.cli.option_types import flag, json_option, whole_number
from launcher.frontends.screens.command_output import CommandOutput, print_output
from launcher.frontends.screens.gpu_view import draw, gpu_views, merge_recorded, scheduler_snapshot
from launcher.frontends.screens.pilot_gpus import pilot_gpu_views
from launcher.queue.backends.pilot_status import read_pilot_status
from launcher.queue.gpu.monitor import GpuPoller, query_gpus_once
from launcher.queue.gpu.nvml import Nvml
from launcher.queue.gpu.reservations import quiet_board
from launcher.queue.home.paths import check_home, find_home
from launcher.queue.jobs.states import State
from launcher.queue.store.client import open_queue, restart_scheduler_if_dead
from launcher.queue.store.rows import Claim
from launcher.system.errors import MachineError, UsageError, pluralize
from launcher.system.installation import install_command
from launcher.system.terminal import print_lines, print_stderr, uses_colour, width
from launcher.system.text_table import TextLine, line

if TYPE_CHECKING:
    from launcher.frontends.screens.snapshots import QueueSnapshot, QueueSnapshotReader

FIRST_SAMPLE_S = 1.0  # seconds between the first two samples of the GPUs
LAST_PORT = 65_535


@launcher_command(
    heading="Queue and machine",
    place=60,
    other_names={"": "nvidia-smi sinfo nodes devices"},
)
@json_option
def gpus(as_json: bool) -> None:
    """List GPUs with their memory, users and health.

    GPUs of cluster nodes are listed as last reported by their pilot.

    In a pipe, one tab-separated line per GPU or MIG instance: label, UUID, name, bytes used, bytes total,
    bytes used by launcher, bytes reserved. The line continues with utilization (0 to 1), °C, watts, power
    limit in watts, idle or used, health, reason, node.

    \b
    Examples:
      launcher gpus
      launcher gpus --json
    """
    probe = Nvml()
    seen = query_gpus_once(probe.snapshot)
    home = find_home(os.environ)
    claims: list[Claim] = []
    if home.exists():
        with open_queue() as (_, store):
            claims = store.claims.open_claims()
    ours = [claim for claim in claims if not claim.pilot]
    foreign = quiet_board(home.folder).foreign_reservations()
    gauges = gpu_views(merge_recorded(seen, *scheduler_snapshot(home)), ours, home, foreign)
    gauges += pilot_gpu_views(home, read_pilot_status(home), claims)
    if gauges or as_json:
        answer = CommandOutput(
            record=lambda: {
                "absent": probe.absent or None,
                "gpus": [gauge.to_json() for gauge in gauges],
            },
            rows=lambda: [gauge.columns() for gauge in gauges],
            draw_lines=partial(draw, gauges),
        )
        print_output(answer, as_json=as_json)
    else:
        print_stderr(f"no GPU found: {probe.absent or 'the driver lists none'}")


@launcher_command(
    heading="Watch",
    place=20,
    summary="Show GPUs and jobs on the whole screen; keys control them.",
    other_names={"": "watch monitor dashboard ui"},
)
@flag("--read-only", help="Disable all keys that change the queue.")
@flag("--once", help="Print the screen once, also into a pipe, and exit.")
def top(read_only: bool, once: bool) -> int:
    """Show GPUs and jobs on the whole terminal.

    Keys open, hold, cancel and retry jobs; the key ? lists all keys. Closing the screen does not affect the
    jobs.

    \b
    Examples:
      launcher top
      launcher top --read-only
      launcher top --once
    """
    # modules that draw the queue take a third as long to import as those of `gpus`
    from launcher.frontends.screens.snapshots import QueueSnapshotReader

    if not once:
        _need_terminal()
    home, looked = find_home(os.environ), Event()
    if home.exists():
        check_home(home)
    with closing(
        QueueSnapshotReader(home, gpu_poller=GpuPoller(Nvml().snapshot, looked.set), measures=True)
    ) as queue:
        if once:
            print_lines(_draw_frame(queue, looked))
            return 0
        store = None if read_only else queue.current()
        if store is not None:
            restart_scheduler_if_dead(home, store)
        # every other command must start at once, and Textual takes a quarter of a second to import
        dashboard = importlib.import_module("launcher.frontends.screens.dashboard.app")
        app = dashboard.Top(queue, colour=uses_colour(sys.stderr), read_only=read_only)
        code = app.run(mouse=False)
        if app.return_code:  # the screen crashed, and has printed why
            return int(app.return_code)
        print_stderr(_exit_message(app.snapshot))
    return code or 0


def _need_terminal() -> None:
    streams = (sys.stdin, sys.stdout, sys.stderr)
    if os.environ.get("TERM") == "dumb" or not all(stream.isatty() for stream in streams):
        raise UsageError(
            "launcher top needs a terminal that can draw. To print the screen once: launcher top --once"
        )


def _draw_frame(queue: "QueueSnapshotReader", event: Event) -> list[TextLine]:
    """Return one frame, as long as it is."""
    from launcher.frontends.screens.queue_view import snapshot_lines  # importing screens takes long

    screen = queue.read_snapshot()
    if not screen.gpus and queue.store is not None and event.wait(FIRST_SAMPLE_S):
        screen = queue.read_snapshot()
    message = [line(queue.message)] if queue.message else []
    return [*snapshot_lines(screen, width()), *message]


def _exit_message(snapshot: "QueueSnapshot | None") -> str:
    """Return what continues after the screen is left."""
    counts = {} if snapshot is None else snapshot.counts
    running, queued = counts.get(State.RUNNING, 0), counts.get(State.QUEUED, 0)
    if running:
        left = f"{pluralize(running, 'running job')} {'continues' if running == 1 else 'continue'}"
    elif queued:
        left = f"{pluralize(queued, 'job')} {'waits' if queued == 1 else 'wait'}"
    else:
        return "No job is running or waiting. To come back: launcher top"
    return f"{left}. To come back: launcher top. To stop: launcher stop"


@launcher_command(
    heading="Watch",
    place=30,
)
@click.option(
    "--port",
    type=whole_number(0, LAST_PORT),
    default=0,
    help="Port on 127.0.0.1.  [default: a free port]",
)
@flag("--read-only", help="Show the queue, but do not allow changes.")
def web(port: int, read_only: bool) -> None:
    """Serve the queue as a page for the browser.

    Open the printed link. The link works on this machine only; to use it from another machine, run the
    printed ssh command there. Anyone with the link can control your jobs. Ctrl-C stops the page, not the
    jobs.

    \b
    Examples:
      launcher web
      launcher web --port 8765 --read-only
    """
    try:
        # every other command must start at once, and the server takes a third of a second to import
        server = importlib.import_module("launcher.frontends.web.server")
    except ImportError as error:
        raise MachineError(
            f"launcher web needs the package {error.name}. Install it: {install_command('web')}"
        ) from error
    home = find_home(os.environ)
    if home.exists():
        check_home(home)
        if not read_only:
            with open_queue() as (_, store):
                restart_scheduler_if_dead(home, store)

    def ready(link: str, index: int) -> None:
        click.echo(link)
        sys.stdout.flush()
        print_stderr(
            f"To open it from another machine, first run there: {server.tunnel_command(index)}"
        )
        print_stderr("Ctrl-C stops the page; the jobs continue.")

    server.serve(home, port, read_only=read_only, ready=ready)
