"""What a queue did, as a report: jobs a day, what runs and nodes took, memory that was asked in vain."""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from operator import add
from typing import NamedTuple, TypeVar

from launcher.states import State
from launcher.store.failure_groups import FailureGroup
from launcher.store.usage import margin_of
from launcher.units import format_bytes

GIB = 1 << 30
HOUR_S = 3600.0
_DUST = 1e-6  # of a tenth of a GiB
_WORTH = 0.1  # of what was asked: who asks for so much less leaves room for another job


class NodeUse(NamedTuple):
    """What ran on a node."""

    node: str
    backend: str
    attempts: int = 0
    done: int = 0
    gpu_seconds: float = 0.0  # of each of their GPUs
    core_seconds: float = 0.0


class Ends(NamedTuple):
    """Jobs of a run that came to the same end on a day."""

    run: str
    day: str  # local, such as 2026-11-20
    state: State
    jobs: int


class Spent(NamedTuple):
    """Attempts of a run on one pilot that began and ended on one day; else a single attempt."""

    run: str
    begun: float
    ended: float
    attempts: int
    gpu_s: float  # seconds of each of their GPUs
    core_s: float  # seconds of each of their cores
    pilot: str = ""  # its token; '': this machine
    done: int = 0


class Taken(NamedTuple):
    """Attempts of jobs alike that were promised the same memory of a GPU."""

    alike: str  # what tells these jobs from others
    name: str  # of the newest job
    job: int  # its number
    declared: bool  # its owner said how much; else that was learned from those before
    reservation: int  # bytes, on each GPU
    attempts: int
    peak: int  # bytes that one of them took at most
    wasted: float  # byte-seconds that were promised and not taken
    beyond: int  # attempts that took more


class Day(NamedTuple):
    """What ended on a day, and what ran on it."""

    day: str
    done: int = 0
    failed: int = 0
    cancelled: int = 0
    skipped: int = 0
    gpu_seconds: float = 0.0
    core_seconds: float = 0.0
    median_seconds: float | None = None  # of the attempts that were done; None: none was


class Run(NamedTuple):
    """What became of a run, and what it took."""

    run: str
    jobs: int = 0  # that ended
    done: int = 0
    failed: int = 0
    attempts: int = 0
    gpu_seconds: float = 0.0
    core_seconds: float = 0.0


class Memory(NamedTuple):
    """What jobs alike were promised of a GPU's memory, and what they took."""

    name: str
    job: int
    attempts: int
    declared: bool
    asked: int  # bytes, the middle one
    peak: int  # bytes, the largest
    beyond: int  # attempts that took more than they were promised
    wasted_gib_hours: float
    ask: int | None = None  # what its owner should ask for; None: it is well, or not for him to say

    @property
    def hint(self) -> str:
        """What to ask next time, in words; empty: nothing else."""
        if self.ask is None:
            return ""
        return f"request {format_bytes(self.ask)} instead of {format_bytes(self.asked)}"


def better(asked: int, peak: int) -> int | None:
    """Return how many bytes to ask for next time, None where what was asked is well."""
    needed = peak + margin_of(peak)
    tenths = math.ceil(needed * 10 / GIB - _DUST)  # so people write it
    next_time = round(tenths * GIB / 10)
    return next_time if peak > asked or asked - next_time >= asked * _WORTH else None


class Past(NamedTuple):
    """The whole report; the newest, or the most costly, comes first."""

    days: tuple[Day, ...] = ()
    runs: tuple[Run, ...] = ()
    causes: tuple[FailureGroup, ...] = ()
    memory: tuple[Memory, ...] = ()
    nodes: tuple[NodeUse, ...] = ()


def days_of(
    ends: Iterable[Ends], spent: Iterable[Spent], medians: Iterable[tuple[str, float]]
) -> tuple[Day, ...]:
    """Return each day on which something ended or ran, the newest first."""
    days: dict[str, Day] = {}

    def count(day: str, **more: float) -> None:
        days[day] = _grown(days.get(day) or Day(day), more)

    for _, day, state, jobs in ends:
        count(day, **{state.value: jobs})
    for used in spent:
        for day, share in _shares(used.begun, used.ended):
            count(day, gpu_seconds=share * used.gpu_s, core_seconds=share * used.core_s)
    for day, seconds in medians:
        days[day] = (days.get(day) or Day(day))._replace(median_seconds=seconds)
    return tuple(days[day] for day in sorted(days, reverse=True))


def runs_of(ends: Iterable[Ends], spent: Iterable[Spent]) -> tuple[Run, ...]:
    """Return each run of which something ended or ran, the one that did so last first."""
    runs: dict[str, Run] = defaultdict(lambda: Run(""))
    newest: dict[str, float] = defaultdict(float)
    for used in spent:
        amounts = {
            "attempts": used.attempts,
            "gpu_seconds": used.gpu_s,
            "core_seconds": used.core_s,
        }
        runs[used.run] = _grown(runs[used.run], amounts)
        newest[used.run] = max(newest[used.run], used.ended)
    for run, _, state, jobs in ends:
        counted = {"jobs", state.value} & {*Run._fields}
        runs[run] = _grown(runs[run], dict.fromkeys(counted, jobs))
    ordered = sorted(runs, key=lambda run: (-newest[run], run))
    return tuple(runs[run]._replace(run=run) for run in ordered)


def nodes_of(spent: Iterable[Spent], places: Mapping[str, tuple[str, str]]) -> tuple[NodeUse, ...]:
    """Return what ran on each node, the one with most core-hours first.

    Args:
        spent: by all attempts.
        places: backend and node of each pilot by its token, and of this machine by ''.
    """
    nodes: dict[tuple[str, str], NodeUse] = {}
    for used in spent:
        backend, node = place = places.get(used.pilot, ("", ""))
        before = nodes.get(place) or NodeUse(node=node, backend=backend)
        amounts = (used.attempts, used.done, used.gpu_s, used.core_s)
        nodes[place] = NodeUse(node, backend, *map(add, before[2:], amounts))
    return tuple(sorted(nodes.values(), key=lambda use: (-use.core_seconds, use.backend, use.node)))


R = TypeVar("R", Day, Run)


def _grown(row: R, amounts: Mapping[str, float]) -> R:
    """Return a row with some of its columns larger by these amounts."""
    return row._replace(**{name: getattr(row, name) + more for name, more in amounts.items()})


def memory_of(taken: Iterable[Taken]) -> tuple[Memory, ...]:
    """Return what jobs alike asked of GPUs and took, what went beyond first, then by what was wasted."""
    alike: dict[str, list[Taken]] = defaultdict(list)
    for attempts in taken:
        alike[attempts.alike].append(attempts)
    memories = []
    for those in alike.values():
        newest = max(those, key=lambda attempts: attempts.job)
        asked, peak = _middle(those), max(attempts.peak for attempts in those)
        memories.append(
            Memory(
                name=newest.name,
                job=newest.job,
                attempts=sum(attempts.attempts for attempts in those),
                declared=newest.declared,
                asked=asked,
                peak=peak,
                beyond=sum(attempts.beyond for attempts in those),
                wasted_gib_hours=sum(attempts.wasted for attempts in those) / GIB / HOUR_S,
                ask=better(asked, peak) if newest.declared else None,
            )
        )
    return tuple(
        sorted(memories, key=lambda each: (not each.beyond, -each.wasted_gib_hours, -each.job))
    )


def _middle(those: Sequence[Taken]) -> int:
    """Return the claim of the attempt in the middle; of two, the smaller one."""
    left = (sum(attempts.attempts for attempts in those) + 1) // 2
    for attempts in sorted(those, key=lambda attempts: attempts.reservation):
        left -= attempts.attempts
        if left <= 0:
            return attempts.reservation
    raise ValueError("there is no attempt")


def _shares(begun: float, ended: float) -> Iterator[tuple[str, float]]:
    """Yield each local day of a stretch of time, and the day's share of it."""
    at = begun
    while True:
        local = datetime.fromtimestamp(at).astimezone()
        midnight = local.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
        # without a zone: the next day may have another one, and be an hour longer; and a midnight
        # that a change of the clocks leaves out, or repeats, is one of two moments
        midnights = [
            (midnight + timedelta(days=1)).replace(fold=fold).timestamp() for fold in (0, 1)
        ]
        next_day = min(
            moment
            for moment in midnights
            if datetime.fromtimestamp(moment).astimezone().date() > local.date()
        )
        upto = min(ended, next_day)
        yield f"{local:%Y-%m-%d}", (upto - at) / (ended - begun) if ended > begun else 1.0
        if ended <= next_day:
            return
        at = next_day
