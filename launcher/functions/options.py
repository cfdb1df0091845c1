"""What a call asks of the machine and the queue: the options of `launcher add`, as Python writes them."""

import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypedDict

from launcher.errors import UnknownName, UsageError
from launcher.job import CPU
from launcher.job_options.registry import JobRequest, job_options
from launcher.job_options.value_types import (
    Moment,
    Names,
    Size,
    Span,
    Spelling,
    Truth,
    ValueType,
    device_fault,
    terms_fault,
)


class JobOptions(TypedDict, total=False):
    """Options of a job; texts are written as in a task file: vram="10GiB", time_limit="8h"."""

    cpus: int
    ram: str | int  # or bytes
    vram: str | int  # or bytes; of each GPU
    gpus: int
    device: str
    exclusive: bool
    priority: int
    group: str
    not_before: str | datetime
    time_limit: str | float | timedelta  # or seconds
    warn: str | float | timedelta
    signal: str
    retries: int
    backoff: str | float | timedelta
    grace: str | float | timedelta
    rerun: str
    on: str | Sequence[str]
    tensorboard: str | Path


def request_of(options: Mapping[str, Any]) -> JobRequest:
    """Return what a call asks for.

    Raises:
        UsageError: an option is unknown, has a wrong value, or contradicts another one.
    """
    known, given = job_options(), {}
    for name, value in options.items():
        if name not in known:
            raise UsageError(
                f"{UnknownName('option', name, known)}; keywords of the function go into "
                f"kwargs={{{name!r}: …}}"
            )
        if value is not None and value is not False:
            given[name] = _read(name, known[name].takes, value)
    return assembled(given, in_python)


def assembled(given: Mapping[str, Any], spell: Spelling) -> JobRequest:
    """Return the request that options make, those that are given; it works on GPUs where one asks for a GPU.

    Args:
        given: their values by name, each of its type.
        spell: how the user writes them.

    Raises:
        UsageError: they contradict each other.
    """
    if fault := device_fault(given, spell):
        raise UsageError(fault)
    request = JobRequest()
    for name, option in job_options().items():
        if name in given:
            request = option.apply(request, given[name])
    if fault := terms_fault(request.terms, spell):
        raise UsageError(fault)
    if request.resources.device != "auto":
        return request
    return request.on_device("cuda" if request.wants_gpu or "vram" in given else CPU)


def in_python(name: str, value: str) -> str:
    """Return an option as Python has it: `time_limit='8h'`."""
    return f"{name}={value!r}" if value else name


def _read(name: str, takes: ValueType, value: object) -> object:
    try:
        return takes.read(_text(takes, value), time.time())
    except UsageError as error:
        raise UsageError(f"{name}: {error}") from error


def _text(takes: ValueType, value: object) -> str:
    """Return a value of Python as a task file has it."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    match takes, value:
        case Truth(), bool():
            return str(value).lower()
        case Size(), _ if number:
            return f"{value}B"
        case Span(), timedelta():
            _refuse_absurd(takes, value.total_seconds(), value)
            return f"{value.total_seconds():f}s"
        case Span(), int() | float() if number:
            _refuse_absurd(takes, value, value)
            return f"{value:f}s"
        case Moment(), datetime():
            return value.isoformat()
        case Names(), list() | tuple():
            return ",".join(map(str, value))
    return str(value)


def _refuse_absurd(takes: Span, span_s: float, value: object) -> None:
    """Refuse what a text could not say: the message has the value as it was given.

    Raises:
        UsageError: it is negative, no number, or too large.
    """
    if not span_s >= 0:  # not a number, neither
        raise UsageError(f"expected seconds, not less than 0, got {value!r}")
    if span_s > takes.most_s:
        raise UsageError(f"expected at most {takes.most_s / 3600:,.0f}h, got {value!r:.80}")
