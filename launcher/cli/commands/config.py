"""`launcher config`: which defaults hold, and who says so."""

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

import click

from launcher.backends.settings import configured_backends
from launcher.cli.main import VERBS
from launcher.cli.main import verb as verb_of
from launcher.cli.option_defaults import defaults, options_of
from launcher.cli.option_types import TextDefaultOption
from launcher.notify.settings import NotifySettings, configured_notify, shown
from launcher.screens.format import columns, harmless, tabbed
from launcher.system.config import Configuration, Fault, read_configuration
from launcher.system.files import Json
from launcher.system.gpu_sharing import Rules, notes
from launcher.system.paths import find_home
from launcher.units import format_bytes, format_seconds

PREFIX = "LAUNCHER"  # of environment variables


class Source(StrEnum):
    """Who says what holds; the command line, above all of them, is not known here."""

    ENVIRONMENT = "environment"
    FILE = "file"
    DEFAULT = "default"


class Value(NamedTuple):
    """One default, and where it comes from."""

    name: str
    value: Json
    source: Source = Source.DEFAULT
    where: str = ""  # the variable, or file and line

    def cells(self) -> tuple[str, ...]:
        """Return the value as a line: name, value, where it comes from."""
        value = self.value if isinstance(self.value, str) else json.dumps(self.value)
        return self.name, harmless(value), harmless(self.where or self.source)

    def record(self) -> dict[str, Json]:
        """Return the value for JSON."""
        return {
            "name": self.name,
            "value": self.value,
            "source": self.source,
            "where": self.where or None,
        }


@click.command()
@click.option("--all", "everything", is_flag=True, help="Also list every option of every verb.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (schema 1).")
def command(everything: bool, as_json: bool) -> None:
    """Print your defaults, and where each is set.

    The first of these that sets a value wins: the command line, the environment (LAUNCHER_HOME,
    LAUNCHER_RUN_DETACH …), the file config.toml in $XDG_CONFIG_HOME/launcher (or the file named by
    LAUNCHER_CONFIG), the built-in default. In a pipe: name, value, where it is set.

    \b
    Examples:
      launcher config
      launcher config --all --json
    """
    configuration = read_configuration(os.environ, VERBS)
    messages = configured_notify(os.environ) or NotifySettings()
    values = [
        *_general(configuration, os.environ),
        *_sharing(configuration),
        *_backends(configuration),
        *_notify(configuration, messages),
        *_options(configuration, os.environ, everything=everything),
    ]
    if as_json:
        record: dict[str, Json] = {
            "schema": 1,
            "file": str(configuration.file),
            "exists": configuration.exists,
            "values": [value.record() for value in values],
        }
        click.echo(json.dumps(record))
    elif not sys.stdout.isatty():
        click.echo(tabbed(value.cells() for value in values))
    else:
        _draw(configuration, values)
    for note in (*notes(configuration), *messages.notes):
        click.echo(note, err=True)


def _draw(configuration: Configuration, values: Sequence[Value]) -> None:
    width = os.get_terminal_size().columns or 80  # 0: it tells none
    absent = "" if configuration.exists else " (there is none)"
    click.echo(f"file: {harmless(str(configuration.file))}{absent}")
    rows = [("NAME", "VALUE", "COMES FROM"), *(value.cells() for value in values)]
    for line in columns(rows):
        click.echo(line if len(line) <= width else f"{line[: width - 1]}…")


def _general(configuration: Configuration, environ: Mapping[str, str]) -> Iterator[Value]:
    """Give the values that belong to no verb."""
    home = str(find_home(environ).folder)
    if environ.get("LAUNCHER_HOME"):
        yield Value(name="home", value=home, source=Source.ENVIRONMENT, where="LAUNCHER_HOME")
    elif configuration.home is not None:
        yield Value(name="home", value=home, source=Source.FILE, where=configuration.place("home"))
    else:
        yield Value(name="home", value=home)
    for table, words in (
        ("subsets", configuration.subsets),
        ("modifiers", configuration.modifiers),
    ):
        for word, folders in words.items():
            where = configuration.place(table, word)
            name, value = f"{table}.{word}", list[Json](folders)
            yield Value(name=name, value=value, source=Source.FILE, where=where)


def _sharing(configuration: Configuration) -> Iterator[Value]:
    """Give how the GPUs are shared, as the file says it or as is built in."""
    from_file = {
        key[1].replace("-", "_")
        for key in configuration.lines
        if key[:1] == ("sharing",) and key[1:]
    }
    rules = configuration.rules or Rules()
    values: dict[str, Json] = {
        "reserve": format_bytes(rules.reserve),
        "max_per_gpu": rules.max_per_gpu,
        "idle": format_seconds(rules.idle_s),
        "devices": None if rules.devices is None else [*rules.devices],
    }
    for key, value in values.items():
        if key in from_file:
            where = configuration.place("sharing", key)
            yield Value(name=f"sharing.{key}", value=value, source=Source.FILE, where=where)
        else:
            yield Value(name=f"sharing.{key}", value=value)


def _backends(configuration: Configuration) -> Iterator[Value]:
    """Give what the file says of clusters, and where jobs run that do not say it.

    Raises:
        UsageError: something in these tables is wrong.
    """
    backends = configured_backends(os.environ)
    if configuration.on is not None:
        names: list[Json] = [*backends.default]
        yield Value(name="on", value=names, source=Source.FILE, where=configuration.place("on"))
    tables = configuration.backends if isinstance(configuration.backends, dict) else {}
    for table, entry in tables.items():
        for key, value in entry.items():
            where = configuration.place("backends", table, key)
            name = f"backends.{table}.{key.replace('-', '_')}"
            yield Value(name=name, value=value, source=Source.FILE, where=where)


def _notify(configuration: Configuration, messages: NotifySettings) -> Iterator[Value]:
    """Give what the file says of messages; of an address only that there is one."""
    targets = {target.name: target for target in messages.targets}
    table = configuration.notify if isinstance(configuration.notify, dict) else {}
    for key, value in table.items():
        if key not in targets:
            where = configuration.place("notify", key)
            name = f"notify.{key.replace('-', '_')}"
            yield Value(name=name, value=value, source=Source.FILE, where=where)
            continue
        for below, each in value.items():
            shown_value = shown(targets[key]) if below == "url" else each
            where = configuration.place("notify", key, below)
            name = f"notify.{key}.{below.replace('-', '_')}"
            yield Value(name=name, value=shown_value, source=Source.FILE, where=where)


def _options(
    configuration: Configuration, environ: Mapping[str, str], *, everything: bool
) -> Iterator[Value]:
    """Give the options that are set; with `everything` also the others.

    Raises:
        UsageError: the file names an option that its verb lacks, or a value that it does not take.
    """
    faults: list[Fault] = []
    values: list[Value] = []
    for name in VERBS:
        verb = verb_of(name)
        table = configuration.options.get(name, {})
        from_file = defaults(verb, (name,), table, faults)
        values += _of_verb(verb, (name,), from_file, configuration, environ)
    configuration.refuse(faults)
    yield from (value for value in values if everything or value.source is not Source.DEFAULT)


def _of_verb(
    verb: click.Command,
    keys: tuple[str, ...],
    from_file: Mapping[str, Any],
    configuration: Configuration,
    environ: Mapping[str, str],
) -> Iterator[Value]:
    for key, option in options_of(verb).items():
        parameter = option.name or ""
        variable = "_".join((PREFIX, *keys, parameter)).upper().replace("-", "_")
        name = ".".join((*keys, key))
        if environ.get(variable):
            yield Value(
                name=name, value=environ[variable], source=Source.ENVIRONMENT, where=variable
            )
        elif parameter in from_file:
            where = configuration.place(*keys, key)
            yield Value(name=name, value=from_file[parameter], source=Source.FILE, where=where)
        else:
            yield Value(name=name, value=_built_in(option))
    for below, subcommand in verb.commands.items() if isinstance(verb, click.Group) else ():
        yield from _of_verb(
            subcommand, (*keys, below), from_file.get(below, {}), configuration, environ
        )


def _built_in(option: click.Option) -> Json:
    if isinstance(option, TextDefaultOption):
        text = option.text_default
        return int(text) if text.isdecimal() else text or None
    value = option.to_info_dict()["default"]
    return value if isinstance(value, bool | int | float | str) else None
