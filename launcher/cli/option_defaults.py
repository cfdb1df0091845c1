"""Defaults of options from the user's configuration file, and the options that every command has: colours, ASCII only.

They are checked as the command line checks them.
"""

import os
from collections.abc import Mapping
from typing import Any

import click

from launcher.screens.terminal import ALWAYS, AUTO, NEVER, choose_characters, choose_colour
from launcher.system.config import Fault, Options, read_configuration, unknown


def _set_ascii(_context: click.Context, _option: click.Parameter, chosen: bool | None) -> None:
    if chosen:
        choose_characters(ascii_only=True)


APPEARANCE: list[click.Parameter] = [
    click.Option(
        ["--color"],
        type=click.Choice([AUTO, ALWAYS, NEVER]),
        expose_value=False,
        callback=lambda _context, _option, when: choose_colour(when or AUTO),
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


def defaults(
    verb: click.Command, keys: tuple[str, ...], options: Options, faults: list[Fault]
) -> dict[str, Any]:
    """Return the values that a table of the user's file sets for a verb's options, as click takes them.

    Args:
        verb: the verb, or a verb's verb such as `install` of `service`.
        keys: the table's name.
        options: the table; options are named as on the command line.
        faults: where unknown options and wrong values are added.
    """
    options_by_name = options_of(verb)
    below = verb.commands if isinstance(verb, click.Group) else {}
    values: dict[str, Any] = {}
    for key, value in options.items():
        word = key.replace("_", "-")
        place = (*keys, key)
        if word in below and isinstance(value, dict):
            values[word] = defaults(below[word], place, value, faults)
        elif word not in options_by_name:
            what = f"an option of launcher {' '.join(keys)}"
            faults.append((place, unknown(key, what, [*options_by_name, *below])))
        else:
            option = options_by_name[word]
            try:
                values[option.name or ""] = _as_typed(option, value)
            except click.BadParameter as error:
                faults.append((place, f"{'.'.join(place)}: {error.message}"))
    return values


def options_of(verb: click.Command) -> dict[str, click.Option]:
    """Return the options of a verb by their long names without the dashes.

    Options of appearance are left out: they follow the terminal.
    """
    return {
        name.removeprefix("--"): option
        for option in verb.params
        if isinstance(option, click.Option) and option not in APPEARANCE
        for name in option.opts
        if name.startswith("--")
    }


def configured_defaults(
    name: str, verb: click.Command, verbs: Mapping[str, str]
) -> dict[str, Any] | None:
    """Return the defaults that the user's file sets for a verb, as `Context.default_map` takes them.

    Args:
        name: the verb's name.
        verb: the verb.
        verbs: the summaries of all verbs by name; the file may have a table for each.

    Raises:
        UsageError: the file is wrong.
    """
    configuration = read_configuration(os.environ, verbs)
    if name not in configuration.options:
        return None
    faults: list[Fault] = []
    values = defaults(verb, (name,), configuration.options[name], faults)
    configuration.refuse(faults)
    return {name: values}


def _as_typed(option: click.Option, value: object) -> Any:  # click takes any
    """Return a value of the file as it would be typed for the option on the command line.

    Raises:
        click.BadParameter: the option does not take it.
    """
    if option.is_flag:
        if not isinstance(value, bool):
            raise click.BadParameter("expected true or false")
        return value
    listed = value if isinstance(value, list) and option.multiple else [value]
    if any(isinstance(item, bool | list | dict) for item in listed):
        raise click.BadParameter("expected a number or a text")
    words = [str(item) for item in listed]
    for word in words:
        option.type.convert(word, None, None)
    return words if option.multiple else words[0]
