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
    MOMENT,
    NAMES,
    TRUTH,
    Spelling,
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
    match value:
        case bool():
            return str(value).lower() if takes is TRUTH else str(value)
        case timedelta() if takes.unit == "s":
            return _seconds(takes, value.total_seconds(), value)
        case int() | float() if takes.unit == "s":
            return _seconds(takes, value, value)
        case datetime() if takes is MOMENT:
            return value.isoformat()
        case list() | tuple() if takes is NAMES:
            return ",".join(map(str, value))
        case int() | float():
            return f"{value}{takes.unit}"
    return str(value)


def _seconds(takes: ValueType, span_s: float, value: object) -> str:
    """Return a stretch of time as a text.

    Raises:
        UsageError: it is negative, no number, or too large; the message has the value as it was given.
    """
    if not span_s >= 0:  # not a number, neither
        raise UsageError(f"expected seconds, not less than 0, got {value!r}")
    if takes.most is not None and span_s > takes.most:
        raise UsageError(f"expected at most {takes.most / 3600:,.0f}h, got {value!r:.80}")
    return f"{span_s:f}s"
