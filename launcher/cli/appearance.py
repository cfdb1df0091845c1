"""The options that every command has: when to use colours, and whether to use ASCII only."""

import click

from launcher.screens.terminal import ALWAYS, AUTO, NEVER, choose_characters, choose_colour


def _set_colour(_context: click.Context, _option: click.Parameter, when: str | None) -> None:
    if when is not None:
        choose_colour(when)


def _set_ascii(_context: click.Context, _option: click.Parameter, chosen: bool | None) -> None:
    if chosen:
        choose_characters(ascii_only=True)


APPEARANCE: list[click.Parameter] = [
    click.Option(
        ["--color"],
        type=click.Choice([AUTO, ALWAYS, NEVER]),
        expose_value=False,
        callback=_set_colour,
        help="When to use colours; auto respects NO_COLOR and FORCE_COLOR.",
    ),
    click.Option(
        ["--ascii"],
        is_flag=True,
        expose_value=False,
        callback=_set_ascii,
        help="Use ASCII characters only.",
    ),
]
