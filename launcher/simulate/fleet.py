"""GPUs that exist on the command line only, and what is replayed on them: which jobs, when they come, what never fits.

GPUs are those of a machine, `8x24GiB`, or of several, `4x(2x24GiB)+8x80GiB`.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import NamedTuple, TypeVar

from launcher.errors import UsageError
from launcher.gpu.snapshot import GpuSnapshot
from launcher.simulate.trace import TraceJob
from launcher.units import format_bytes, parse_bytes

MOST_GPUS = 10_000  # more is a slip
LARGEST_BYTES = 16 * 1024**4  # a larger card is a slip, too
Card = TypeVar("Card")
_PART = re.compile(r"\s*([0-9]{1,6})\s*[x×*]\s*([^()\s][^()]*?)\s*")
_MACHINES = re.compile(r"\s*(?:([0-9]{1,6})\s*[x×*])?\s*\(([^()]*)\)\s*")
_PLUS = re.compile(r"\+(?![^(]*\))")  # outside of parentheses
_LIKE = "expected GPUs such as 8x24GiB or 2x80GiB+6x24GiB, of several machines 4x(2x24GiB)"


class Fleet(NamedTuple):
    """The GPUs of one machine or several, each by its place; a job has all of its GPUs on one machine."""

    totals: tuple[int, ...]  # bytes of memory, machine after machine
    sizes: tuple[int, ...] = ()  # GPUs of each machine; empty: one machine has all
    baseline: int = 0  # bytes that are in use on each of them when no job runs
    reserve: int = 0  # bytes of each that are left to others

    def __str__(self) -> str:
        texts = [_listed(machine) for machine in self._of_machines(self.totals)]
        if len(texts) == 1:
            return texts[0]
        runs = ((len([*alike]), text) for text, alike in groupby(texts))
        return "+".join(
            f"{number}x({text})" if number > 1 else f"({text})" for number, text in runs
        )

    def holding(self, vram: int) -> int:
        """Return how many GPUs of the machine that has most of these have so much memory for jobs."""
        machines = self._of_machines(self.room)
        return max(sum(total >= vram for total in machine) for machine in machines)

    @property
    def widest(self) -> int:
        """How many GPUs a job can have at most."""
        return max(self.sizes or (len(self.totals),))

    @property
    def room(self) -> tuple[int, ...]:
        """How many bytes of each GPU jobs can have."""
        return tuple(max(0, total - self.baseline - self.reserve) for total in self.totals)

    def snapshots(self) -> tuple[GpuSnapshot, ...]:
        """Return the GPUs as a driver would report them: no job runs on them."""
        return tuple(
            GpuSnapshot(
                uuid=f"GPU-{at}", index=at, name="simulated", total=total, used=self.baseline
            )
            for at, total in enumerate(self.totals)
        )

    def machines(self) -> Iterator[tuple[GpuSnapshot, ...]]:
        """Give the GPUs of each machine."""
        return self._of_machines(self.snapshots())

    def _of_machines(self, cards: Sequence[Card]) -> Iterator[tuple[Card, ...]]:
        first = 0
        for size in self.sizes or (len(cards),):
            yield tuple(cards[first : first + size])
            first += size


def read_fleet(text: str) -> Fleet:
    """Read what a person writes for the GPUs of a machine, or of several.

    GPUs that stand in no parentheses are those of one more machine, which comes first.

    Raises:
        UsageError: it is something else, names no GPU, or more than there can be.
    """
    here: list[int] = []
    machines: list[list[int]] = []
    for part in _PLUS.split(text):
        match = _MACHINES.fullmatch(part)
        if match is None:
            here += _gpus(part, text)
        else:
            number = int(match[1] or 1)
            gpus = [total for each in match[2].split("+") for total in _gpus(each, text)]
            if not number:
                raise UsageError(f"{part.strip()!r} is no machine at all: {_LIKE}")
            _check(number * len(gpus), text)
            machines += [gpus] * number
        _check(len(here) + sum(map(len, machines)), text)
    machines = [here, *machines] if here else machines
    totals = tuple(total for machine in machines for total in machine)
    return Fleet(totals=totals, sizes=tuple(map(len, machines)) if len(machines) > 1 else ())


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


def _listed(totals: Sequence[int]) -> str:
    """Return the GPUs of one machine as a person writes them."""
    runs = ((len([*alike]), total) for total, alike in groupby(totals))
    return "+".join(f"{number}x{format_bytes(total).replace(' ', '')}" for number, total in runs)


class Workload(NamedTuple):
    """The jobs of a replay, and how many had to be left out."""

    jobs: tuple[TraceJob, ...]
    too_many_gpus: int = 0  # jobs that ask for more than a machine has
    too_much_vram: int = 0  # for more memory than enough of its GPUs have
    orphaned: int = 0  # that need one of these

    @property
    def dropped(self) -> int:
        """How many jobs no policy is given."""
        return self.too_many_gpus + self.too_much_vram + self.orphaned


def choose(
    jobs: Sequence[TraceJob], *, first: int | None, all_at_once: bool, load: float
) -> tuple[TraceJob, ...]:
    """Return the first jobs, with the times at which they come.

    Args:
        jobs: in the order of their submission.
        first: how many; None: all.
        all_at_once: they come at the beginning, in their order.
        load: they come so many times as fast.
    """
    return tuple(
        replace(job, submitted=0.0 if all_at_once else job.submitted / load) for job in jobs[:first]
    )


def fit(jobs: Sequence[TraceJob], fleet: Fleet) -> Workload:
    """Leave out what no machine can ever hold, and what needs that; the same for all policies.

    Args:
        jobs: what is needed comes before what needs it.
        fleet: the GPUs; a job has all of its own on one machine.
    """
    kept: list[TraceJob] = []
    out: set[int] = set()
    many = much = orphaned = 0
    enough: dict[tuple[int, int], bool] = {}
    for job in jobs:
        key = (job.gpus, job.vram or 0)
        if key not in enough:
            enough[key] = fleet.holding(key[1]) >= job.gpus
        if job.gpus > fleet.widest:
            many += 1
        elif not enough[key]:
            much += 1
        elif not out.isdisjoint(job.needs):
            orphaned += 1
        else:
            kept.append(job)
            continue
        out.add(job.index)
    return Workload(jobs=tuple(kept), too_many_gpus=many, too_much_vram=much, orphaned=orphaned)
