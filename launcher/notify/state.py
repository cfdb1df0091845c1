"""What the process that sends messages knows, in one file: up to which event it has read, and what is to be sent.

Both are in one file, which is replaced as a whole: an event is read once, however often the process dies, and
no message of it is lost. One that was sent just before a death is sent again.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from launcher.job_options.notifications import (
    AS_CONFIGURED,
    Event,
    RunNotify,
    recorded_run_notify,
)
from launcher.states import State
from launcher.system.files import Json, read_json, write_json
from launcher.system.paths import Home

SCHEMA = 1
MOST_GIVEN_UP = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A thing that happened and is worth telling."""

    events: tuple[Event, ...]
    at: float
    text: str
    job: int | None = None
    name: str = ""  # of the job


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """Notes that make one message."""

    notes: tuple[Note, ...] = ()
    more: int = 0  # jobs that ran out of memory beside those of the notes
    opened: float = 0.0  # when the first of them came


@dataclass(frozen=True, slots=True, kw_only=True)
class RunWatch:
    """A run that goes on, or has just ended."""

    id: int
    name: str
    root: str
    since: float  # when it began, or began again
    notify: RunNotify = AS_CONFIGURED
    open: int = 0  # jobs that have not ended
    totals: Mapping[State, int] = field(default_factory=dict)  # of all its jobs
    failed: int = 0  # jobs that failed since it began
    ended: float | None = None  # when the last of its jobs had
    bundle: Bundle = field(default_factory=Bundle)
    messages: int = 0  # that told of it since it began


@dataclass(frozen=True, slots=True, kw_only=True)
class Idle:
    """Which GPUs idle while work waits."""

    boot: str = ""  # during which the times mean something
    since: Mapping[str, float] = field(default_factory=dict)  # UUID → s since that boot
    mentioned: tuple[str, ...] = ()  # UUIDs of which a message told already


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A message to one target."""

    id: str
    target: str
    at: float
    events: tuple[Event, ...]
    title: str
    text: str
    facts: Mapping[str, str] = field(default_factory=dict)  # variables of a command
    quiet: bool = False  # it came in quiet hours
    tries: int = 0
    tried: float | None = None  # when it was first
    next: float = 0.0  # not before
    answer: str = ""  # of the last try


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenUp:
    """A message that was not sent."""

    at: float
    target: str
    title: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Notices:
    """All of it."""

    cursor: int | None = None  # the last event that was read; None: never any
    runs: Mapping[int, RunWatch] = field(default_factory=dict)
    machine: Bundle = field(default_factory=Bundle)
    faults: Mapping[str, str] = field(default_factory=dict)  # UUID → what a message told of
    idle: Idle = field(default_factory=Idle)
    outbox: tuple[Delivery, ...] = ()
    given_up: tuple[GivenUp, ...] = ()

    @property
    def pending(self) -> bool:
        """Whether something is still to be sent."""
        bundles = (self.machine, *(run.bundle for run in self.runs.values()))
        ended = any(run.ended is not None for run in self.runs.values())
        return bool(self.outbox or ended or any(bundle.notes for bundle in bundles))


def write_notices(home: Home, notices: Notices) -> None:
    """Replace the file.

    Raises:
        OSError: the disk is full; the old one is still there.
    """
    record: dict[str, Json] = asdict(notices)
    record["runs"] = [asdict(run) for run in notices.runs.values()]
    write_json(home.notify, {"schema": SCHEMA, **record}, mode=0o600)


def read_notices(home: Home) -> Notices:
    """Return what the file says; nothing where there is none, or it cannot be understood."""
    record: Any = read_json(home.notify)
    if record is None or record.get("schema") != SCHEMA:
        return Notices()
    try:
        return _notices(record)
    except (KeyError, TypeError, ValueError, AttributeError):
        return Notices()


def _notices(record: Any) -> Notices:
    cursor = record["cursor"]
    runs = map(_run, record["runs"])
    return Notices(
        cursor=None if cursor is None else int(cursor),
        runs={run.id: run for run in runs},
        machine=_bundle(record["machine"]),
        faults={str(uuid): str(fault) for uuid, fault in record["faults"].items()},
        idle=Idle(**{**record["idle"], "mentioned": tuple(record["idle"]["mentioned"])}),
        outbox=tuple(_delivery(each) for each in record["outbox"]),
        given_up=tuple(GivenUp(**each) for each in record["given_up"]),
    )


def _run(record: Any) -> RunWatch:
    return RunWatch(
        **{
            **record,
            "notify": recorded_run_notify(record["notify"]),
            "totals": {State(state): int(n) for state, n in record["totals"].items()},
            "bundle": _bundle(record["bundle"]),
        }
    )


def _bundle(record: Any) -> Bundle:
    notes = tuple(Note(**{**note, "events": _events(note)}) for note in record["notes"])
    return Bundle(**{**record, "notes": notes})


def _delivery(record: Any) -> Delivery:
    return Delivery(**{**record, "events": _events(record)})


def _events(record: Any) -> tuple[Event, ...]:
    return tuple(Event(word) for word in record["events"])
