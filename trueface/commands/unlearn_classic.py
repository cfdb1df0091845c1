"""`trueface unlearn-classic`: the original unlearn_trueface.py's command line as a command."""

import click

from trueface import unlearn_trueface


@click.command(
    "unlearn-classic",
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    epilog="All flags: python -m trueface.unlearn_trueface --help",
)
@click.argument("flags", nargs=-1, type=click.UNPROCESSED)
def unlearn_classic(flags: tuple[str, ...]) -> None:
    """Make a poisoned model forget, with the FLAGS of the original unlearn_trueface.py."""
    unlearn_trueface.run(flags)
