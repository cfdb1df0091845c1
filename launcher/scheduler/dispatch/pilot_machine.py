"""A pilot as the policy sees it: a machine of its own, on which some jobs cannot or must not start."""

from collections.abc import Mapping, Sequence
from math import isfinite

from launcher.backends.settings import BackendSettings
from launcher.gpu.snapshot import GpuSnapshot
from launcher.job import Resources
from launcher.pilots.messages import Beat, Hello
from launcher.scheduler.policy.model import Machine, Waiting
from launcher.store.lanes import Lane
from launcher.units import format_bytes, format_seconds

MOST_CPUS = 100_000
LONGER = 1.5  # than it took before a job may take


def machine_of(
    hello: Hello, beat: Beat | None, gpus: Sequence[GpuSnapshot], limits: Mapping[str, int]
) -> Machine:
    """Return a pilot as a machine; nothing of it is another user's.

    Args:
        hello: what it has.
        beat: what it told last.
        gpus: as they are now.
        limits: of groups.
    """
    ram = max(0, hello.ram)
    free = beat.ram_free if beat is not None and beat.ram_free > 0 else ram
    return Machine(
        cpus=max(0, min(hello.cpus, MOST_CPUS)),
        ram=ram,
        ram_free=free,
        gpus=tuple(gpus),
        absent="" if gpus else "its pilot has no GPU",
        limits=limits,
    )


def runs_s(lane: Lane, job: Waiting) -> float | None:
    """Return for how long a pilot must be there still for a job: its limit, or what its like took; None: unknown."""
    return lane.limit if lane.limit is not None else job.seconds and LONGER * job.seconds


def left_s(hello: Hello, now: float) -> float | None:
    """Return for how long a pilot is there still; None: its engine sets no end, or it is not known."""
    return None if hello.until is None or not isfinite(hello.until) else hello.until - now


def unfit(lane: Lane, job: Waiting, hello: Hello, now: float) -> str:
    """Return why a job must not start on a pilot, '' where it may."""
    if lane.resources.cpus > hello.cpus:  # it asked for them: with fewer it would not end in time
        return f"needs {lane.resources.cpus} cores, and this pilot has {hello.cpus}"
    needed, left = runs_s(lane, job), left_s(hello, now)
    if needed is None or left is None or needed <= left:
        return ""
    ends = f"this pilot ends in {format_seconds(round(max(0.0, left)))}"
    if lane.limit is not None:
        return f"may run for {format_seconds(round(needed))}, and {ends}"
    return f"is expected to run for up to {format_seconds(round(needed))}, and {ends}"


def never_fits(asked: Resources, limit: float | None, settings: BackendSettings) -> str:
    """Return why no pilot of a backend can ever hold a job, '' where one can; says what to change."""
    table = f"[backends.{settings.name}]"
    if asked.cpus > settings.cpus:
        return (
            f"needs {asked.cpus} cores, and a pilot of {settings.name} has {settings.cpus}; "
            f"raise `cpus` in {table}"
        )
    gpus = asked.gpus if asked.works_on_gpu(there=settings.gpus > 0) else 0
    if gpus > settings.gpus:
        return (
            f"needs {gpus} GPU{'s' * (gpus > 1)}, and a pilot of {settings.name} has {settings.gpus}; "
            f"raise `gpus` in {table}"
        )
    if asked.ram is not None and settings.memory is not None and asked.ram > settings.memory:
        return (
            f"needs {format_bytes(asked.ram)} of memory, and a pilot of {settings.name} has "
            f"{format_bytes(settings.memory)}; raise `memory` in {table}"
        )
    if limit is not None and settings.time_s is not None and limit >= settings.time_s:
        return (
            f"may run for {format_seconds(limit)}, and a pilot of {settings.name} is there for "
            f"{format_seconds(settings.time_s)}; raise `time` in {table}, or lower its time limit"
        )
    return ""


def slots(asked: Resources, settings: BackendSettings) -> int:
    """Return how many such jobs one pilot runs at once, at least; 1 where one of its GPUs is needed."""
    by_cpus = settings.cpus // max(1, asked.cpus)
    if asked.ram and settings.memory:
        by_cpus = min(by_cpus, settings.memory // asked.ram)
    if asked.works_on_gpu(there=settings.gpus > 0) and settings.gpus:
        by_cpus = min(by_cpus, settings.gpus // max(1, asked.gpus))
    return max(1, by_cpus)
