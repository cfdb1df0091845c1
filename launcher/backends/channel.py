"""The files over which scheduler and pilot talk: a pilot's folder, the spec in it, and orders and news, a line each.

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
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from launcher.gpu.snapshot import GpuSnapshot, gpu_record, read_gpu
from launcher.states import Outcome, outcome_record, read_outcome
from launcher.system.files import read_bytes, write_json
from launcher.system.paths import Attempt
from launcher.system.stored_fields import Unreadable, known_of, parsed, restored, texts
from launcher.workers.lease import BURIED

TOKEN = "LAUNCHER_PILOT"  # in the environment of a pilot, its fork servers and supervisors: which pilot's they are


class PilotSpec(NamedTuple):
    """What a pilot is to be; written before it is submitted, never changed."""

    token: str  # unguessable: the engine's job has it as its name
    backend: str  # its name in config.toml
    version: str  # of launcher: a pilot of another one refuses
    cpus: int
    gpus: int = 0
    memory: int | None = None
    time_s: float | None = None
    lease_s: float | None = (
        None  # its attempts end when the scheduler was silent for so long; None: never
    )
    beat_s: float = 5.0  # so often it says that it lives
    idle_s: float = 300.0  # it leaves after so long without work
    single: bool = False  # it is for one attempt, after which it is sent that it leaves
    paths: tuple[str, ...] = ()  # that must be seen on the node: roots of runs, interpreters


class PilotFolder(NamedTuple):
    """The folder of one pilot, on a file system that the submit host and the node share.

    spec.json    scheduler   what it is to be; written before submission
    to           scheduler   orders, a JSON line each, appended
    from         pilot       news, likewise
    taken        pilot       made once: an engine that starts the pilot again gets none
    process.json engine      which process the pilot is, where its engine is `local`
    engine.log   engine      standard output and error of the pilot, and of what the site runs before it
    buried       scheduler   empty; written when it gives the pilot up: what lives of it ends, and records that
    attempts/    both        a folder per attempt, as in a home
    """

    folder: Path

    @property
    def token(self) -> str:
        """Its name, which is also that of the engine's job."""
        return self.folder.name

    @property
    def spec(self) -> Path:
        """What it is to be."""
        return self.folder / "spec.json"

    @property
    def orders(self) -> Path:
        """Orders, a line each."""
        return self.folder / "to"

    @property
    def news(self) -> Path:
        """News, a line each."""
        return self.folder / "from"

    @property
    def log(self) -> Path:
        """What the engine and the pilot print."""
        return self.folder / "engine.log"

    @property
    def taken(self) -> Path:
        """Made by the pilot, once: an engine that starts it again gets none."""
        return self.folder / "taken"

    @property
    def process(self) -> Path:
        """Which process the pilot is, as the engine `local` has started it."""
        return self.folder / "process.json"

    @property
    def attempts(self) -> Path:
        """A folder per attempt."""
        return self.folder / "attempts"

    @property
    def buried(self) -> Path:
        """Empty; written by the scheduler when it gives the pilot up: what runs there ends."""
        return self.folder / BURIED

    def bury(self) -> None:
        """Have all that lives of the pilot end.

        Raises:
            OSError: the disk is full, or the folder cannot be written: nothing of it learns that.
        """
        self.buried.write_bytes(b"given up\n")

    def attempt(self, name: str) -> Attempt:
        """Return the folder of the attempt with a name such as `63-2`."""
        return Attempt(self.attempts / name)


def make_pilot_folder(folder: PilotFolder, spec: PilotSpec) -> None:
    """Make all that a pilot finds when it starts: later, a node might see a new name only after half a minute.

    Raises:
        OSError: the disk is full, or the folder cannot be written.
    """
    folder.folder.mkdir(mode=0o700, parents=True)
    folder.attempts.mkdir(mode=0o700)
    for path in (folder.orders, folder.news, folder.log, folder.buried):
        path.touch(mode=0o600)
    # not synced: after a power cut, a pilot that finds no spec does not start
    write_json(folder.spec, {"schema": 1, **spec._asdict()}, mode=0o600, durable=False)


def read_pilot_spec(folder: PilotFolder) -> PilotSpec:
    """Return what a pilot is to be.

    Raises:
        OSError: it cannot be read.
        Unreadable: it is none, or a newer launcher wrote it.
    """
    record = parsed(read_bytes(folder.spec).decode(errors="replace"), "its spec")
    if record.pop("schema", None) != 1:
        raise Unreadable("its spec was written by another version of launcher")
    record["paths"] = texts(record.get("paths", ()), "'paths' of its spec")
    return known_of(
        PilotSpec, record, "its spec"
    )  # of a newer launcher it may have more: its version tells


def name_of(job: int, number: int) -> str:
    """Return the name of an attempt: `63-2` is the second one of job 63."""
    return f"{job}-{number}"


def numbers_of(name: str) -> tuple[int, int]:
    """Return job and number of an attempt with a name.

    Raises:
        ValueError: it is none.
    """
    job, _, number = name.partition("-")
    return int(job), int(number)


LONGEST_LINE = (
    4096  # bytes that are written at once; a longer outcome is read from the attempt's folder
)


# --- orders: scheduler to pilot


class Run(NamedTuple):
    """Start an attempt, whose order lies in its folder."""

    attempt: str  # its folder's name below attempts/


class Stop(NamedTuple):
    """End an attempt: SIGTERM, and SIGKILL after the job's grace."""

    attempt: str


class Kill(NamedTuple):
    """Kill an attempt without a grace period; a pilot of an earlier version skips this line."""

    attempt: str


class Lease(NamedTuple):
    """The scheduler has read the beat of this number: the pilot's lease runs from when it sent that."""

    beat: int


class Leave(NamedTuple):
    """Take nothing more, and end when nothing runs."""

    now: bool = False  # end what runs, too: trainings save and go on elsewhere


Order = Run | Stop | Kill | Lease | Leave


# --- news: pilot to scheduler


class Hello(NamedTuple):
    """The pilot is up: what it has, and what it does not see."""

    version: str  # of launcher
    python: str  # its interpreter
    host: str  # the node's name for itself
    pid: int
    boot: str  # the node's boot ID
    cpus: int  # that it may keep busy
    ram: int  # bytes of main memory that it may fill
    node: str = ""  # the engine's name for the node; '' where it does not say
    job: str = ""  # the engine's number of the pilot, to be shown only: it may be given out again
    began: float | None = None  # seconds since 1970 when it began; None: not known
    until: float | None = None  # likewise when the engine ends it
    limited: bool = False  # the engine has not told it when that will be, and knows
    troubles: tuple[
        str, ...
    ] = ()  # why it can do nothing: a path that the node does not see, a version
    gpus: tuple[GpuSnapshot, ...] = ()


class Beat(NamedTuple):
    """The pilot lives."""

    number: int  # from 1
    ram_free: int = 0  # bytes of main memory
    gpus: tuple[GpuSnapshot, ...] = ()  # as they are now, without their processes
    # attempt → UUID → bytes that its processes hold there, where the driver tells
    used: Mapping[str, Mapping[str, int]] = {}


class Began(NamedTuple):
    """An attempt is in the hands of a supervisor."""

    attempt: str


class Ended(NamedTuple):
    """An attempt has ended, and nothing of it lives."""

    attempt: str
    outcome: Outcome | None = None  # None: its folder tells


class Leaving(NamedTuple):
    """The pilot takes no more attempts; what runs there comes to its end, or has been told to end."""

    why: str
    signal: str = ""  # that told it so: its engine is about to end it


class Bye(NamedTuple):
    """The pilot leaves; what still ran has been told to end."""

    why: str


News = Hello | Beat | Began | Ended | Leaving | Bye


# the words of messages: pilots of other versions read them
_ORDERS: Mapping[str, type[Order]] = {
    "run": Run,
    "stop": Stop,
    "kill": Kill,
    "lease": Lease,
    "leave": Leave,
}
_NEWS: Mapping[str, type[News]] = {
    "hello": Hello,
    "beat": Beat,
    "began": Began,
    "ended": Ended,
    "leaving": Leaving,
    "bye": Bye,
}
_WORDS: Mapping[type[Order | News], str] = {
    message: word for words in (_ORDERS, _NEWS) for word, message in words.items()
}


def order_line(order: Order) -> bytes:
    """Return an order as a line."""
    return _line(order, order._asdict())


def news_line(news: News) -> bytes:
    """Return news as a line; an outcome that is too long for one is left out: the folder has it."""
    match news:
        case Ended(attempt=attempt, outcome=outcome) if outcome is not None:
            line = _line(news, {"attempt": attempt, "outcome": outcome_record(outcome)})
            return line if len(line) <= LONGEST_LINE else news_line(Ended(attempt=attempt))
        case Ended(attempt=attempt):
            return _line(news, {"attempt": attempt})
        case Hello() | Beat():
            gpus = [_short_record(gpu) for gpu in news.gpus]
            return _line(news, {**news._replace(gpus=())._asdict(), "gpus": gpus})
    return _line(news, news._asdict())


def read_order(line: bytes) -> Order | None:
    """Return the order of a line; None where it is none that we know."""
    order: Order | None = _read(line, _ORDERS)
    return order


def read_news(line: bytes) -> News | None:
    """Return the news of a line; None where it is none that we know."""
    news: News | None = _read(line, _NEWS)
    return news


def _line(message: Order | News, record: Mapping[str, Any]) -> bytes:
    said = {"say": _WORDS[type(message)], **record}
    return json.dumps(said, separators=(",", ":")).encode() + b"\n"


_NO_GPU = gpu_record(GpuSnapshot(uuid="\0", index=-1, name="\0", total=-1, used=-1))


def _short_record(gpu: GpuSnapshot) -> dict[str, Any]:
    """Return a GPU without what has its default, and without its processes: a line is to be short."""
    record = gpu_record(replace(gpu, processes=None))
    return {name: value for name, value in record.items() if value != _NO_GPU[name]}


def _read(line: bytes, kinds: Mapping[str, type[Order | News]]) -> Any:
    try:
        record = json.loads(line)
        kind = kinds[record.pop("say")]
        for name in _READ.keys() & record.keys():
            record[name] = _READ[name](record[name])
        # an end counts, whatever a newer launcher says beside it
        message = (known_of if kind is Ended else restored)(kind, record, "a message")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    numbers = [value for value in message if isinstance(value, int | float)]
    return message if all(0 <= number < _MOST for number in numbers) else None


_MOST = 1 << 60


def _gpus(listed: Any) -> tuple[GpuSnapshot, ...]:
    """Return the GPUs of a message; one that cannot be understood is left out, for the pilot speaks all the same."""
    gpus = []
    for item in listed:
        with contextlib.suppress(ValueError):
            gpus.append(read_gpu(item))
    return tuple(gpus)


def _used(record: Any) -> dict[str, dict[str, int]]:
    return {
        str(attempt): {
            str(uuid): amount
            for uuid, amount in by_gpu.items()
            if type(amount) is int and 0 <= amount < _MOST
        }
        for attempt, by_gpu in dict(record).items()
    }


# how those fields are read that are more than a text, a number or a switch
_READ: Mapping[str, Callable[[Any], Any]] = {
    "troubles": lambda value: texts(value, "troubles"),
    "gpus": _gpus,
    "used": _used,
    "outcome": lambda value: read_outcome(value) if isinstance(value, dict) else None,
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
