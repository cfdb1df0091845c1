"""The messages between the scheduler and a pilot: orders to the pilot and news from it, one JSON line each."""

import contextlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from launcher.gpu.snapshot import GpuSnapshot, gpu_record, read_gpu
from launcher.states import Outcome, outcome_record, read_outcome
from launcher.system.stored_fields import known_of, restored, texts

LONGEST_LINE = (
    4096  # bytes that are written at once; a longer outcome is read from the attempt's folder
)
_NO_GPU = gpu_record(GpuSnapshot(uuid="\0", index=-1, name="\0", total=-1, used=-1))
_MOST = 1 << 60


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
