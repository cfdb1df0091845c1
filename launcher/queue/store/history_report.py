"""Report on the past activity of a queue: jobs per day, usage of runs and nodes, unused requested memory."""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from operator import add
from typing import NamedTuple, TypeVar

from launcher.queue.jobs.states import State
from launcher.queue.store.failure_groups import FailureGroup
from launcher.queue.store.usage import margin_of
from launcher.system.units import format_bytes

GIB = 1 << 30
HOUR_S = 3600.0
_ROUNDING = 1e-6  # fraction of a tenth of a GiB
_MIN_SAVING = 0.1  # fraction of the request; such a reduction leaves room for another job


class NodeSummary(NamedTuple):
    """Activity on a node."""

    node: str
    backend: str
    attempts: int = 0
    done: int = 0
    gpu_seconds: float = 0.0  # time on each of their GPUs, summed
    core_seconds: float = 0.0


class EndCount(NamedTuple):
    """Jobs of a run that came to the same end on a day."""

    run: str
    day: str  # local, such as 2026-11-20
    state: State
    jobs: int


class UsageTotal(NamedTuple):
    """Attempts of a run on one pilot that began and ended on one day, or a single attempt."""

    run: str
    begun: float
    ended: float
    attempts: int
    gpu_s: float  # seconds of each of their GPUs
    core_s: float  # seconds of each of their cores
    pilot: str = ""  # token of the pilot; '': this machine
    done: int = 0


class ReservationUsage(NamedTuple):
    """Attempts of similar jobs with the same reserved GPU memory."""

    signature: str  # signature of these jobs
    name: str  # name of the newest job
    job: int  # number of the newest job
    declared: bool  # True if the memory was declared, False if it came from earlier attempts
    vram: int  # bytes, on each GPU
    attempts: int
    peak: int  # bytes that one of them took at most
    wasted_byte_s: float  # byte-seconds that were reserved and not used
    exceeded: int  # attempts that took more


class DaySummary(NamedTuple):
    """Ends of a day, and usage on it."""

    day: str
    done: int = 0
    failed: int = 0
    cancelled: int = 0
    skipped: int = 0
    gpu_seconds: float = 0.0
    core_seconds: float = 0.0
    median_seconds: float | None = None  # median of the attempts that were done; None: none was


class RunSummary(NamedTuple):
    """Results and usage of a run."""

    run: str
    jobs: int = 0  # jobs that ended
    done: int = 0
    failed: int = 0
    attempts: int = 0
    gpu_seconds: float = 0.0
    core_seconds: float = 0.0


class MemorySummary(NamedTuple):
    """Reserved and used GPU memory of similar jobs."""

    name: str
    job: int
    attempts: int
    declared: bool
    asked: int  # bytes, the middle one
    peak: int  # bytes, the largest
    beyond: int  # attempts that used more than their reservation
    wasted_gib_hours: float
    ask: int | None = None  # recommended request; None: no change, or not set by the owner

    @property
    def hint(self) -> str:
        """Recommended change of the request in words, empty if there is none."""
        if self.ask is None:
            return ""
        return f"request {format_bytes(self.ask)} instead of {format_bytes(self.asked)}"


def suggest_request(requested_bytes: int, peak: int) -> int | None:
    """Return how many bytes to ask for next time, None if the request was good."""
    needed = peak + margin_of(peak)
    tenths = math.ceil(needed * 10 / GIB - _ROUNDING)  # people write tenths of GiB
    next_time = round(tenths * GIB / 10)
    return (
        next_time
        if peak > requested_bytes or requested_bytes - next_time >= requested_bytes * _MIN_SAVING
        else None
    )


class HistoryReport(NamedTuple):
    """The whole report; the newest, or the most costly, comes first."""

    days: tuple[DaySummary, ...] = ()
    runs: tuple[RunSummary, ...] = ()
    causes: tuple[FailureGroup, ...] = ()
    memory: tuple[MemorySummary, ...] = ()
    nodes: tuple[NodeSummary, ...] = ()


def summarize_days(
    ends: Iterable[EndCount], usages: Iterable[UsageTotal], medians: Iterable[tuple[str, float]]
) -> tuple[DaySummary, ...]:
    """Return each day on which something ended or ran, the newest first."""
    days: dict[str, DaySummary] = {}

    def count(day: str, **more: float) -> None:
        days[day] = _add_amounts(days.get(day) or DaySummary(day), more)

    for _, day, state, jobs in ends:
        count(day, **{state.value: jobs})
    for used in usages:
        for day, share in _split_by_day(used.begun, used.ended):
            count(day, gpu_seconds=share * used.gpu_s, core_seconds=share * used.core_s)
    for day, seconds in medians:
        days[day] = (days.get(day) or DaySummary(day))._replace(median_seconds=seconds)
    return tuple(days[day] for day in sorted(days, reverse=True))


def summarize_runs(
    ends: Iterable[EndCount], usages: Iterable[UsageTotal]
) -> tuple[RunSummary, ...]:
    """Return each run of which something ended or ran, the one that did so last first."""
    runs: dict[str, RunSummary] = defaultdict(lambda: RunSummary(""))
    newest: dict[str, float] = defaultdict(float)
    for used in usages:
        amounts = {
            "attempts": used.attempts,
            "gpu_seconds": used.gpu_s,
            "core_seconds": used.core_s,
        }
        runs[used.run] = _add_amounts(runs[used.run], amounts)
        newest[used.run] = max(newest[used.run], used.ended)
    for run, _, state, jobs in ends:
        counted = {"jobs", state.value} & {*RunSummary._fields}
        runs[run] = _add_amounts(runs[run], dict.fromkeys(counted, jobs))
    ordered = sorted(runs, key=lambda run: (-newest[run], run))
    return tuple(runs[run]._replace(run=run) for run in ordered)


def summarize_nodes(
    usages: Iterable[UsageTotal], node_by_pilot: Mapping[str, tuple[str, str]]
) -> tuple[NodeSummary, ...]:
    """Return what ran on each node, the one with most core-hours first.

    Args:
        usages: usages by all attempts.
        node_by_pilot: backend and node of each pilot by its token, and of this machine by ''.
    """
    nodes: dict[tuple[str, str], NodeSummary] = {}
    for used in usages:
        backend, node = place = node_by_pilot.get(used.pilot, ("", ""))
        before = nodes.get(place) or NodeSummary(node=node, backend=backend)
        amounts = (used.attempts, used.done, used.gpu_s, used.core_s)
        nodes[place] = NodeSummary(node, backend, *map(add, before[2:], amounts))
    return tuple(sorted(nodes.values(), key=lambda use: (-use.core_seconds, use.backend, use.node)))


SummaryRow = TypeVar("SummaryRow", DaySummary, RunSummary)


def _add_amounts(row: SummaryRow, amounts: Mapping[str, float]) -> SummaryRow:
    """Return a row with some of its columns larger by these amounts."""
    return row._replace(**{name: getattr(row, name) + more for name, more in amounts.items()})


def summarize_memory(reservations: Iterable[ReservationUsage]) -> tuple[MemorySummary, ...]:
    """Return what jobs alike asked of GPUs and took, what went beyond first, then by what was wasted."""
    alike: dict[str, list[ReservationUsage]] = defaultdict(list)
    for attempts in reservations:
        alike[attempts.signature].append(attempts)
    memories = []
    for those in alike.values():
        newest = max(those, key=lambda attempts: attempts.job)
        asked, peak = _median_reservation(those), max(attempts.peak for attempts in those)
        memories.append(
            MemorySummary(
                name=newest.name,
                job=newest.job,
                attempts=sum(attempts.attempts for attempts in those),
                declared=newest.declared,
                asked=asked,
                peak=peak,
                beyond=sum(attempts.exceeded for attempts in those),
                wasted_gib_hours=sum(attempts.wasted_byte_s for attempts in those) / GIB / HOUR_S,
                ask=suggest_request(asked, peak) if newest.declared else None,
            )
        )
    return tuple(
        sorted(memories, key=lambda each: (not each.beyond, -each.wasted_gib_hours, -each.job))
    )


def _median_reservation(reservations: Sequence[ReservationUsage]) -> int:
    """Return the claim of the attempt in the middle; of two, the smaller one."""
    left = (sum(attempts.attempts for attempts in reservations) + 1) // 2
    for attempts in sorted(reservations, key=lambda attempts: attempts.vram):
        left -= attempts.attempts
        if left <= 0:
            return attempts.vram
    raise ValueError("there is no attempt")


def _split_by_day(start_time: float, end_time: float) -> Iterator[tuple[str, float]]:
    """Yield each local day of a stretch of time, and the day's share of it."""
    at = start_time
    while True:
        local = datetime.fromtimestamp(at).astimezone()
        midnight = local.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
        # Without a time zone: the next day may have another UTC offset and be an hour longer.
        # A midnight that a change of the clocks skips or repeats is one of two moments (`fold`).
        midnights = [
            (midnight + timedelta(days=1)).replace(fold=fold).timestamp() for fold in (0, 1)
        ]
        next_day = min(
            moment
            for moment in midnights
            if datetime.fromtimestamp(moment).astimezone().date() > local.date()
        )
        upto = min(end_time, next_day)
        yield (
            f"{local:%Y-%m-%d}",
            (upto - at) / (end_time - start_time) if end_time > start_time else 1.0,
        )
        if end_time <= next_day:
            return
        at = next_day
