"""`launcher web`: the queue as a page in the browser."""

import importlib
import os
import sys

import click

from launcher.cli.option_types import flag, whole
from launcher.errors import MachineError
from launcher.store.client import open_queue, revive_if_dead
from launcher.system.paths import check_home, find_home

INSTALL = "pip install 'launcher-trueface[web]'"
LAST_PORT = 65_535


@click.command()
@click.option(
    "--port",
    type=whole(0, LAST_PORT),
    default=0,
    show_default="a free one",
    help="Port on 127.0.0.1; 0 takes a free one.",
)
@flag("--read-only", help="Show the queue, and let nothing be changed.")
def command(port: int, read_only: bool) -> None:
    """Serve the queue as a page for the browser: GPUs, jobs, logs, curves; control jobs.

    The first line of the output is the link that opens it. The page can be reached from this machine
    only, and only with that link; the command for a tunnel from another machine follows. Ctrl-C ends
    the page and does not affect the jobs.

    \b
    Examples:
      launcher web
      launcher web --port 8765 --read-only
    """
    try:
        # every other command must start at once, and the server takes a third of a second to import
        server = importlib.import_module("launcher.web.server")
    except ImportError as error:
        raise MachineError(f"launcher web needs {error.name}: {INSTALL}") from error
    home = find_home(os.environ)
    if home.exists():
        check_home(home)
        if not read_only:
            with open_queue() as (_, store):
                revive_if_dead(home, store)

    def ready(link: str, chosen: int) -> None:
        click.echo(link)
        sys.stdout.flush()
        click.echo(f"from another machine, first: {server.tunnel_command(chosen)}", err=True)
        click.echo("Ctrl-C ends the page; the jobs go on", err=True)

    server.serve(home, port, read_only=read_only, ready=ready)
