"""The verbs about the file config.toml: defaults with their sources, message targets and waiting messages."""

import json
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from typing import Any, NamedTuple

import click

from launcher.frontends.cli.help_pages import launcher_command
from launcher.frontends.cli.main import defaults, options_of, variable_of
from launcher.frontends.cli.main import verb as verb_of
from launcher.frontends.cli.option_types import TextDefaultOption, flag, json_option
from launcher.frontends.cli.verb_table import VERBS
from launcher.frontends.notify.addresses import describe_target
from launcher.frontends.notify.messages import make_trial_message
from launcher.frontends.notify.notices import NotificationState, read_notification_state
from launcher.frontends.notify.sending import DeliveryResult, deliver
from launcher.frontends.notify.settings import NotifySettings, NotifyTarget, read_configured_notify
from launcher.frontends.screens.command_output import CommandOutput, print_output
from launcher.queue.backends.settings import read_configured_backends
from launcher.queue.home.paths import find_home
from launcher.queue.texts import time_of_day
from launcher.system.config import Configuration, read_configuration
from launcher.system.config_tables import Fault
from launcher.system.errors import MachineError, UsageError, pluralize
from launcher.system.files import Json
from launcher.system.gpu_sharing import SHARING
from launcher.system.locks import lock_holder
from launcher.system.log_setting import LOG_LIMIT
from launcher.system.snapshot_setting import SNAPSHOT_FILE_LIMIT
from launcher.system.terminal import print_stderr
from launcher.system.text import sanitize_terminal
from launcher.system.text_table import TextLine, TextTable, line, table_of_texts, text_columns
from launcher.system.units import format_bytes, format_seconds

NO_TARGETS = (
    "no message is sent. Add a table [notify.NAME] to config.toml (launcher help messages)."
)
_NO_PROCESS = "not running; the scheduler starts it with the next job"
LEAST_VALUE = 16  # columns to which the values shrink on a narrow screen
Keys = tuple[str, ...]


class ValueSource(StrEnum):
    """The source of a value; the command line, which overrides all sources, is not included."""

    ENVIRONMENT = "environment"
    FILE = "file"
    DEFAULT = "default"


class ConfigValue(NamedTuple):
    """One default, and where it comes from."""

    name: str
    value: Json
    source: ValueSource = ValueSource.DEFAULT
    where: str = ""  # the variable, or file and line

    def cells(self) -> tuple[str, ...]:
        """Return the value as a line: name, value, where it comes from."""
        value = self.value if isinstance(self.value, str) else json.dumps(self.value)
        return self.name, sanitize_terminal(value), sanitize_terminal(self.where or self.source)

    def to_json(self) -> dict[str, Json]:
        """Return the value for JSON."""
        return {
            "name": self.name,
            "value": self.value,
            "source": self.source,
            "where": self.where or None,
        }


@launcher_command(
    heading="Reference",
    place=40,
    other_names={"": "settings preferences"},
)
@flag("--all", "everything", help="Also list every option of every command.")
@json_option
def command(everything: bool, as_json: bool) -> None:
    """Print your defaults and where each is set.

    A value is taken from the first of these places that sets it: the command line, an environment variable
    (LAUNCHER_HOME, LAUNCHER_RUN_DETACH, …), config.toml, the built-in default.

    LAUNCHER_CONFIG sets the path of config.toml. Default: $XDG_CONFIG_HOME/launcher/config.toml.

    In a pipe, tab-separated: name, value, place.

    \b
    Examples:
      launcher config
      launcher config --all --json
    """
    configuration = read_configuration(os.environ, VERBS)
    messages = read_configured_notify(os.environ) or NotifySettings()
    values = [
        _home(configuration),
        _log_limit(configuration),
        _snapshot_file_limit(configuration),
        *_word_values(configuration),
        *_read_sharing(configuration),
        *_backends(configuration),
        *_notify(configuration, messages),
        *_options(configuration, everything=everything),
    ]
    file, exists = str(configuration.file), configuration.exists

    name, content, origin = text_columns("NAME", "VALUE", "SET IN")
    # a long value is cut, and not the place where it is set
    columns = (name, content._replace(least=LEAST_VALUE), origin)
    table = TextTable(columns, [value.cells() for value in values])

    def draw_lines(width: int) -> list[TextLine]:
        head = f"file: {sanitize_terminal(file)}{'' if exists else ' (does not exist)'}"
        return [line(head), *(row.truncate(width) for row in table.to_lines(width))]

    answer = CommandOutput(
        record=lambda: {
            "file": file,
            "exists": exists,
            "values": [value.to_json() for value in values],
        },
        tables=lambda: [table],
        draw_lines=draw_lines,
    )
    print_output(answer, as_json=as_json)


def _value_from_file(
    configuration: Configuration, value: Json, *keys: str, name: str = ""
) -> ConfigValue:
    """Return what the file sets, by default under the name that its keys make."""
    return ConfigValue(name or ".".join(keys), value, ValueSource.FILE, configuration.place(*keys))


def _home(configuration: Configuration) -> ConfigValue:
    home = str(find_home(os.environ).folder)
    if os.environ.get("LAUNCHER_HOME"):
        return ConfigValue("home", home, ValueSource.ENVIRONMENT, "LAUNCHER_HOME")
    if configuration.home is not None:
        return _value_from_file(configuration, home, "home")
    return ConfigValue("home", home)


def _log_limit(configuration: Configuration) -> ConfigValue:
    limit = configuration.read(LOG_LIMIT)
    return _size(configuration, LOG_LIMIT.key, format_bytes(limit) if limit else "none")


def _snapshot_file_limit(configuration: Configuration) -> ConfigValue:
    limit = configuration.read(SNAPSHOT_FILE_LIMIT)
    return _size(configuration, SNAPSHOT_FILE_LIMIT.key, format_bytes(limit))


def _size(configuration: Configuration, key: str, value: str) -> ConfigValue:
    if key in configuration.tables:
        return _value_from_file(configuration, value, key)
    return ConfigValue(key, value)


def _word_values(configuration: Configuration) -> Iterator[ConfigValue]:
    tables = {"subsets": configuration.subsets, "modifiers": configuration.modifiers}
    for table, words in tables.items():
        for word, folders in words.items():
            yield _value_from_file(configuration, list[Json](folders), table, word)


def _read_sharing(configuration: Configuration) -> Iterator[ConfigValue]:
    """Give how the GPUs are shared, as the file says it or as is built in."""
    rules = configuration.read(SHARING)
    values: dict[str, Json] = {
        "reserve": format_bytes(rules.reserve),
        "max_per_gpu": rules.max_per_gpu,
        "adaptive": rules.adaptive,
        "unknown": rules.unknown,
        "idle": format_seconds(rules.idle_s),
        "devices": None if rules.devices is None else [*rules.devices],
    }
    for key, value in values.items():
        if {("sharing", key), ("sharing", key.replace("_", "-"))} & {*configuration.lines}:
            yield _value_from_file(configuration, value, "sharing", key)
        else:
            yield ConfigValue(f"sharing.{key}", value)


def _backends(configuration: Configuration) -> Iterator[ConfigValue]:
    """Give what the file says of clusters, and where jobs run that do not say it.

    Raises:
        UsageError: something in these tables is wrong.
    """
    backends = read_configured_backends(os.environ)
    if "on" in configuration.tables:
        yield _value_from_file(configuration, [*backends.default], "on")
    yield from _tables(configuration, "backends")


def _notify(configuration: Configuration, messages: NotifySettings) -> Iterator[ConfigValue]:
    """Give what the file says of messages; of an address only that there is one."""
    addresses = {
        f"notify.{target.name}.url": describe_target(target) for target in messages.targets
    }
    for value in _tables(configuration, "notify"):
        yield value._replace(value=addresses.get(value.name, value.value))


def _tables(configuration: Configuration, table: str) -> Iterator[ConfigValue]:
    """Yield the values of a table and its nested tables."""
    content = configuration.tables.get(table)
    for key, value in content.items() if isinstance(content, dict) else ():
        if isinstance(value, dict):
            for below, each in value.items():
                name = f"{table}.{key}.{below.replace('-', '_')}"
                yield _value_from_file(configuration, each, table, key, below, name=name)
        else:
            yield _value_from_file(
                configuration, value, table, key, name=f"{table}.{key.replace('-', '_')}"
            )


def _options(configuration: Configuration, *, everything: bool) -> Iterator[ConfigValue]:
    """Give the options that are set; with `everything` also the others.

    Raises:
        UsageError: the file names an option that its verb lacks, or a value that it does not take.
    """
    faults: list[Fault] = []
    values: list[ConfigValue] = []
    for name in VERBS:
        verb = verb_of(name)
        from_file = defaults(verb, (name,), configuration.options.get(name, {}), faults)
        values += _option_values(verb, (name,), from_file, configuration)
    configuration.refuse(faults)
    yield from (value for value in values if everything or value.source is not ValueSource.DEFAULT)


def _option_values(
    verb: click.Command, keys: Keys, from_file: Mapping[str, Any], configuration: Configuration
) -> Iterator[ConfigValue]:
    for key, option in options_of(verb).items():
        parameter = option.name or ""
        variable = variable_of(keys, key)
        if value := os.environ.get(variable):
            yield ConfigValue(".".join((*keys, key)), value, ValueSource.ENVIRONMENT, variable)
        elif parameter in from_file:
            yield _value_from_file(configuration, from_file[parameter], *keys, key)
        else:
            yield ConfigValue(".".join((*keys, key)), _built_in(option))
    for below, subcommand in verb.commands.items() if isinstance(verb, click.Group) else ():
        yield from _option_values(
            subcommand, (*keys, below), from_file.get(below, {}), configuration
        )


def _built_in(option: click.Option) -> Json:
    if isinstance(option, TextDefaultOption):
        text = option.text_default
        return int(text) if text.isdecimal() else text or None
    value = option.to_info_dict()["default"]
    return value if isinstance(value, bool | int | float | str) else None


# --- messages


@launcher_command(
    heading="Watch",
    place=70,
    summary="List message targets and send a test message.",
)
@flag("--test", help="Send a test message to every target. Exits with 3 if one fails.")
@json_option
def notify(test: bool, as_json: bool) -> int:
    """List message targets, and messages that wait to be sent.

    Targets are the [notify.NAME] tables of config.toml.

    In a pipe, one tab-separated line per target and message:

    \b
    target    name, address, events
    waiting   name, title, answer
    given up  name, title, reason

    \b
    Examples:
      launcher notify
      launcher notify --test
    """
    settings = read_configured_notify(os.environ)
    if test:
        return _send_test(settings, as_json=as_json)
    home = find_home(os.environ)
    known = settings or NotifySettings()
    notices, process = read_notification_state(home), lock_holder(home.notify_lock)
    targets = [
        (target.name, describe_target(target), known.target_events(target))
        for target in known.targets
    ]

    def draw_lines(_: int) -> list[TextLine]:
        lines = [line(NO_TARGETS)]
        if settings is not None:
            rows = [(name, to, ", ".join(events)) for name, to, events in targets]
            is_there = f"process: pid {process}" if process else f"process: {_NO_PROCESS}"
            lines = [
                *table_of_texts(("TARGET", "ADDRESS", "EVENTS"), rows).to_lines(),
                line(is_there),
            ]
        return [*lines, *(line(sanitize_terminal(text)) for text in _unsent_lines(notices))]

    answer = CommandOutput(
        record=lambda: {
            "configured": settings is not None,
            "process": process,
            "targets": [
                {"name": name, "to": to, "events": [*events]} for name, to, events in targets
            ],
            **_record(notices),
        },
        rows=lambda: [
            *(("target", name, to, ",".join(events)) for name, to, events in targets),
            *(("waiting", name, each.title, each.answer) for name, each in notices.failing.items()),
            *(("given up", each.target, each.title, each.why) for each in notices.given_up),
        ],
        draw_lines=draw_lines,
    )
    print_output(answer, as_json=as_json)
    if not (targets or as_json or sys.stdout.isatty()):  # standard output is empty
        print_stderr(NO_TARGETS)
    return 0


def _send_test(settings: NotifySettings | None, *, as_json: bool) -> int:
    if settings is None or not settings.targets:
        raise UsageError(NO_TARGETS)
    host = socket.gethostname()

    def send_test(target: NotifyTarget) -> DeliveryResult:
        return deliver(target, make_trial_message(target.name, host), os.environ)

    with ThreadPoolExecutor(max_workers=len(settings.targets)) as threads:
        names = [target.name for target in settings.targets]
        tries = [*zip(names, threads.map(send_test, settings.targets), strict=True)]
    rows = [(name, "sent" if each.delivered else "failed", each.text) for name, each in tries]
    answer = CommandOutput(
        record=lambda: {
            "results": [
                {"target": name, "sent": each.delivered, "answer": each.text}
                for name, each in tries
            ]
        },
        tables=lambda: [TextTable(text_columns("", "", ""), rows)],
    )
    print_output(answer, as_json=as_json)
    return 0 if all(each.delivered for _, each in tries) else MachineError.exit_code


def _record(notices: NotificationState) -> dict[str, Json]:
    return {
        "waiting": [
            {
                "target": name,
                "title": each.title,
                "at": each.at,
                "tries": each.tries,
                "answer": each.answer,
            }
            for name, each in notices.failing.items()
        ],
        "given_up": [
            {"target": each.target, "title": each.title, "at": each.at, "answer": each.why}
            for each in notices.given_up
        ],
    }


def _unsent_lines(notices: NotificationState) -> Iterator[str]:
    """Give the messages that wait, and those that were given up."""
    if notices.failing:
        yield ""
        yield f"{pluralize(len(notices.failing), 'message')} waiting to be sent:"
    for name, failing in notices.failing.items():
        tries = f"tried {pluralize(failing.tries, 'time')}: {failing.answer}"
        yield f"  {time_of_day(failing.at)}  {name}: {failing.title}; {tries}"
    for each in notices.given_up:
        yield f"  {time_of_day(each.at)}  not sent to {each.target}: {each.title}; {each.why}"
