"""Requests of a job to the machine and the queue: the options of `launcher add` as Python values, and their checks."""

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypedDict

from launcher.queue.backends.eligibility import runs_only_here, why_impossible_on_backends
from launcher.queue.backends.settings import Backends
from launcher.queue.gpu.gpus_file import read_gpu_status
from launcher.queue.home.daemon_control import scheduler_pid
from launcher.queue.home.paths import Home
from launcher.queue.job_options.registry import JobRequest, job_options
from launcher.queue.job_options.value_types import (
    MOMENT,
    TRUTH,
    Spelling,
    ValueType,
    device_fault,
    terms_fault,
)
from launcher.queue.jobs.job import CPU, Resources, Terms
from launcher.queue.scheduler.policy.gpu_slot import is_visible
from launcher.queue.scheduler.policy.inventory import impossible_reason
from launcher.queue.scheduler.policy.model import Machine, Waiting
from launcher.queue.store.client import cores_for_jobs
from launcher.queue.store.lanes import visible_devices
from launcher.queue.store.queue import Store
from launcher.system import memory
from launcher.system.config import read_table
from launcher.system.environment import owners_environment
from launcher.system.errors import MachineError, UnknownName, UsageError, meant, pluralize
from launcher.system.gpu_sharing import SHARING
from launcher.system.text import sanitize_terminal

_FEWEST_BYTES = 2**20  # no program runs in less memory, so a smaller number has another unit


class JobOptions(TypedDict, total=False):
    """Options of a job. Strings are written as in a task file: vram="10GiB", time_limit="8h"."""

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
    max_failures: int | str  # or none
    backoff: str | float | timedelta
    grace: str | float | timedelta
    rerun: str
    notify_on: str  # end, or failure
    on: str | Sequence[str]
    tensorboard: str | Path
    metrics: str | Path
    numbers: str | Sequence[str]
    stderr: str  # log, or separate
    note: str
    gpu_ids: str  # uuids, or numbers


def read_request(options: Mapping[str, Any]) -> JobRequest:
    """Return the request of a call.

    Raises:
        UsageError: an option is unknown, has a wrong value, or contradicts another one.
    """
    known, given = job_options(), {}
    for name, value in options.items():
        if name not in known:
            advice = f"Pass a keyword argument of the function as kwargs={{{name!r}: …}}"
            raise UnknownName("option", name, known, advice=advice)
        if value is not None and value is not False:
            given[name] = _read(name, known[name].takes, value)
    return make_request(given, spell_as_python)


def make_request(values: Mapping[str, Any], spelling: Spelling) -> JobRequest:
    """Return the request that options make, those that are given; it works on GPUs where one asks for a GPU.

    Args:
        values: their values by name, each of its type.
        spelling: how the user writes them.

    Raises:
        UsageError: they contradict each other.
    """
    if fault := device_fault(values, spelling):
        raise UsageError(fault)
    request = JobRequest()
    for name, option in job_options().items():
        if name in values:
            request = option.apply(request, values[name])
    if fault := terms_fault(request.terms, spelling):
        raise UsageError(fault)
    if request.resources.device != "auto":
        return request
    return request.on_device("cuda" if request.wants_gpu or "vram" in values else CPU)


def spell_as_python(name: str, value: str) -> str:
    """Return an option as Python has it: `time_limit='8h'`."""
    return f"{name}={value!r}" if value else name


def _read(name: str, value_type: ValueType, value: object) -> object:
    try:
        return value_type.read(_text(value_type, value), time.time())
    except UsageError as error:
        raise UsageError(f"{name}: {error}") from error


def _text(value_type: ValueType, value: object) -> str:
    """Return a value of Python as a task file has it.

    Raises:
        UsageError: it is a number of bytes that was probably meant in GiB, or an invalid time.
    """
    match value:
        case bool():
            return str(value).lower() if value_type is TRUTH else str(value)
        case timedelta() if value_type.unit == "s":
            return _seconds(value_type, value.total_seconds(), value)
        case int() | float() if value_type.unit == "s":
            return _seconds(value_type, value, value)
        case datetime() if value_type is MOMENT:
            return value.isoformat()
        case list() | tuple() if value_type.is_list:
            return ",".join(map(str, value))
        case int() | float() if value_type.unit == "B" and 0 < value < _FEWEST_BYTES:
            raise UsageError(
                f"{value!r} means {value!r} bytes. Write '{value!r}GiB', or {value!r} * 2**30 for GiB"
            )
        case int() | float():
            return f"{value}{value_type.unit}"
    return str(value)


def _seconds(value_type: ValueType, span_s: float, value: object) -> str:
    """Return a stretch of time as a text.

    Raises:
        UsageError: it is negative, no number, or too large; the message has the value as it was given.
    """
    if not span_s >= 0:  # NaN is refused, too
        raise UsageError(f"expected a time of at least 0 s, got {value!r}")
    if value_type.most is not None and span_s > value_type.most:
        raise UsageError(f"expected at most {value_type.most / 3600:,.0f}h, got {value!r:.80}")
    return f"{span_s:f}s"


# --- requests that are refused before they are queued, since their jobs could never start

DRIVER_TIMEOUT_S = 5.0  # seconds for a driver to list its GPUs


def check_request(home: Home, store: Store, request: JobRequest, backends: Backends) -> None:
    """Refuse a request whose job could never start.

    Raises:
        UsageError: its group does not exist, or it requests more than exists where it may run.
    """
    check_groups(store, [request.terms.group])
    check_places(home, request.resources, request.terms, backends)


def check_places(home: Home, resources: Resources, terms: Terms, backends: Backends) -> None:
    """Refuse a job that can never run on its machines.

    Raises:
        UsageError: it requests more than exists.
    """
    if runs_only_here(terms):
        check_possible(home, resources)
    elif why := why_impossible_on_backends(resources, terms, backends):
        raise UsageError(f"no backend can ever run it: {sanitize_terminal(why)}")


def check_groups(store: Store | None, names: Iterable[str]) -> None:
    """Refuse groups that are not there: a name that is mistyped would limit nothing.

    Raises:
        UsageError: a group does not exist. The message contains the command to create it.
    """
    for reason in absent_groups(store, names):
        raise UsageError(reason)


def absent_groups(store: Store | None, names: Iterable[str]) -> list[str]:
    """Return for each group that is not there how to make it.

    Args:
        store: the queue; None: there is none, and no group.
        names: the groups that jobs name; an empty one is none.
    """
    groups = [group.name for group in store.read.group_limits()] if store else []
    reasons = []
    for name in names:
        if name and name not in groups:
            group, _, limit = name.partition("=")
            number = limit if limit.isdecimal() else "N"
            way = f". Create it: launcher group {group if limit.isdecimal() else name} --limit {number}"
            reasons.append(f"group {name!r} does not exist{meant(name, groups) or way}")
    return reasons


def check_possible(home: Home, resources: Resources) -> None:
    """Refuse requests above this machine's resources. GPUs are those that the scheduler saw, without the driver.

    Raises:
        UsageError: it is more than exists, or config.toml excludes it.
    """
    watched = resources.may_need_gpu and scheduler_pid(home) is not None
    look = read_gpu_status(home) if watched else None
    machine = Machine(
        cpus=cores_for_jobs(home),
        ram=memory.usable_bytes() or resources.ram or 0,
        gpus=look.gpus if look else (),
        rules=read_table(SHARING, os.environ),
    )
    job = Waiting(
        job=0,
        resources=resources,
        vram=resources.vram,
        visible=visible_devices(owners_environment(os.environ)),
    )
    if why := impossible_reason(job, machine):
        raise UsageError(f"this machine can never run it: {sanitize_terminal(why)}")


def absent_gpu_warning(home: Home, requests: Iterable[tuple[Resources, Terms]]) -> str:
    """Return a warning about jobs that need a GPU of this machine while none can be used; '' if there are none.

    For GPUs without memory of their own, return a note what memory counts.
    """
    on_gpu = [
        resources
        for resources, terms in requests
        if runs_only_here(terms) and resources.works_on_gpu(machine_has_gpu=False)
    ]
    waiting = len(on_gpu)
    if not waiting:
        return ""
    why, unified = _why_no_gpu_usable(home)
    if unified:
        return f"note: {unified} uses the main memory of the machine, {_unified_rule(on_gpu)}"
    if not why:
        return ""
    jobs = f"{pluralize(waiting, 'job')} {'waits' if waiting == 1 else 'wait'} for a GPU"
    remedy = (
        "Remove gpus, vram, exclusive and device to use the CPU, or choose a cluster with --on."
    )
    return f"warning: {sanitize_terminal(why)}. {jobs}. {remedy}"


def _unified_rule(jobs: Sequence[Resources]) -> str:
    """Return what holds for the memory of jobs on GPUs without memory of their own."""
    if any(asked.vram is not None for asked in jobs):
        return "so --vram reserves main memory"
    if all(asked.exclusive for asked in jobs):
        return "so --exclusive keeps away other jobs on the GPU, but no programs without GPU"
    return "so without --vram an estimate of main memory is reserved"


def _why_no_gpu_usable(home: Home) -> tuple[str, str]:
    """Return why no GPU of this machine can be used, '' if one can; and the GPUs if all have unified memory."""
    from launcher.queue.gpu.monitor import (
        query_gpus_once,  # the driver's library, which few commands need
    )
    from launcher.queue.gpu.nvml import Nvml, has_library

    runs, probe = scheduler_pid(home) is not None, Nvml()
    look = read_gpu_status(home) if runs else None
    if runs and look is None and has_library():
        # the scheduler asks the driver at once and reports the answer: two processes need not ask
        return "", ""
    try:
        gpus = look.gpus if look else query_gpus_once(probe.snapshot, timeout_s=DRIVER_TIMEOUT_S)
    except MachineError as error:
        return f"no GPU is visible on this machine: {error}", ""
    shown = visible_devices(owners_environment(os.environ))
    if visible := [gpu for gpu in gpus if shown is None or is_visible(gpu, shown)]:
        labels = ", ".join(gpu.label for gpu in visible)
        if all(gpu.shares_host_memory for gpu in visible):
            return "", labels
        if all(gpu.used is None and not gpu.fault for gpu in visible):
            return f"the driver does not report the used memory of {labels}", ""
        return "", ""
    hidden = "CUDA_VISIBLE_DEVICES hides all of them" if gpus else "the driver lists none"
    return f"no GPU is visible on this machine: {probe.absent or hidden}", ""
