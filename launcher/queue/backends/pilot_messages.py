"""The messages between the scheduler and a pilot: commands to it and messages from it, one JSON line each."""

import contextlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from launcher.queue.gpu.snapshot import GpuSnapshot, gpu_record, read_gpu
from launcher.queue.jobs.states import Outcome, outcome_record, read_outcome
from launcher.system.stored_fields import read_texts, restore_known_fields

LONGEST_LINE_BYTES = (
    4096  # bytes that are written at once; a longer outcome is read from the attempt's folder
)
_NO_GPU = gpu_record(GpuSnapshot(uuid="\0", index=-1, name="\0", total=-1, used=-1))
_LARGEST_NUMBER = 1 << 60


# --- commands: scheduler to pilot


class StartAttempt(NamedTuple):
    """Start an attempt, whose specification is in its folder."""

    attempt: str  # name of the attempt's folder below attempts/


class StopAttempt(NamedTuple):
    """End an attempt: SIGTERM, and SIGKILL after the job's grace."""

    attempt: str


class KillAttempt(NamedTuple):
    """Kill an attempt without a grace period."""

    attempt: str


class RenewLease(NamedTuple):
    """The scheduler has read the heartbeat of this number. The pilot's lease runs from the time when it sent that."""

    beat: int


class Drain(NamedTuple):
    """Accept no more attempts, and end when nothing runs."""

    now: bool = False  # end running attempts, too: trainings save and continue elsewhere


PilotCommand = StartAttempt | StopAttempt | KillAttempt | RenewLease | Drain


# --- messages: pilot to scheduler


class Registered(NamedTuple):
    """The pilot is up. The message lists its resources, and the paths that it does not see."""

    version: str  # version of launcher
    python: str  # interpreter of the pilot
    host: str  # the node's name for itself
    pid: int
    boot: str  # the node's boot ID
    cpus: int  # cores that the pilot may keep busy
    ram: int  # bytes of main memory that the pilot may fill
    node: str = ""  # the engine's name for the node; '' if unknown
    job: str = ""  # the engine's number of the pilot, for display only: it may be reused
    began: float | None = None  # seconds since 1970 when the pilot began; None: not known
    until: float | None = None  # seconds since 1970 when the engine ends the pilot; None: not known
    limited: bool = False  # the engine knows when the pilot ends, and did not report that
    # why it cannot work: a path that the node does not see, a version
    troubles: tuple[str, ...] = ()
    gpus: tuple[GpuSnapshot, ...] = ()


class Heartbeat(NamedTuple):
    """The pilot lives."""

    number: int  # from 1
    ram_free: int = 0  # bytes of main memory
    gpus: tuple[GpuSnapshot, ...] = ()  # present GPUs, without their processes
    # attempt → UUID → bytes that its processes hold there, if the driver reports them
    used: Mapping[str, Mapping[str, int]] = {}


class AttemptStarted(NamedTuple):
    """A supervisor has taken over an attempt."""

    attempt: str


class AttemptFinished(NamedTuple):
    """An attempt has ended, and none of its processes lives."""

    attempt: str
    outcome: Outcome | None = None  # None: its folder contains it


class Draining(NamedTuple):
    """The pilot accepts no more attempts. Running ones finish, or were ordered to end."""

    why: str
    signal: str = ""  # signal that the pilot received: its engine is about to end it


class Deregistered(NamedTuple):
    """The pilot leaves. Attempts that still ran were ordered to end."""

    why: str


PilotMessage = Registered | Heartbeat | AttemptStarted | AttemptFinished | Draining | Deregistered


# the words of messages: pilots of other versions read them
_COMMAND_TYPES: Mapping[str, type[PilotCommand]] = {
    "run": StartAttempt,
    "stop": StopAttempt,
    "kill": KillAttempt,
    "lease": RenewLease,
    "leave": Drain,
}


_MESSAGE_TYPES: Mapping[str, type[PilotMessage]] = {
    "hello": Registered,
    "beat": Heartbeat,
    "began": AttemptStarted,
    "ended": AttemptFinished,
    "leaving": Draining,
    "bye": Deregistered,
}


_WORDS: Mapping[type[PilotCommand | PilotMessage], str] = {
    message: word for words in (_COMMAND_TYPES, _MESSAGE_TYPES) for word, message in words.items()
}


def encode_command(command: PilotCommand) -> bytes:
    """Return a command as a line."""
    return _line(command, command._asdict())


def encode_message(message: PilotMessage) -> bytes:
    """Return a message as a line. An outcome that is too long for a line is omitted, as the folder has it."""
    match message:
        case AttemptFinished(attempt=attempt, outcome=outcome) if outcome is not None:
            line = _line(message, {"attempt": attempt, "outcome": outcome_record(outcome)})
            return (
                line
                if len(line) <= LONGEST_LINE_BYTES
                else encode_message(AttemptFinished(attempt=attempt))
            )
        case AttemptFinished(attempt=attempt):
            return _line(message, {"attempt": attempt})
        case Registered() | Heartbeat():
            gpus = [_gpu_record_without_defaults(gpu) for gpu in message.gpus]
            return _line(message, {**message._replace(gpus=())._asdict(), "gpus": gpus})
    return _line(message, message._asdict())


def decode_command(line: bytes) -> PilotCommand | None:
    """Return the order of a line; None where it is none that we know."""
    order: PilotCommand | None = _decode(line, _COMMAND_TYPES)
    return order


def decode_message(line: bytes) -> PilotMessage | None:
    """Return the news of a line; None where it is none that we know."""
    news: PilotMessage | None = _decode(line, _MESSAGE_TYPES)
    return news


def _line(message: PilotCommand | PilotMessage, record: Mapping[str, Any]) -> bytes:
    said = {"say": _WORDS[type(message)], **record}
    return json.dumps(said, separators=(",", ":")).encode() + b"\n"


def _gpu_record_without_defaults(gpu: GpuSnapshot) -> dict[str, Any]:
    """Return a GPU without what has its default, and without its processes: a line is to be short."""
    record = gpu_record(replace(gpu, processes=None))
    return {name: value for name, value in record.items() if value != _NO_GPU[name]}


def _decode(line: bytes, kinds: Mapping[str, type[PilotCommand | PilotMessage]]) -> Any:
    try:
        record = json.loads(line)
        kind = kinds[record.pop("say")]
        for name in _FIELD_READERS.keys() & record.keys():
            record[name] = _FIELD_READERS[name](record[name])
        # a message counts, whatever another version says beside it
        message = restore_known_fields(kind, record, "a message")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    numbers = [value for value in message if isinstance(value, int | float)]
    return message if all(0 <= number < _LARGEST_NUMBER for number in numbers) else None


def _read_gpus(entries: Any) -> tuple[GpuSnapshot, ...]:
    """Return the GPUs of a message. One that cannot be parsed is omitted, and the rest of the message counts."""
    gpus = []
    for item in entries:
        with contextlib.suppress(ValueError):
            gpus.append(read_gpu(item))
    return tuple(gpus)


def _read_usage(record: Any) -> dict[str, dict[str, int]]:
    return {
        str(attempt): {
            str(uuid): amount
            for uuid, amount in by_gpu.items()
            if type(amount) is int and 0 <= amount < _LARGEST_NUMBER
        }
        for attempt, by_gpu in dict(record).items()
    }


# readers of the fields that are more than a text, a number or a switch
_FIELD_READERS: Mapping[str, Callable[[Any], Any]] = {
    "troubles": lambda value: read_texts(value, "troubles"),
    "gpus": _read_gpus,
    "used": _read_usage,
    "outcome": lambda value: read_outcome(value) if isinstance(value, dict) else None,
}
