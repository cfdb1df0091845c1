"""`launcher start`: let a stopped queue go on."""

import click

from launcher.cli.session import open_queue, set_off


@click.command()
def command() -> None:
    """Let a queue go on that `launcher stop` has stopped.

    \b
    Examples:
      launcher start
      launcher start && launcher wait
    """
    with open_queue() as (home, _):
        was_stopped = home.stop.exists()
        home.stop.unlink(missing_ok=True)
        set_off(home)
    click.echo("the queue goes on" if was_stopped else "the queue was not stopped", err=True)
