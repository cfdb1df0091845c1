"""A pilot as the policy sees it: a machine of its own, on which some jobs cannot or must not start."""

from collections.abc import Mapping, Sequence
from math import inf, isfinite

from launcher.gpu.snapshot import GpuSnapshot
from launcher.pilots.messages import Beat, Hello
from launcher.scheduler.policy.model import Machine, Waiting
from launcher.store.rows import Lane
from launcher.units import format_seconds

MOST_CPUS = 100_000
LONGER = 1.5  # than it took before a job may take
NEARLY_ALL = 0.9  # of a pilot's time: while so much is left, it is as good as a new one


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


def left_s(until: float | None, now: float) -> float | None:
    """Return for how long a pilot is there still; None: its engine sets no end, or it is not known."""
    return None if until is None or not isfinite(until) else until - now


def whole_s(hello: Hello, until: float | None) -> float:
    """Return for how long a pilot is there from its beginning to its end; infinite where that is not known."""
    if until is None or hello.began is None or until <= hello.began:
        return inf
    return until - hello.began


def unfit(lane: Lane, job: Waiting, hello: Hello, until: float | None, now: float) -> str:
    """Return why a job must not start on a pilot, '' where it may.

    Args:
        lane: what it asks for.
        job: what its like took.
        hello: what the pilot has.
        until: when its engine ends it, in seconds since 1970; None: never, or that is not known.
        now: likewise.
    """
    if lane.resources.cpus > hello.cpus:  # it asked for them: with fewer it would not end in time
        return f"needs {lane.resources.cpus} cores, and this pilot has {hello.cpus}"
    if lane.resources.works_on_gpu(there=bool(hello.gpus)) and not hello.gpus:
        return "needs a GPU, and this pilot has none"
    needed, left = runs_s(lane, job), left_s(until, now)
    if needed is None or left is None or needed <= left:
        return ""
    if lane.limit is None and left >= NEARLY_ALL * whole_s(hello, until):
        return ""  # a guess: no later pilot is there for longer, and what a job saves goes on elsewhere
    ends = f"this pilot ends in {format_seconds(round(max(0.0, left)))}"
    if lane.limit is not None:
        return f"may run for {format_seconds(round(needed))}, and {ends}"
    return f"is expected to run for up to {format_seconds(round(needed))}, and {ends}"
