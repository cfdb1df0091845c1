"""What scheduler and pilot say to each other: orders one way, news the other way, a JSON line each, in a file each.

Every message may be read twice, as a scheduler that starts anew reads from the beginning; none may be missed. A line
that is not understood is skipped: a newer launcher may have written it. Each file has one writer, who appends, and is
read from where it was left. NFS promises only that who opens a file after another has closed it sees what was written.
So every append opens, writes and closes, and every look opens, reads and closes; new names are avoided, as a node may
miss them for 30 s.
"""

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from launcher.gpu.snapshot import GpuSnapshot, read_gpu
from launcher.states import Outcome, outcome_record, read_outcome
from launcher.system.files import Json
from launcher.system.stored_fields import Unreadable, restored, texts

Message = TypeVar("Message")

LONGEST_LINE = (
    4096  # bytes that are written at once; a longer outcome is read from the attempt's folder
)


# --- orders: scheduler to pilot


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Start an attempt, whose order lies in its folder."""

    attempt: str  # its folder's name below attempts/


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """End an attempt: SIGTERM, and SIGKILL after the job's grace."""

    attempt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The scheduler has read the beat of this number: the pilot's lease runs from when it sent that."""

    beat: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Leave:
    """Take nothing more, and end when nothing runs."""

    now: bool = False  # end what runs, too: trainings save and go on elsewhere


Order = Run | Stop | Lease | Leave


# --- news: pilot to scheduler


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """The pilot is up: what it has, and what it does not see."""

    version: str  # of launcher
    python: str  # its interpreter
    host: str  # the node's name for itself
    node: str = ""  # the engine's name for the node; '' where it does not say
    job: str = ""  # the engine's number of the pilot, to be shown only: it may be given out again
    pid: int
    boot: str  # the node's boot ID
    cpus: int  # that it may keep busy
    ram: int  # bytes of main memory that it may fill
    began: float | None = None  # seconds since 1970 when it began; None: not known
    until: float | None = None  # likewise when the engine ends it
    limited: bool = False  # the engine has not told it when that will be, and knows
    troubles: tuple[
        str, ...
    ] = ()  # why it can do nothing: a path that the node does not see, a version
    gpus: tuple[GpuSnapshot, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """The pilot lives."""

    number: int  # from 1
    ram_free: int = 0  # bytes of main memory
    gpus: tuple[GpuSnapshot, ...] = ()  # as they are now, without their processes
    # attempt → UUID → bytes that its processes hold there, where the driver tells
    used: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Began:
    """An attempt is in the hands of a supervisor."""

    attempt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """An attempt has ended, and nothing of it lives."""

    attempt: str
    outcome: Outcome | None = None  # None: its folder tells


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaving:
    """The pilot takes no more attempts; what runs there comes to its end, or has been told to end."""

    why: str
    signal: str = ""  # that told it so: its engine is about to end it


@dataclass(frozen=True, slots=True, kw_only=True)
class Bye:
    """The pilot leaves; what still ran has been told to end."""

    why: str


News = Hello | Beat | Began | Ended | Leaving | Bye


def order_line(order: Order) -> bytes:
    """Return an order as a line."""
    return _line(type(order).__name__.lower(), asdict(order))


def news_line(news: News) -> bytes:
    """Return news as a line; an outcome that is too long for one is left out: the folder has it."""
    match news:
        case Ended(attempt=attempt, outcome=outcome):
            record: dict[str, Json] = (
                {} if outcome is None else {"outcome": outcome_record(outcome)}
            )
            line = _line("ended", {"attempt": attempt, **record})
            return line if len(line) <= LONGEST_LINE else _line("ended", {"attempt": attempt})
        case Hello() | Beat():
            return _line(type(news).__name__.lower(), _with_gpus(news))
    return _line(type(news).__name__.lower(), asdict(news))


def read_order(line: bytes) -> Order | None:
    """Return the order of a line; None where it is none that we know."""
    return _read(line, _ORDERS)


def read_news(line: bytes) -> News | None:
    """Return the news of a line; None where it is none that we know."""
    return _read(line, _NEWS)


def _line(what: str, record: Mapping[str, Any]) -> bytes:
    return json.dumps({"say": what, **record}, separators=(",", ":")).encode() + b"\n"


def _with_gpus(news: Hello | Beat) -> dict[str, Any]:
    record = asdict(news)
    record["gpus"] = [_gpu_record(gpu) for gpu in news.gpus]
    return record


def _gpu_record(gpu: GpuSnapshot) -> dict[str, Json]:
    """Return a GPU without what has its default: a line is to be short."""
    plain = _PLAIN_GPU
    record: dict[str, Json] = {"uuid": gpu.uuid, "index": gpu.index, "name": gpu.name}
    record |= {"total": gpu.total, "used": gpu.used}
    for name, value in asdict(gpu).items():
        if name not in record and name != "processes" and value != getattr(plain, name):
            record[name] = value
    return record


_PLAIN_GPU = GpuSnapshot(uuid="", index=0, name="", total=0, used=0)


def _read(
    line: bytes, readers: Mapping[str, Callable[[dict[str, Any]], Message]]
) -> Message | None:
    try:
        record = json.loads(line)
        reader = readers.get(record.pop("say"))
        return None if reader is None else reader(record)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, Unreadable):
        return None


def _hello(record: dict[str, Any]) -> Hello:
    record["troubles"] = texts(record.get("troubles", ()), "troubles")
    record["gpus"] = _gpus(record)
    hello = restored(Hello, record, "a hello")
    if not (_is_amount(hello.cpus) and _is_amount(hello.ram) and _is_amount(hello.pid)):
        raise Unreadable("an amount of a hello is none")
    if not all(at is None or 0 <= at < _MOST for at in (hello.began, hello.until)):
        raise Unreadable("the beginning or the end of a pilot is no time")
    return hello


def _beat(record: dict[str, Any]) -> Beat:
    record["gpus"] = _gpus(record)
    used = {
        str(attempt): {str(uuid): amount for uuid, amount in by_gpu.items() if _is_amount(amount)}
        for attempt, by_gpu in dict(record.pop("used", {})).items()
    }
    beat = restored(Beat, {**record, "used": used}, "a beat")
    if not (_is_amount(beat.number) and _is_amount(beat.ram_free)):
        raise Unreadable("an amount of a beat is none")
    return beat


def _gpus(record: Mapping[str, Any]) -> tuple[GpuSnapshot, ...]:
    """Return the GPUs of a message; one that cannot be understood is left out, for the pilot speaks all the same."""
    gpus = []
    for item in record.get("gpus", ()):
        with contextlib.suppress(ValueError):
            gpus.append(read_gpu(item))
    return tuple(gpus)


_MOST = 1 << 60


def _is_amount(value: object) -> bool:
    return type(value) is int and 0 <= value < _MOST


def _ended(record: dict[str, Any]) -> Ended:
    outcome = record.get("outcome")
    read = read_outcome(outcome) if isinstance(outcome, dict) else None
    return Ended(attempt=str(record["attempt"]), outcome=read)


def _lease(record: dict[str, Any]) -> Lease:
    return restored(Lease, record, "a lease")


_ORDERS: Mapping[str, Callable[[dict[str, Any]], Order]] = {
    "run": lambda record: restored(Run, record, "an order"),
    "stop": lambda record: restored(Stop, record, "an order"),
    "lease": _lease,
    "leave": lambda record: restored(Leave, record, "an order"),
}
_NEWS: Mapping[str, Callable[[dict[str, Any]], News]] = {
    "hello": _hello,
    "beat": _beat,
    "began": lambda record: restored(Began, record, "news"),
    "ended": _ended,
    "leaving": lambda record: restored(Leaving, record, "news"),
    "bye": lambda record: restored(Bye, record, "news"),
}


_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC
_BLOCK = 1 << 20


class Writer:
    """The one writer of a file of messages."""

    def __init__(self, path: Path) -> None:
        """Write to a file that is there already."""
        self._path = path
        self._torn = False  # the last line may be there in part

    def append(self, *lines: bytes) -> None:
        """Append whole lines.

        Raises:
            OSError: the disk is full, or the file is gone; what was written in part is closed by the next append.
        """
        data = b"\n" * self._torn + b"".join(lines)
        descriptor = os.open(self._path, _APPEND)
        try:
            view = memoryview(data)
            while view:
                size = os.write(descriptor, view[: 64 * LONGEST_LINE])
                self._torn = True
                view = view[size:]
        finally:
            os.close(descriptor)  # a full quota may be reported only here
        self._torn = False


class Reader:
    """A reader of a file of messages, at its place."""

    def __init__(self, path: Path, offset: int = 0) -> None:
        """Begin at an offset in bytes."""
        self._path, self.offset = path, offset

    def lines(self) -> Iterator[bytes]:
        """Give the lines that have come since the last call, without their ends; what is cut off waits.

        Raises:
            OSError: the file cannot be read now.
        """
        descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            data = os.pread(descriptor, _BLOCK, self.offset)
        finally:
            os.close(descriptor)
        whole, end, rest = data.rpartition(b"\n")
        if not end and len(rest) == _BLOCK:  # no line is so long: skip it
            self.offset += _BLOCK
        if not end:
            return
        self.offset += len(whole) + 1
        yield from (line for line in whole.split(b"\n") if line)
