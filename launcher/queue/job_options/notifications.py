"""The events that are reported to the owner of a queue, and the settings of a run in the word `notify`."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from launcher.system.errors import UsageError, suggestion_or_known_names
from launcher.system.files import Json


class NotifyEvent(StrEnum):
    """An event that is reported by a message."""

    RUN_ENDED = "run-ended"
    FIRST_FAILURE = "first-failure"  # first failure of a run since its last end
    OUT_OF_MEMORY = "out-of-memory"  # first job out of memory that is not retried
    JOBS_HELD = "jobs-held"  # jobs were held because others of their command failed


EXPECTED_NOTIFY = (
    f"true, false, events ({', '.join(NotifyEvent)}), or a mapping such as "
    "{events: [run-ended], to: [mail]}"
)


class RunNotify(NamedTuple):
    """The notification settings of a run; None stands for the settings in `[notify]` of config.toml."""

    events: tuple[NotifyEvent, ...] | None = None
    to: tuple[str, ...] | None = None  # names of targets

    def to_json(self) -> dict[str, Json]:
        """Return the settings as stored in the queue."""
        return {
            "events": None if self.events is None else [*self.events],
            "to": None if self.to is None else [*self.to],
        }


AS_CONFIGURED = RunNotify()


def read_run_notify(value: object) -> RunNotify:
    """Return the settings of the word `notify` in a task file.

    Args:
        value: Value as read from YAML.

    Raises:
        UsageError: the value is invalid; the message contains the expected form.
    """
    match value:
        case bool():
            return RunNotify(events=tuple(NotifyEvent) if value else ())
        case str() | list():
            return RunNotify(events=read_events(value))
        case dict() if value and value.keys() <= {"events", "to"}:
            events = value.get("events")
            return RunNotify(
                events=None if events is None else read_events(events),
                to=_names(value.get("to")),
            )
    raise UsageError(f"expected {EXPECTED_NOTIFY}")


def run_notify_from_record(record: Any) -> RunNotify:  # the record is from JSON
    """Return the settings that `RunNotify.to_json` wrote; unknown values of newer versions are ignored."""
    if not isinstance(record, dict):
        return AS_CONFIGURED
    events, to = record.get("events"), record.get("to")
    words = set(map(str, NotifyEvent))
    return RunNotify(
        events=tuple(NotifyEvent(word) for word in events if word in words)
        if isinstance(events, list)
        else None,
        to=tuple(map(str, to)) if isinstance(to, list) else None,
    )


def read_events(value: object) -> tuple[NotifyEvent, ...]:
    """Return the distinct events of a word or a list of words.

    Args:
        value: Value as written.

    Raises:
        UsageError: a word is not an event.
    """
    words = [value] if isinstance(value, str) else value
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise UsageError(f"expected events such as {NotifyEvent.RUN_ENDED}")
    names = [*map(str, NotifyEvent)]
    for word in words:
        if word not in names:
            raise UsageError(f"{word!r} is not an event{suggestion_or_known_names(word, names)}")
    return tuple(dict.fromkeys(map(NotifyEvent, words)))


def _names(value: object) -> tuple[str, ...] | None:
    if value is None:
        return None
    names: Sequence[object] = (
        [value] if isinstance(value, str) else value if isinstance(value, list) else ()
    )
    if not names or not all(isinstance(name, str) and name for name in names):
        raise UsageError("to: expected names of targets of [notify] in config.toml, such as [mail]")
    return tuple(dict.fromkeys(map(str, names)))
