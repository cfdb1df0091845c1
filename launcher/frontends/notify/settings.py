"""The table [notify] of config.toml: the targets of messages, and their events.

[notify]
events = ["run-ended", "first-failure"]   # default: all
retry = "24h"                             # time during which a message is retried

[notify.mail]                             # a target; the name is yours
url_file = "~/.config/launcher/mail.url"  # or url, or url_env

[notify.desk]
command = ["notify-send", "launcher"]
events = ["out-of-memory"]                # events of this target

The addresses of targets contain secrets, which are redacted in texts.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from launcher.queue.job_options.notifications import NotifyEvent, RunNotify, read_events
from launcher.system.config import read_configuration
from launcher.system.config_tables import Fault, absolute_path, read_keys
from launcher.system.errors import UsageError
from launcher.system.lazy_regex import compile_lazily
from launcher.system.units import parse_seconds

TABLE = "notify"
LONGEST_S = 7 * 86_400.0

_NAME = compile_lazily(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


class NotifyTarget(NamedTuple):
    """A target of messages: a service of apprise, or a command. Exactly one of the first four fields is set."""

    name: str
    url: str = ""  # contains secrets
    url_file: Path | None = None  # a file with such a URL as the only line
    url_env: str = ""  # an environment variable with such a URL
    command: tuple[str, ...] = ()
    events: tuple[NotifyEvent, ...] | None = None  # None: those of [notify]
    timeout_s: float = 30.0


class NotifySettings(NamedTuple):
    """The settings of the table."""

    events: tuple[NotifyEvent, ...] = tuple(NotifyEvent)
    retry_s: float = 86_400.0  # seconds during which a message is retried
    targets: tuple[NotifyTarget, ...] = ()

    def target_events(self, target: NotifyTarget) -> tuple[NotifyEvent, ...]:
        """Return the events of a target."""
        return self.events if target.events is None else target.events

    def events_for_run(self, target: NotifyTarget, notify: RunNotify) -> tuple[NotifyEvent, ...]:
        """Return the events of a run that a target receives.

        Args:
            target: Target of messages.
            notify: Settings of the run; its events apply to every target that it selects.
        """
        if notify.to is not None and target.name not in notify.to:
            return ()
        return self.target_events(target) if notify.events is None else notify.events


def read_configured_notify(environ: Mapping[str, str]) -> NotifySettings | None:
    """Return the notification settings of the user's file, None if it has none.

    Raises:
        UsageError: the file cannot be read, or the table is invalid; reports all faults together.
    """
    configuration = read_configuration(environ)
    if TABLE not in configuration.tables:
        return None
    faults: list[Fault] = []
    settings = read_notify_table(configuration.tables[TABLE], faults)
    configuration.refuse(faults)
    return settings


def read_notify_table(table: object, faults: list[Fault]) -> NotifySettings:
    """Return the settings of the table.

    Args:
        table: Table as read from the file.
        faults: List to which faults are added.
    """
    if not isinstance(table, dict):
        faults.append(((TABLE,), f"{TABLE}: expected a table, such as [{TABLE}]"))
        return NotifySettings()
    tables = {name: entry for name, entry in table.items() if isinstance(entry, dict)}
    targets = [_target(name, entry, faults) for name, entry in tables.items()]
    own = {key: value for key, value in table.items() if key not in tables}
    values = _values((TABLE,), own, _KEYS, faults)
    if not tables:
        faults.append(((TABLE,), f"{TABLE}: no target. Add one, such as [{TABLE}.mail]."))
    return NotifySettings(**values, targets=tuple(filter(None, targets)))


def _target(name: str, entry: Mapping[str, Any], faults: list[Fault]) -> NotifyTarget | None:
    before = len(faults)
    if not _NAME.fullmatch(name):
        message = f"{name!r} is not a valid name of a target. Use letters, digits, - and _."
        faults.append(((TABLE, name), message))
    values = _values((TABLE, name), entry, _TARGET_KEYS, faults)
    ways = [key for key in _ADDRESS_KEYS if key in {each.replace("-", "_") for each in entry}]
    if len(ways) != 1:
        listed = ", ".join(_ADDRESS_KEYS)
        which = f"has {' and '.join(ways)}" if ways else "has neither an address nor a command"
        faults.append(((TABLE, name), f"{TABLE}.{name} {which}: expected one of {listed}"))
    return NotifyTarget(name=name, **values) if len(faults) == before else None


def _values(
    place: tuple[str, ...],
    entry: Mapping[str, Any],
    keys: Mapping[str, tuple[str, Callable[[Any], Any]]],
    faults: list[Fault],
) -> dict[str, Any]:
    """Return the values of a table by field."""
    hint = f" (a target is a table, [{TABLE}.{{}}])" if keys is _KEYS else ""
    read = read_keys(place, entry, keys, faults, hint)
    return {f"{key}_s" if keys[key][1] is _span else key: value for key, value in read.items()}


def _text(value: object, otherwise: str = "") -> str:
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise UsageError(otherwise)
    return value.strip()


def _make_pattern_reader(pattern: str) -> Callable[[object], str]:
    """Return a reader of texts that contain a pattern."""

    def read(value: object) -> str:
        text = _text(value)
        if not re.search(pattern, text):
            raise UsageError
        return text

    return read


def _file(value: object) -> Path:
    expected = "expected the absolute path of a file that contains such an address"
    return absolute_path("url_file", _text(value, expected))


def _command(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not value[0]:
        raise UsageError
    if not all(isinstance(word, str) and "\0" not in word for word in value):
        raise UsageError
    return tuple(value)


def _span(value: object) -> float:
    seconds = parse_seconds(_text(value))
    if not 0 < seconds <= LONGEST_S:
        raise UsageError
    return seconds


# key → the expected form ('' if its reader's error contains it) and its reader; the field of a time ends with _s
_KEYS: Mapping[str, tuple[str, Callable[[Any], Any]]] = {
    "events": ("", read_events),
    "retry": ('a time, such as "24h"', _span),
}
_TARGET_KEYS: Mapping[str, tuple[str, Callable[[Any], Any]]] = {
    "url": ('an address of apprise, such as "ntfy://my-topic"', _make_pattern_reader("://")),
    "url_file": ("", _file),
    "url_env": (
        "the name of an environment variable that contains such an address",
        _make_pattern_reader(r"\A[A-Za-z_][A-Za-z0-9_]*\Z"),
    ),
    "command": ('a list of words, such as ["notify-send", "launcher"]', _command),
    "events": ("", read_events),
    "timeout": ('a time, such as "30s"', _span),
}
_ADDRESS_KEYS = ("url", "url_file", "url_env", "command")
