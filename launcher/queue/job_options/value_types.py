"""The types of option values, such as numbers, memory, times and folders, and contradictions between options.

Task files and command lines read a type in the same way, with the same limits and messages. The message
starts with the option as it is spelled there.
"""

import os
import re
import signal
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from launcher.queue.jobs.job import CPU, LONGEST_NOTE, Terms, is_device, names_one_gpu
from launcher.system.errors import UsageError
from launcher.system.lazy_regex import compile_lazily
from launcher.system.text import is_utf8
from launcher.system.units import Bytes, format_seconds, parse_bytes, parse_seconds

AUTO = "auto"
NONE = "none"
LONGEST_SPAN_S = 10 * 365 * 86_400.0  # no job waits longer; a larger number is a mistake
# programs cannot handle these signals
UNCATCHABLE_SIGNALS = frozenset({signal.SIGKILL, signal.SIGSTOP})

_POSIX_ZONE = compile_lazily(r"(?:[A-Za-z]{3,}|<[\w+-]+>)[+-]?\d")  # CET-1CEST
LONGEST_METRIC = 128  # characters of the name of a printed number
_NAME = compile_lazily(r"[^\s,\x00-\x1f]+")
_WHOLE = compile_lazily(r"-?[0-9]{1,18}", re.ASCII)
_TRUTHS = frozenset({"true", "True", "TRUE", "false", "False", "FALSE"})  # the booleans of YAML 1.2


class ValueType(NamedTuple):
    """How the value of an option is written; the functions below return the types."""

    metavar: str  # the value in a help text: SIZE
    expected: str  # the expected form, after the word "expected"
    value_of: Callable[[str, float], Any]  # (text, now) → value; None: the text is invalid
    # JSON schema of the type; the schema of task files defines its references
    form: Mapping[str, Any]
    text_of: Callable[[Any], str] = str  # as written in a task file, without rounding
    unit: str = ""  # unit of a number that a program gives without one
    most: float | None = None  # the largest number; None: no limit
    words: tuple[str, ...] = ()  # the allowed words; empty: not a choice
    is_text: bool = True  # quotes are allowed in a task file; not for numbers and booleans
    is_list: bool = False  # separated by commas; in a task file and in Python also a list

    def read(self, text: str, now: float) -> Any:
        """Return the value of a text.

        Args:
            text: Value as written.
            now: Seconds since 1970, for relative times.

        Raises:
            UsageError: the text is invalid; the message contains the expected form.
        """
        value = self.value_of(text, now)
        if value is None:
            raise UsageError(f"expected {self.expected}, got {text!r}")
        return value


def whole_number(least: int, most: int | None = None) -> ValueType:
    """Return the type of an integer within limits; None for `most` means no upper limit."""
    limits = f"of at least {least:,}" if most is None else f"from {least:,} to {most:,}"

    def value_of(text: str, _: float) -> int | None:
        if not _WHOLE.fullmatch(text.strip()):
            return None
        number = int(text)
        return number if least <= number and (most is None or number <= most) else None

    form = {"type": "integer", "minimum": least} | ({} if most is None else {"maximum": most})
    return ValueType("INTEGER", f"a whole number {limits}", value_of, form, is_text=False)


def whole_or_none(most: int) -> ValueType:
    """Return the type of an integer from 1, or the word none, which is read as 0."""
    number = whole_number(1, most)
    return number._replace(
        expected=f"{number.expected}, or {NONE}",
        value_of=lambda text, now: 0 if text.strip() == NONE else number.value_of(text, now),
        form={"anyOf": [number.form, {"const": NONE}, {"$ref": "#/$defs/variable"}]},
        text_of=lambda value: str(value) if value else NONE,
    )


def real_number(least: float, most: float) -> ValueType:
    """Return the type of a number within limits."""

    def value_of(text: str, _: float) -> float | None:
        try:
            value = float(text)
        except ValueError:
            return None
        return value if least <= value <= most else None

    form = {"type": "number", "minimum": least, "maximum": most}
    expected = f"a number from {least:g} to {most:g}"
    return ValueType("FLOAT", expected, value_of, form, is_text=False)


def size(*, auto: bool = False) -> ValueType:
    """Return the type of memory in bytes; with `auto`, the word auto is also valid and read as `AUTO`."""

    def value_of(text: str, _: float) -> Bytes | str:
        return AUTO if auto and text == AUTO else parse_bytes(text)

    expected = f"an amount of memory such as 16GiB{', or auto' if auto else ''}"
    form: dict[str, Any] = {"$ref": "#/$defs/size"}
    form = {"anyOf": [form, {"const": AUTO}]} if auto else form
    return ValueType("SIZE", expected, value_of, form, _size_text, unit="B")


def span(*, most_s: float = LONGEST_SPAN_S, positive: bool = False) -> ValueType:
    """Return the type of a time span in seconds.

    Args:
        most_s: Longest valid span in seconds.
        positive: Whether 0s is refused.
    """
    limit = f", at most {format_seconds(most_s)}" if most_s < LONGEST_SPAN_S else ""

    def value_of(text: str, _: float) -> float:
        number = text.replace(".", "", 1).isdecimal()
        zero = positive and number and float(text) == 0  # zero is invalid with any unit
        span_s = 0.0 if zero else parse_seconds(text)
        if span_s > most_s:
            raise UsageError(f"expected at most {most_s / 3600:,.0f}h, got {text!r}")
        if positive and span_s == 0:
            raise UsageError("must be greater than zero. Leave it out for no limit.")
        return span_s

    expected = f"a time such as 8h or 1h30m{limit}"
    form = {"$ref": "#/$defs/time"}
    return ValueType("SPAN", expected, value_of, form, _span_text, unit="s", most=most_s)


def choice(*words: str) -> ValueType:
    """Return the type of a choice of words."""
    return ValueType(
        "WORD",
        " or ".join(words),
        lambda text, _: text if text in words else None,
        {"enum": [*words]},
        words=words,
    )


class TimeInPast(UsageError):
    """The given time is in the past."""


def _truth(text: str, _: float) -> bool | None:
    return text.lower() == "true" if text in _TRUTHS else None


def _signal(text: str, _: float) -> str | None:
    name = text.upper() if text.upper().startswith("SIG") else f"SIG{text.upper()}"
    heard = {number.name for number in signal.Signals if number not in UNCATCHABLE_SIGNALS}
    return name if name in heard else None


def _long_text(text: str, _: float) -> str | None:
    return text if len(text) <= LONGEST_NOTE and is_utf8(text) else None


def _names(text: str, _: float) -> tuple[str, ...] | None:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    return names if all(map(_NAME.fullmatch, names)) else None


def _metric_names(text: str, _: float) -> tuple[str, ...] | None:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    return names if all(name and len(name) <= LONGEST_METRIC for name in names) else None


def _moment(text: str, now: float) -> float | None:
    """Return a future time in seconds since 1970, from a date, a time of day (its next occurrence), or `+2h30m`.

    Raises:
        TimeInPast: the time is in the past.
        UsageError: the time is too far in the future.
    """
    stripped = text.strip()
    try:
        if stripped.startswith("+"):
            at = now + parse_seconds(stripped[1:])
        elif (time_of_day := _next_time_of_day(stripped, now)) is not None:
            at = in_known_zone(time_of_day, text)
        else:
            given = datetime.fromisoformat(stripped)
            at = given.timestamp() if given.tzinfo else in_known_zone(given.timestamp(), text)
    except (ValueError, OverflowError, OSError):
        return None
    if at < now:
        raise TimeInPast(f"{text!r} is in the past. Write a later time.")
    if at > now + LONGEST_SPAN_S:
        raise UsageError(f"{text!r} is more than ten years away. Write an earlier time.")
    return at


def _next_time_of_day(text: str, now: float) -> float | None:
    """Return the next local time of day `text` in seconds since 1970, None if it is not a time of day."""
    try:
        time_of_day = datetime.strptime(text, "%H:%M").time()  # noqa: DTZ007  # a time without a date
    except ValueError:
        return None
    today = datetime.fromtimestamp(now).astimezone().date()
    # built from the date: a day is not always 24 hours long
    days = (today + timedelta(days=count) for count in range(2))
    times = (datetime.combine(day, time_of_day).timestamp() for day in days)
    return next((at for at in times if at > now), None)


def _size_text(amount: int) -> str:
    for power, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if amount and amount % (1 << power) == 0:
            return f"{amount >> power}{unit}"
    return f"{amount}B"


def _span_text(span_s: float) -> str:
    parts, left = [], float(span_s)
    for unit, unit_s in (("d", 86_400), ("h", 3_600), ("m", 60)):
        count, left = divmod(left, unit_s)
        parts += [f"{int(count)}{unit}"] if count else []
    if left or not parts:
        parts.append(f"{left:.9f}".rstrip("0").rstrip(".") + "s")
    return "".join(parts)


_TEXT = {"type": "string"}

PRIORITY = whole_number(-(2**31) + 1, 2**31 - 1)
SHARE = real_number(0.001, 1000.0)  # share of a run; the default is 1
# on a command line, the option without a value means true
TRUTH = ValueType(
    "",
    "true or false",
    _truth,
    {"type": "boolean"},
    lambda value: str(value).lower(),
    is_text=False,
)
DEVICE = ValueType(
    "DEVICE",
    "auto, cpu, cuda, or a GPU such as cuda:1 or its UUID (launcher gpus)",
    lambda text, _: text if is_device(text) else None,
    {"$ref": "#/$defs/device"},
)
# with or without the prefix SIG
SIGNAL = ValueType("SIGNAL", "a signal that a program can handle, such as SIGUSR1", _signal, _TEXT)
WORD = ValueType("NAME", "a name", lambda text, _: text, _TEXT)
TEXT = ValueType("TEXT", f"a text of at most {LONGEST_NOTE:,} characters", _long_text, _TEXT)
# it need not exist; a relative path starts in the folder of the job
FOLDER = ValueType(
    "FOLDER",
    "a folder such as runs/first",
    lambda text, _: text if text.strip() and "\0" not in text and text != "--" else None,
    _TEXT,
)
FILE = FOLDER._replace(metavar="FILE", expected="a file such as metrics.csv")
# separated by commas, without duplicates; in a task file also a list
NAMES = ValueType(
    "NAMES",
    "names such as slurm,local",
    _names,
    {"anyOf": [_TEXT, {"type": "array", "items": _TEXT, "minItems": 1}]},
    ",".join,
    is_list=True,
)
METRIC_NAMES = ValueType(
    "NAMES",
    "names of printed numbers such as 'Test loss,tokens/s'",
    _metric_names,
    {"anyOf": [_TEXT, {"type": "array", "items": _TEXT, "minItems": 1}]},
    ",".join,
    is_list=True,
)
MOMENT = ValueType(
    "TIME",
    "a time such as 18:00, 2026-12-24T18:00 or +2h30m",
    _moment,
    _TEXT,
    lambda timestamp: datetime.fromtimestamp(timestamp).isoformat(),  # noqa: DTZ006  # local time, as it is read
)


Spelling = Callable[[str, str], str]  # an option and its value as users write them; "": no value


def in_task_file(name: str, value: str) -> str:
    """Return an option as written in a task file: `time_limit: 8h`."""
    return f"{name}: {value}" if value else name


def on_command_line(name: str, value: str) -> str:
    """Return an option as written for `launcher add`: `--time-limit 8h`."""
    flag = f"--{name.replace('_', '-')}"
    return f"{flag} {value}" if value else flag


def in_known_zone(timestamp: float, text: str) -> float:
    """Return a local time.

    Raises:
        UsageError: TZ names an unknown zone, for which the C library uses UTC without a message.
    """
    zone = os.environ.get("TZ", "").removeprefix(":")
    if not zone or zone in {"UTC", "GMT"} or _POSIX_ZONE.match(zone):
        return timestamp
    from zoneinfo import TZPATH  # 2 ms, for few users

    if any(Path(folder, zone).is_file() for folder in ("/", *TZPATH)):
        return timestamp
    raise UsageError(
        f"{text!r} is a local time, but TZ={zone} is not a known time zone. Correct TZ, or write a time such as +2h or 2026-12-24T18:00+01:00"
    )


def device_fault(values: Mapping[str, object], spell: Spelling) -> str | None:
    """Return the message about contradicting GPU options of a job: a GPU and none, or one GPU and several.

    Args:
        values: Given options by name.
        spell: Returns an option as users write it.
    """
    gpus, device = values.get("gpus"), str(values.get("device", "auto"))
    none = ("gpus", "0") if gpus == 0 else ("device", CPU) if device == CPU else None
    wanted = next(_asking_for_gpu(values), None)
    if none is not None and wanted is not None:
        first, second = sorted((none, wanted), key=lambda pair: pair[0] != "gpus")
        return f"{spell(*first)} and {spell(*second)} contradict each other. Leave one of them out."
    if isinstance(gpus, int) and gpus > 1 and names_one_gpu(device):
        single, several = spell("device", device), spell("gpus", str(gpus))
        return f"{single} is one GPU, but {several} requests {gpus}. Leave one of them out."
    return None


def _asking_for_gpu(values: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Yield the options that request a GPU, each with its value if it is informative."""
    gpus, device = values.get("gpus"), str(values.get("device", ""))
    if gpus:
        yield "gpus", str(gpus)
    if device == "cuda" or names_one_gpu(device):
        yield "device", device
    if values.get("vram", AUTO) != AUTO:
        yield "vram", ""
    if values.get("exclusive"):
        yield "exclusive", ""


def terms_fault(terms: Terms, spell: Spelling) -> str | None:
    """Return the message about a time option of a job that requires or contradicts another one."""
    limit_s, warn_s = terms.time_limit_s, terms.warn_s
    warn, limit = spell("warn", ""), spell("time_limit", "")
    if warn_s and limit_s is None:
        example = spell("time_limit", "8h")
        return f"{warn} needs {limit}. Add a limit, such as {example}"
    if warn_s and limit_s is not None and warn_s >= limit_s:
        return f"{warn} must be shorter than {limit} ({format_seconds(limit_s)})"
    if terms.warn_signal != Terms().warn_signal and not warn_s:
        example = spell("warn", "5m")
        return f"{spell('signal', terms.warn_signal)} needs {warn}. Add a time, such as {example}"
    return None
