"""What an option takes: numbers, amounts of memory, times, dates, folders; and which options contradict each other.

A type is read in the same way from a task file and from a command line, with the same limits and
the same messages; both name the option before the message, spelled as it is there.
"""

import re
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol

from launcher.errors import UsageError
from launcher.job import CPU, Terms, is_device
from launcher.units import Bytes, format_seconds, parse_bytes, parse_seconds

AUTO = "auto"
FARTHEST_S = 10 * 365 * 86_400.0  # no job waits longer; a larger number is a slip
UNHEARD = frozenset({signal.SIGKILL, signal.SIGSTOP})  # no program learns of them

_NAME = re.compile(r"[^\s,\x00-\x1f]+")
_WHOLE = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)


class ValueType(Protocol):
    """How the value of an option is written."""

    @property
    def metavar(self) -> str:
        """One word for the value in a help text: SIZE."""

    @property
    def expected(self) -> str:
        """What the option takes, after "expected"."""

    @property
    def is_text(self) -> bool:
        """Whether the value may stand in quotes in a task file; a number or a truth may not."""

    def read(self, text: str, now: float) -> object:
        """Return the value that a text means.

        Args:
            text: as it is written.
            now: seconds since 1970, for times that are relative.

        Raises:
            UsageError: it is no such value; says what was expected.
        """


class Whole(NamedTuple):
    """A whole number within limits; `most` None: there is no upper limit."""

    least: int
    most: int | None = None
    metavar: str = "NUMBER"
    is_text: bool = False

    @property
    def expected(self) -> str:
        """The limits in words."""
        limits = f"from {self.least:,} to {self.most:,}" if self.most is not None else ""
        return f"a whole number {limits or f'of at least {self.least:,}'}"

    def holds(self, number: int) -> bool:
        """Tell whether a number is within the limits."""
        return self.least <= number and (self.most is None or number <= self.most)

    def read(self, text: str, now: float) -> int:  # noqa: ARG002  # a number needs no clock
        """Return the number."""
        stripped = text.strip()
        number = int(stripped) if _WHOLE.fullmatch(stripped) else None
        if number is None or not self.holds(number):
            raise UsageError(f"expected {self.expected}, got {text!r}")
        return number


PRIORITY = Whole(-(2**31) + 1, 2**31 - 1)


class Real(NamedTuple):
    """A number within limits."""

    least: float
    most: float
    metavar: str = "NUMBER"
    is_text: bool = False

    @property
    def expected(self) -> str:
        """The limits in words."""
        return f"a number from {self.least:g} to {self.most:g}"

    def read(self, text: str, now: float) -> float:  # noqa: ARG002
        """Return the number."""
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not self.least <= value <= self.most:
            raise UsageError(f"expected {self.expected}, got {text!r}")
        return value


SHARE = Real(0.001, 1000.0)  # of a run; another one has 1


class Truth(NamedTuple):
    """True or false; on a command line the option alone means true."""

    metavar: str = ""
    expected: str = "true or false"
    is_text: bool = False

    def read(self, text: str, now: float) -> bool:  # noqa: ARG002
        """Return whether it is true."""
        for value in (True, False):
            word = str(value)
            if text in {word.lower(), word, word.upper()}:  # as YAML 1.2 has them
                return value
        raise UsageError(f"expected {self.expected}, got {text!r}")


class Size(NamedTuple):
    """An amount of memory in bytes; with `auto` the word auto, too, which is read as `AUTO`."""

    auto: bool = False
    metavar: str = "SIZE"
    is_text: bool = True

    @property
    def expected(self) -> str:
        """An example."""
        return f"an amount such as 16GiB{', or auto' if self.auto else ''}"

    def read(self, text: str, now: float) -> Bytes | str:  # noqa: ARG002
        """Return the number of bytes."""
        return AUTO if self.auto and text == AUTO else parse_bytes(text)


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time in seconds."""

    most_s: float = FARTHEST_S
    positive: bool = False  # 0s is refused
    bare: bool = False  # a number without a unit means seconds
    metavar: str = "SPAN"
    is_text: bool = True

    @property
    def expected(self) -> str:
        """An example, and the limit where it is a tight one."""
        limit = f", at most {format_seconds(self.most_s)}" if self.most_s < FARTHEST_S else ""
        return f"a time such as 8h or 1h30m{limit}"

    def read(self, text: str, now: float) -> float:  # noqa: ARG002
        """Return the seconds."""
        number = self.bare and text.replace(".", "", 1).isdecimal()
        span_s = float(text) if number else parse_seconds(text)
        if span_s > self.most_s:
            raise UsageError(f"expected at most {self.most_s / 3600:,.0f}h, got {text!r}")
        if self.positive and span_s == 0:
            raise UsageError("expected more than 0s; without it there is no limit")
        return span_s


class Choice(NamedTuple):
    """One of a few words."""

    words: tuple[str, ...]
    metavar: str = "WORD"
    is_text: bool = True

    @property
    def expected(self) -> str:
        """The words."""
        return " or ".join(self.words)

    def read(self, text: str, now: float) -> str:  # noqa: ARG002
        """Return the word."""
        if text not in self.words:
            raise UsageError(f"expected {self.expected}, got {text!r}")
        return text


class Device(NamedTuple):
    """Where a job may work: auto, cpu, cuda, or one GPU."""

    metavar: str = "DEVICE"
    expected: str = "auto, cpu, cuda, or a GPU such as cuda:1"
    is_text: bool = True

    def read(self, text: str, now: float) -> str:  # noqa: ARG002
        """Return the device."""
        if not is_device(text):
            raise UsageError(f"expected {self.expected}, got {text!r}")
        return text


class Signal(NamedTuple):
    """A signal that a program can handle, with SIG before its name or without."""

    metavar: str = "SIGNAL"
    expected: str = "a signal that a program can handle, such as SIGUSR1"
    is_text: bool = True

    def read(self, text: str, now: float) -> str:  # noqa: ARG002
        """Return the signal's full name."""
        name = text.upper() if text.upper().startswith("SIG") else f"SIG{text.upper()}"
        if name not in {number.name for number in signal.Signals if number not in UNHEARD}:
            raise UsageError(f"expected {self.expected}, got {text!r}")
        return name


class Word(NamedTuple):
    """A name, such as that of a group."""

    metavar: str = "NAME"
    expected: str = "a name"
    is_text: bool = True

    def read(self, text: str, now: float) -> str:  # noqa: ARG002
        """Return the name."""
        return text


class Folder(NamedTuple):
    """A folder, which need not be there; a relative one is in the folder in which the job runs."""

    metavar: str = "FOLDER"
    expected: str = "a folder such as runs/first"
    is_text: bool = True

    def read(self, text: str, now: float) -> str:  # noqa: ARG002
        """Return the folder as it is written."""
        if not text.strip() or "\0" in text:
            raise UsageError(f"expected {self.expected}, got {text!r}")
        return text


class Names(NamedTuple):
    """Names with commas between, each once; in a task file also a list of them."""

    metavar: str = "NAMES"
    expected: str = "names such as slurm,local"
    is_text: bool = True

    def read(self, text: str, now: float) -> tuple[str, ...]:  # noqa: ARG002
        """Return the names."""
        names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
        if not all(_NAME.fullmatch(name) for name in names):
            raise UsageError(f"expected {self.expected}, got {text!r}")
        return names


class TimeOver(UsageError):
    """The time that is given lies in the past."""


class Moment(NamedTuple):
    """A time to come, in local time."""

    metavar: str = "TIME"
    expected: str = "a time such as 18:00, 2026-12-24T18:00 or +2h30m"
    is_text: bool = True

    def read(self, text: str, now: float) -> float:
        """Return the time in seconds since 1970.

        Args:
            text: `2026-12-24T18:00`, `2026-12-24 18:00`, a date alone, `18:00` (the next), or `+2h30m`.
            now: seconds since 1970.

        Raises:
            TimeOver: it is over already.
            UsageError: it is none of these, or far away.
        """
        stripped = text.strip()
        if stripped.startswith("+"):
            at = now + parse_seconds(stripped[1:])
        else:
            at = _next_time_of_day(stripped, now) or self._of_date(stripped)
        if at < now:
            raise TimeOver(f"{text!r} is over already; give a later time")
        if at > now + FARTHEST_S:
            raise UsageError(f"{text!r} is more than ten years away; give an earlier time")
        return at

    def _of_date(self, text: str) -> float:
        try:
            return datetime.fromisoformat(text).timestamp()
        except (ValueError, OverflowError, OSError):
            raise UsageError(f"expected {self.expected}, got {text!r}") from None


def _next_time_of_day(text: str, now: float) -> float | None:
    """Return the next time that local clocks show `text`, None when it is no time of day."""
    try:
        time_of_day = datetime.strptime(text, "%H:%M").time()  # noqa: DTZ007  # a time without a day
    except ValueError:
        return None
    today = datetime.fromtimestamp(now).astimezone().date()
    # built from the date each time: a day is not always 24 hours long
    days = (today + timedelta(days=count) for count in range(2))
    times = (datetime.combine(day, time_of_day).timestamp() for day in days)
    return next((at for at in times if at > now), None)


Spelling = Callable[
    [str, str], str
]  # an option and its value as the user writes them; "": no value


def in_task_file(name: str, value: str) -> str:
    """Return an option as a task file has it: `time_limit: 8h`."""
    return f"{name}: {value}" if value else name


def on_command_line(name: str, value: str) -> str:
    """Return an option as `launcher add` has it: `--time-limit 8h`."""
    flag = f"--{name.replace('_', '-')}"
    return f"{flag} {value}" if value else flag


def device_fault(values: Mapping[str, object], spell: Spelling) -> str | None:
    """Tell which options of one job ask for a GPU and for none, or for one GPU and several.

    Args:
        values: those that are given, by name.
        spell: how the user writes them.
    """
    gpus, device = values.get("gpus"), str(values.get("device", "auto"))
    none = ("gpus", "0") if gpus == 0 else ("device", CPU) if device == CPU else None
    wanted = next(_asking_for_gpu(values), None)
    if none is not None and wanted is not None:
        first, second = sorted((none, wanted), key=lambda pair: pair[0] != "gpus")
        return f"{spell(*first)} and {spell(*second)} contradict each other; leave one of them out"
    if isinstance(gpus, int) and gpus > 1 and device.startswith("cuda:"):
        single, several = spell("device", device), spell("gpus", str(gpus))
        return f"{single} is one GPU, {several} asks for {gpus}; leave one of them out"
    return None


def _asking_for_gpu(values: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Give the options that ask for a GPU, each with its value where that tells something."""
    gpus, device = values.get("gpus"), str(values.get("device", ""))
    if gpus:
        yield "gpus", str(gpus)
    if device.startswith("cuda"):
        yield "device", device
    if values.get("vram", AUTO) != AUTO:
        yield "vram", ""
    if values.get("exclusive"):
        yield "exclusive", ""


def terms_fault(terms: Terms, spell: Spelling) -> str | None:
    """Tell which of a job's times needs another one, or does not fit to it."""
    limit_s, warn_s = terms.time_limit_s, terms.warn_s
    warn, limit = spell("warn", ""), spell("time_limit", "")
    if warn_s and limit_s is None:
        example = spell("time_limit", "8h")
        return f"{warn} counts back from {limit}: say that, too, such as {example}"
    if warn_s and limit_s is not None and warn_s >= limit_s:
        return f"{warn}: expected a time shorter than {limit}, which is {format_seconds(limit_s)}"
    if terms.warn_signal != Terms().warn_signal and not warn_s:
        example = spell("warn", "5m")
        name = terms.warn_signal
        return f"{spell('signal', '')}: {name} is sent by {warn}; say when, such as {example}"
    return None
