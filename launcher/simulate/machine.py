"""GPUs that exist on the command line only, and which jobs they can hold at all.

GPUs are those of a machine, `8x24GiB`, or of several, `4x(2x24GiB)+8x80GiB`.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import count, groupby
from typing import NamedTuple, TypeVar

from launcher.errors import UsageError
from launcher.gpu.snapshot import GpuSnapshot
from launcher.simulate.trace import TraceJob
from launcher.units import format_bytes, parse_bytes

MOST_GPUS = 10_000  # more is a slip
LARGEST_BYTES = 16 * 1024**4  # a larger card is a slip, too
Value = TypeVar("Value")
_PART = re.compile(r"\s*([0-9]{1,6})\s*[x×*]\s*([^()\s][^()]*?)\s*")
_MACHINES = re.compile(r"\s*(?:([0-9]{1,6})\s*[x×*])?\s*\(([^()]*)\)\s*")
_PLUS = re.compile(r"\+(?![^(]*\))")  # outside of parentheses
_LIKE = "expected GPUs such as 8x24GiB or 2x80GiB+6x24GiB, of several machines 4x(2x24GiB)"


class Fleet(NamedTuple):
    """The GPUs of one machine or several; a job has all of its GPUs on one machine."""

    machines: tuple[tuple[int, ...], ...]  # bytes of memory of each GPU
    baseline: int = 0  # bytes that are in use on each of them when no job runs
    reserve: int = 0  # bytes of each that are left to others

    def __str__(self) -> str:
        if len(self.machines) == 1:
            return _listed(self.machines[0])
        return "+".join(
            f"{number}x({_listed(machine)})" if number > 1 else f"({_listed(machine)})"
            for number, machine in _runs(self.machines)
        )

    @property
    def totals(self) -> tuple[int, ...]:
        """The bytes of each GPU, machine after machine."""
        return tuple(total for machine in self.machines for total in machine)

    @property
    def room(self) -> tuple[int, ...]:
        """How many bytes of each GPU jobs can have."""
        return tuple(max(0, total - self.baseline - self.reserve) for total in self.totals)

    @property
    def widest(self) -> int:
        """How many GPUs a job can have at most."""
        return max(map(len, self.machines))

    def holding(self, vram: int) -> int:
        """Return how many GPUs of the machine that has most of these have so much memory for jobs."""
        taken = self.baseline + self.reserve
        return max(
            sum(max(0, total - taken) >= vram for total in machine) for machine in self.machines
        )

    def gpus(self) -> list[tuple[GpuSnapshot, ...]]:
        """Return the GPUs of each machine as a driver would report them: no job runs on them."""
        number = count()
        return [
            tuple(
                GpuSnapshot(
                    uuid=f"GPU-{at}", index=at, name="simulated", total=total, used=self.baseline
                )
                for total, at in zip(machine, number, strict=False)
            )
            for machine in self.machines
        ]


def read_fleet(text: str) -> Fleet:
    """Read what a person writes for the GPUs of a machine, or of several.

    GPUs that stand in no parentheses are those of one more machine, which comes first.

    Raises:
        UsageError: it is something else, names no GPU, or more than there can be.
    """
    here: tuple[int, ...] = ()
    machines: list[tuple[int, ...]] = []
    for part in _PLUS.split(text):
        match = _MACHINES.fullmatch(part)
        number = int(match[1] or 1) if match else 1
        each = match[2].split("+") if match else [part]
        gpus = tuple(total for some in each for total in _gpus(some, text))
        if not number:
            raise UsageError(f"{part.strip()!r} is no machine at all: {_LIKE}")
        _check(len(here) + sum(map(len, machines)) + number * len(gpus), text)
        if match:
            machines += [gpus] * number
        else:
            here += gpus
    return Fleet(tuple([here, *machines] if here else machines))


def _gpus(part: str, text: str) -> list[int]:
    """Return the bytes of each of the GPUs that a part such as `8x24GiB` names."""
    match = _PART.fullmatch(part)
    if match is None:
        raise UsageError(f"{_LIKE}, got {text!r}")
    number, size = int(match[1]), parse_bytes(match[2])
    if not number or not size:
        raise UsageError(f"{part.strip()!r} is no GPU at all: {_LIKE}")
    if size > LARGEST_BYTES:
        raise UsageError(f"no GPU has {format_bytes(size)}: {_LIKE}")
    _check(number, text)
    return [size] * number


def _check(number: int, text: str) -> None:
    if number > MOST_GPUS:
        raise UsageError(f"at most {MOST_GPUS:,} GPUs can be simulated, got {text!r}")


def _listed(machine: Sequence[int]) -> str:
    """Return the GPUs of one machine as a person writes them."""
    return "+".join(
        f"{number}x{format_bytes(total).replace(' ', '')}" for number, total in _runs(machine)
    )


def _runs(values: Sequence[Value]) -> Iterator[tuple[int, Value]]:
    """Give how many alike stand one after the other, and such a one."""
    return ((len([*alike]), value) for value, alike in groupby(values))


class Workload(NamedTuple):
    """The jobs of a replay, and how many had to be left out."""

    jobs: tuple[TraceJob, ...]
    too_many_gpus: int = 0  # jobs that ask for more than a machine has
    too_much_vram: int = 0  # for more memory than enough of its GPUs have
    orphaned: int = 0  # that need one of these


def fit(jobs: Sequence[TraceJob], fleet: Fleet) -> Workload:
    """Leave out what no machine can ever hold, and what needs that; the same for all policies.

    Args:
        jobs: what is needed comes before what needs it.
        fleet: the GPUs.
    """
    kept: list[TraceJob] = []
    out: set[int] = set()
    many = much = orphaned = 0
    holding = {vram: fleet.holding(vram) for vram in {job.vram or 0 for job in jobs}}
    for job in jobs:
        if job.gpus > fleet.widest:
            many += 1
        elif job.gpus > holding[job.vram or 0]:
            much += 1
        elif not out.isdisjoint(job.needs):
            orphaned += 1
        else:
            kept.append(job)
            continue
        out.add(job.index)
    return Workload(tuple(kept), many, much, orphaned)
