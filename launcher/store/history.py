"""What a queue did: jobs a day, what runs and nodes took, why attempts failed, memory that was asked in vain.

Attempts that were not done are shown in groups that failed alike.
"""

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from launcher.states import ReasonCode, State
from launcher.store.usage import margin_of
from launcher.system.files import Json
from launcher.units import format_bytes

ERROR_LENGTH = 200  # characters of an error that tell it from others
_NUMBER = re.compile(r"(exit code \d+)|0[xX][0-9a-fA-F]+|\d+(?:[.,]\d+)*(?:[eE][-+]?\d+)?")
_NAMES: Mapping[ReasonCode, str] = {
    ReasonCode.CANCELLED: "cancelled",
    ReasonCode.FAILED: "failed",
    ReasonCode.GPU_FAULT: "GPU fault",
    ReasonCode.LOST: "lost",
    ReasonCode.NOT_STARTED: "not started",
    ReasonCode.OUT_OF_MEMORY: "out of memory",
    ReasonCode.STOPPED: "stopped",
    ReasonCode.TIME_LIMIT: "time limit",
}
_WHOSE = {"ours": ", its own", "neighbour": ", a neighbour's", "machine": ", the machine's"}


class FailedAttempts(NamedTuple):
    """Attempts that were not done, and of which the same is on record."""

    code: ReasonCode
    job: int  # the newest of them
    at: float  # when that ended
    where: str = ""  # which memory was missing: "gpu" or "ram"
    whose: str = ""  # fault that was: "ours", "neighbour" or "machine"; empty: nobody could tell
    fault: str = ""  # of a GPU
    requeued: bool = False  # their jobs were queued again at no cost
    error: str = ""  # or why they were lost
    attempts: int = 1
    seconds: float = 0.0


class FailureGroup(NamedTuple):
    """Attempts that failed alike."""

    code: ReasonCode
    detail: str  # what tells the group from others of its code
    attempts: int
    seconds: float  # that they had run
    job: int  # the newest of them
    at: float

    @property
    def name(self) -> str:
        """What people call such a failure."""
        return _NAMES.get(self.code, self.code.replace("-", " "))

    @property
    def text(self) -> str:
        """What people call it, with what tells it from others."""
        return f"{self.name}: {self.detail}" if self.detail else self.name

    def values(self) -> dict[str, Json]:
        """Return the group for programs."""
        return {
            "cause": self.name,
            "reason_code": self.code,
            "detail": self.detail,
            "attempts": self.attempts,
            "seconds": round(self.seconds, 3),
            "job": self.job,
        }


def failure_groups(failed: Iterable[FailedAttempts]) -> tuple[FailureGroup, ...]:
    """Return the groups of attempts that failed alike, what cost the most time first."""
    groups: dict[tuple[ReasonCode, str], FailureGroup] = {}
    for attempts in failed:
        group = group_of(attempts)
        key = group.code, group.detail
        groups[key] = _joined(groups[key], group) if key in groups else group
    return tuple(
        sorted(groups.values(), key=lambda group: (-group.seconds, -group.attempts, -group.at))
    )


def group_of(failed: FailedAttempts) -> FailureGroup:
    """Return the group of attempts of which the same is on record."""
    return FailureGroup(
        code=failed.code,
        detail=_detail(failed),
        attempts=failed.attempts,
        seconds=failed.seconds,
        job=failed.job,
        at=failed.at,
    )


def _joined(group: FailureGroup, other: FailureGroup) -> FailureGroup:
    at, job = max((group.at, group.job), (other.at, other.job))
    return group._replace(
        attempts=group.attempts + other.attempts,
        seconds=group.seconds + other.seconds,
        at=at,
        job=job,
    )


def _detail(failed: FailedAttempts) -> str:
    """Return what tells attempts from others of the same code; empty: nothing."""
    match failed.code:
        case ReasonCode.OUT_OF_MEMORY:
            memory = "main memory" if failed.where == "ram" else "a GPU's memory"
            return f"{memory}{_WHOSE.get(failed.whose, '')}"
        case ReasonCode.GPU_FAULT:
            return _without_numbers(failed.fault)
        case ReasonCode.FAILED | ReasonCode.LOST:
            return _without_numbers(failed.error)
        case ReasonCode.STOPPED if failed.requeued:
            return "with the queue"
    return ""


def _without_numbers(text: str) -> str:
    """Return an error without what sets it apart from others of its sort; an exit code stays."""
    line = text.partition("\n")[0][:ERROR_LENGTH]
    return _NUMBER.sub(lambda number: number[1] or "#", line).strip()


class PilotUse(NamedTuple):
    """Attempts of one pilot, or of this machine."""

    pilot: str  # its token; '': this machine
    attempts: int
    done: int
    gpu_s: float  # seconds of each of their GPUs
    cpu_s: float  # seconds of each of their cores


class NodeUse(NamedTuple):
    """What ran on a node."""

    node: str
    backend: str
    attempts: int = 0
    done: int = 0
    gpu_hours: float = 0.0
    cpu_hours: float = 0.0

    def values(self) -> dict[str, Json]:
        """Return the node for programs."""
        return {
            "node": self.node,
            "backend": self.backend,
            "attempts": self.attempts,
            "done": self.done,
            "gpu_seconds": round(self.gpu_hours * HOUR_S, 3),
            "core_seconds": round(self.cpu_hours * HOUR_S, 3),
        }


def nodes_of(
    uses: Iterable[PilotUse], places: Mapping[str, tuple[str, str]]
) -> tuple[NodeUse, ...]:
    """Return what ran on each node, the one with most core-hours first.

    Args:
        uses: by pilot.
        places: backend and node of each pilot by its token, and of this machine by ''.
    """
    nodes: dict[tuple[str, str], NodeUse] = {}
    for use in uses:
        backend, node = place = places.get(use.pilot, ("", ""))
        so_far = nodes.get(place) or NodeUse(node=node, backend=backend)
        nodes[place] = so_far._replace(
            attempts=so_far.attempts + use.attempts,
            done=so_far.done + use.done,
            gpu_hours=so_far.gpu_hours + use.gpu_s / HOUR_S,
            cpu_hours=so_far.cpu_hours + use.cpu_s / HOUR_S,
        )
    return tuple(sorted(nodes.values(), key=lambda use: (-use.cpu_hours, use.backend, use.node)))


GIB = 1 << 30
HOUR_S = 3600.0
_DUST = 1e-6  # of a tenth of a GiB
_WORTH = 0.1  # of what was asked: who asks for so much less leaves room for another job


# --- what the queue has on record, as far as it is summed up already


class Ends(NamedTuple):
    """Jobs of a run that came to the same end on a day."""

    run: str
    day: str  # local, such as 2026-11-20
    state: State
    jobs: int


class Spent(NamedTuple):
    """Attempts of a run that began and ended on one day; else a single attempt."""

    run: str
    begun: float
    ended: float
    attempts: int
    gpu_s: float  # seconds of each of their GPUs
    cpu_s: float  # seconds of each of their cores


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


# --- what the report shows


class Day(NamedTuple):
    """What ended on a day, and what ran on it."""

    day: str
    done: int = 0
    failed: int = 0
    cancelled: int = 0
    skipped: int = 0
    gpu_hours: float = 0.0
    cpu_hours: float = 0.0
    median_s: float | None = None  # of the attempts that were done; None: none was

    def values(self) -> dict[str, Json]:
        """Return the day for programs."""
        return {
            "day": self.day,
            "done": self.done,
            "failed": self.failed,
            "cancelled": self.cancelled,
            "skipped": self.skipped,
            "gpu_seconds": round(self.gpu_hours * HOUR_S, 3),
            "core_seconds": round(self.cpu_hours * HOUR_S, 3),
            "median_seconds": None if self.median_s is None else round(self.median_s, 3),
        }


class Run(NamedTuple):
    """What became of a run, and what it took."""

    run: str
    jobs: int = 0  # that ended
    done: int = 0
    failed: int = 0
    attempts: int = 0
    gpu_hours: float = 0.0
    cpu_hours: float = 0.0
    at: float = 0.0  # when it last had something that ran

    def values(self) -> dict[str, Json]:
        """Return the run for programs."""
        return {
            "run": self.run,
            "jobs": self.jobs,
            "done": self.done,
            "failed": self.failed,
            "attempts": self.attempts,
            "gpu_seconds": round(self.gpu_hours * HOUR_S, 3),
            "core_seconds": round(self.cpu_hours * HOUR_S, 3),
        }


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

    @property
    def better(self) -> int | None:
        """What their owner should ask for; None: it is well, or it was not for him to say."""
        if not self.declared:
            return None
        needed = self.peak + margin_of(self.peak)
        tenths = math.ceil(needed * 10 / GIB - _DUST)  # so people write it
        next_time = round(tenths * GIB / 10)
        if self.peak > self.asked or self.asked - next_time >= self.asked * _WORTH:
            return next_time
        return None

    @property
    def hint(self) -> str:
        """What to ask next time, in words; empty: nothing else."""
        if self.better is None:
            return ""
        return f"ask {format_bytes(self.better)} instead of {format_bytes(self.asked)}"

    def values(self) -> dict[str, Json]:
        """Return the memory for programs."""
        return {
            "name": self.name,
            "job": self.job,
            "attempts": self.attempts,
            "declared": self.declared,
            "asked": self.asked,
            "peak": self.peak,
            "beyond": self.beyond,
            "wasted_gib_hours": round(self.wasted_gib_hours, 4),
            "ask": self.better,
        }


class Past(NamedTuple):
    """The whole report; the newest, or the most costly, comes first."""

    days: tuple[Day, ...] = ()
    runs: tuple[Run, ...] = ()
    failures: tuple[FailureGroup, ...] = ()
    memory: tuple[Memory, ...] = ()
    nodes: tuple[NodeUse, ...] = ()


def days_of(
    ends: Iterable[Ends], spent: Iterable[Spent], medians: Iterable[tuple[str, float]]
) -> tuple[Day, ...]:
    """Return each day on which something ended or ran, the newest first."""
    days: dict[str, Day] = {}

    def add(day: str, **more: float) -> None:
        day_so_far = days.get(day) or Day(day=day)
        grown = {name: getattr(day_so_far, name) + amount for name, amount in more.items()}
        days[day] = day_so_far._replace(**grown)

    for ended in ends:
        add(ended.day, **{ended.state.value: ended.jobs})
    for used in spent:
        for day, share in _shares(used.begun, used.ended):
            add(
                day,
                gpu_hours=share * used.gpu_s / HOUR_S,
                cpu_hours=share * used.cpu_s / HOUR_S,
            )
    for day, seconds in medians:
        days[day] = (days.get(day) or Day(day=day))._replace(median_s=seconds)
    return tuple(days[day] for day in sorted(days, reverse=True))


def runs_of(ends: Iterable[Ends], spent: Iterable[Spent]) -> tuple[Run, ...]:
    """Return each run of which something ended or ran, the one that did so last first."""
    runs: dict[str, Run] = {}

    def run_named(name: str) -> Run:
        return runs.get(name) or Run(run=name)

    for used in spent:
        run = run_named(used.run)
        runs[used.run] = run._replace(
            attempts=run.attempts + used.attempts,
            gpu_hours=run.gpu_hours + used.gpu_s / HOUR_S,
            cpu_hours=run.cpu_hours + used.cpu_s / HOUR_S,
            at=max(run.at, used.ended),
        )
    for ended in ends:
        run = run_named(ended.run)
        runs[ended.run] = run._replace(
            jobs=run.jobs + ended.jobs,
            done=run.done + ended.jobs * (ended.state is State.DONE),
            failed=run.failed + ended.jobs * (ended.state is State.FAILED),
        )
    return tuple(sorted(runs.values(), key=lambda run: (-run.at, run.run)))


def memory_of(taken: Iterable[Taken]) -> tuple[Memory, ...]:
    """Return what jobs alike asked of GPUs and took, what went beyond first, then by what was wasted."""
    alike: dict[str, list[Taken]] = defaultdict(list)
    for attempts in taken:
        alike[attempts.alike].append(attempts)
    memories = []
    for those in alike.values():
        newest = max(those, key=lambda attempts: attempts.job)
        memories.append(
            Memory(
                name=newest.name,
                job=newest.job,
                attempts=sum(attempts.attempts for attempts in those),
                declared=newest.declared,
                asked=_middle(those),
                peak=max(attempts.peak for attempts in those),
                beyond=sum(attempts.beyond for attempts in those),
                wasted_gib_hours=sum(attempts.wasted for attempts in those) / GIB / HOUR_S,
            )
        )
    return tuple(
        sorted(
            memories,
            key=lambda attempts: (not attempts.beyond, -attempts.wasted_gib_hours, -attempts.job),
        )
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
