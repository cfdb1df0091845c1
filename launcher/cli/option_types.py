"""What options take besides numbers and words: spans of time, moments, memory, signals."""

import re
import signal
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import click

from launcher.errors import UsageError
from launcher.job import LIMITS, is_device
from launcher.units import parse_bytes, parse_seconds

RUN = "add"  # the run of jobs that come from no task file

FARTHEST_S = 10 * 365 * 86_400.0  # nobody waits longer; a larger number is a slip
_WHOLE = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)
UNHEARD = frozenset({signal.SIGKILL, signal.SIGSTOP})  # no program learns of them


class Value(click.ParamType[Any]):
    """A value that a person writes with its unit; a wrong one is named with its option."""

    def __init__(self, name: str, read: Callable[[str], Any]) -> None:
        """Read texts with a function that raises UsageError, which says what was expected."""
        self.name, self._read = name, read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return what the text means."""
        try:
            return self._read(str(value))
        except UsageError as error:
            return self.fail(str(error), param, ctx)


def span(*, most_s: float = FARTHEST_S, bare: bool = False) -> Value:
    """Return the type of a stretch of time such as `8h`, in seconds.

    Args:
        most_s: a longer one is refused.
        bare: a number without a unit means seconds.
    """
    return Value("span", partial(_span_of, most_s=most_s, bare=bare))


def _span_of(text: str, *, most_s: float, bare: bool) -> float:
    number = bare and text.replace(".", "", 1).isdecimal()
    span_s = float(text) if number else parse_seconds(text)
    if span_s > most_s:
        raise UsageError(f"expected at most {most_s / 3600:,.0f}h, got {text!r}")
    return span_s


def whole(least: int, most: int | None = None) -> Value:
    """Return the type of a whole number within limits.

    Args:
        least: the smallest.
        most: the largest; None: there is none.
    """
    return Value("number", partial(_whole_of, least=least, most=most))


def limited(name: str) -> Value:
    """Return the type of a number that task files and options take alike, see `LIMITS`."""
    return whole(*LIMITS[name])


def _whole_of(text: str, *, least: int, most: int | None) -> int:
    stripped = text.strip()
    number = int(stripped) if _WHOLE.fullmatch(stripped) else None
    if number is None or number < least or (most is not None and number > most):
        told = f"from {least:,} to {most:,}" if most is not None else f"of at least {least:,}"
        raise UsageError(f"expected a whole number {told}, got {text!r}")
    return number


def real(least: float, most: float) -> Value:
    """Return the type of a number within limits."""
    return Value("number", partial(_real_of, least=least, most=most))


def _real_of(text: str, *, least: float, most: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not least <= value <= most:
        raise UsageError(f"expected a number from {least:g} to {most:g}, got {text!r}")
    return value


def _signal_of(text: str) -> str:
    """Return a signal's full name."""
    full = text.upper() if text.upper().startswith("SIG") else f"SIG{text.upper()}"
    known = {one.name for one in signal.Signals if one not in UNHEARD}
    if full not in known:
        raise UsageError(
            f"expected a signal that a program can handle, such as SIGUSR1, got {text!r}"
        )
    return full


def moment_of(text: str, now: float) -> float:
    """Return the moment that a person means, in local time.

    Args:
        text: `2026-12-24T18:00`, `2026-12-24 18:00`, a date alone, `18:00` (the next), or `+2h30m`.
        now: seconds since 1970.

    Raises:
        UsageError: it is none of these, is over already, or far away.
    """
    stripped = text.strip()
    if stripped.startswith("+"):
        at = now + parse_seconds(stripped[1:])
    else:
        at = _of_clock(stripped, now) or _of_calendar(stripped)
    if at < now:
        raise UsageError(f"{text!r} is over already; give a later time")
    if at > now + FARTHEST_S:
        raise UsageError(f"{text!r} is more than ten years away; give an earlier time")
    return at


def _of_clock(text: str, now: float) -> float | None:
    """Return the next time that local clocks show `text`, None when it is no time of day."""
    try:
        time_of_day = datetime.strptime(text, "%H:%M").time()  # noqa: DTZ007  # a time without a day
    except ValueError:
        return None
    today = datetime.fromtimestamp(now).astimezone().date()
    # built from the date each time: a day is not always 24 hours long
    days = (today + timedelta(days=one) for one in range(2))
    moments = (datetime.combine(day, time_of_day).timestamp() for day in days)
    return next((at for at in moments if at > now), None)


def _of_calendar(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        raise UsageError(
            f"expected a time such as 18:00, 2026-12-24T18:00 or +2h30m, got {text!r}"
        ) from None


SIZE = Value("size", parse_bytes)  # memory such as `8GiB`, in bytes
WHEN = Value("time", lambda text: moment_of(text, time.time()))  # to come, in seconds since 1970
HEARD = Value("signal", _signal_of)  # one that a program can act on


def _device_of(text: str) -> str:
    if not is_device(text) or text == "auto":
        raise UsageError(f"expected cpu, cuda, or a GPU such as cuda:1, got {text!r}")
    return text


DEVICE = Value("device", _device_of)


PRIORITY = limited("priority")
