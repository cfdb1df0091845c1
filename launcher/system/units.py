"""Bytes, seconds and moments: parsed from user input and printed for users."""

import math
import re
import time
from collections.abc import Iterable, Sequence
from typing import NewType

from launcher.system.errors import UsageError
from launcher.system.lazy_regex import compile_lazily

Bytes = NewType("Bytes", int)

DAY_S = 86_400.0
# later estimates are not shown: Slurm returns a year if it knows no limits
LONGEST_ESTIMATE_S = 60 * DAY_S

_BINARY = ("B", "KiB", "MiB", "GiB", "TiB")
_SECONDS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_STEPS = tuple(zip(list(_SECONDS.items())[:-1], list(_SECONDS.items())[1:], strict=True))
_SIZE = compile_lazily(r"([0-9]{1,15}(?:\.[0-9]{1,9})?) ?([A-Za-z]*)")
_CLOCK = compile_lazily(r"([0-9]{1,6}):([0-9]{2})")
_SPAN = compile_lazily(r"([0-9]{1,12}(?:\.[0-9]{1,9})?) ?([dhms])(?: ?(?=[0-9]))?")


def parse_bytes(text: str) -> Bytes:
    """Read an amount of memory such as `16GiB`, `512 MiB` or `0`.

    Raises:
        UsageError: no number, no unit, or a unit that some read as 1000 and some as 1024.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"expected an amount of memory such as 16GiB, got {text!r}")
    number, unit = match[1], match[2]
    by_fold = {name.casefold(): power for power, name in enumerate(_BINARY)}
    power = by_fold.get(unit.casefold())
    if power is not None:
        return Bytes(round(float(number) * 1024**power))
    if not unit:
        if float(number) == 0:
            return Bytes(0)
        raise UsageError(f"{text!r} has no unit. Write {number}GiB or {number}MiB")
    guess = {"k": "KiB", "m": "MiB", "g": "GiB", "t": "TiB"}.get(unit[0].casefold(), "GiB")
    raise UsageError(f"unknown unit {unit!r}. Did you mean {number}{guess}?")


def format_bytes(amount: int) -> str:
    """Print an amount of memory with three digits: `512 MiB`, `11.2 GiB`."""
    value, power = float(amount), 0
    while round(abs(value)) >= 1024 and power + 1 < len(_BINARY):
        value, power = value / 1024, power + 1
    if power and abs(value) < 1:  # otherwise it would be printed as 1024 of the smaller unit
        value = round(value)
    digits = 0 if power == 0 or abs(value) >= 100 or value == int(value) else 1
    return f"{value:.{digits}f} {_BINARY[power]}"


def parse_seconds(text: str) -> float:
    """Read a time span such as `8h`, `1h30m`, `41 s` or `2 d`.

    Raises:
        UsageError: no number, no unit, or units that do not become smaller from left to right.
    """
    stripped = text.strip()
    total, end, last = 0.0, 0, float("inf")
    while match := _SPAN.match(stripped, end):
        unit_s = _SECONDS[match[2]]
        if unit_s >= last:
            break
        total, end, last = total + float(match[1]) * unit_s, match.end(), unit_s
    if end == 0 or end < len(stripped):
        if re.fullmatch(r"[0-9.]+", stripped):
            raise UsageError(
                f"{text!r} has no unit. Write {stripped}s, {stripped}m, {stripped}h or {stripped}d"
            )
        if match := _CLOCK.fullmatch(stripped):  # YAML 1.1 reads it as a number of seconds
            big, small = match.groups()
            raise UsageError(
                f"{text!r} may be hours or minutes. Write {big}h{small}m or {big}m{small}s"
            )
        raise UsageError(f"expected a time such as 30d, 8h, 1h30m or 41s, got {text!r}")
    return total


def format_seconds(span_s: float) -> str:
    """Print a time span with its two largest units: `41 s`, `12 m 5 s`, `1 h 52 m`."""
    if span_s < 0:
        return f"-{format_seconds(-span_s)}"
    if round(span_s, 1) < 10:
        return f"{span_s:.1f} s".replace(".0 s", " s")
    whole = round(span_s)
    for (large, large_s), (small, small_s) in _STEPS:
        if whole >= large_s:
            rest = whole % large_s // small_s
            return f"{whole // large_s} {large}" + (f" {rest} {small}" if rest else "")
    return f"{whole} s"


def format_estimate(end_time: float, now: float) -> str:
    """Print an expected time: `at 14:10`, or `in 12 days` after more than a day. Return '' if it is implausible.

    Args:
        end_time: Seconds since 1970, as estimated by any source.
        now: Current time in seconds since 1970.
    """
    if not -DAY_S < end_time - now <= LONGEST_ESTIMATE_S:
        return ""
    if end_time - now >= DAY_S:
        days = round((end_time - now) / DAY_S)
        return "in 1 day" if days == 1 else f"in {days} days"
    return time.strftime("at %H:%M", time.localtime(end_time))


def exponential_backoff_s(first_s: float, times: int, longest_s: float) -> float:
    """Return a pause in seconds that has doubled a number of times, up to the longest one."""
    # 2.0**1024 is too large for a float; 2**64 times a millisecond is longer than any pause
    return min(longest_s, first_s * 2.0 ** min(times, 64))


# The module `statistics` would import fractions and decimal in every command.


def mean(values: Sequence[float]) -> float:
    """Return the mean of at least one value."""
    return math.fsum(values) / len(values)


def median(values: Iterable[float]) -> float:
    """Return the median of at least one value."""
    return quartile(values, 2)


def quartile(values: Iterable[float], number: int) -> float:
    """Return a quartile of some values, from 0 (minimum) to 4 (maximum)."""
    ordered = sorted(values)
    place, beyond = divmod(number * (len(ordered) - 1), 4)
    if not beyond:
        return ordered[place]
    return (ordered[place] * (4 - beyond) + ordered[place + 1] * beyond) / 4
