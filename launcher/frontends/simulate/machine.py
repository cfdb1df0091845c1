"""Simulated GPUs and their clock: jobs are submitted, a queue starts them, they end.

GPUs are those of a machine, `8x24GiB`, or of several, `4x(2x24GiB)+8x80GiB`. Jobs that share some are slowed, which
decides when each one ends. Nothing else is simulated. A few numbers summarize the result.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count, groupby
from math import ceil, inf
from typing import NamedTuple, Protocol, TypeVar

from launcher.frontends.simulate.trace import TraceJob
from launcher.queue.gpu.snapshot import GpuSnapshot
from launcher.system.errors import UsageError
from launcher.system.units import format_bytes, parse_bytes

MOST_GPUS = 10_000  # more is a slip
LARGEST_BYTES = 16 * 1024**4  # a larger GPU is a typing error, too
Value = TypeVar("Value")
_PART = re.compile(r"\s*([0-9]{1,6})\s*[x×*]\s*([^()\s][^()]*?)\s*")
_MACHINES = re.compile(r"\s*(?:([0-9]{1,6})\s*[x×*])?\s*\(([^()]*)\)\s*")
_PLUS = re.compile(r"\+(?![^(]*\))")  # outside of parentheses
_LIKE = "expected GPUs such as 8x24GiB or 2x80GiB+6x24GiB, or machines such as 4x(2x24GiB)"


class SimulatedCluster(NamedTuple):
    """The GPUs of one machine or several; a job has all of its GPUs on one machine."""

    machines: tuple[tuple[int, ...], ...]  # bytes of memory of each GPU
    baseline: int = 0  # bytes that are in use on each of them when no job runs
    reserve: int = 0  # bytes of each that are left to others

    def __str__(self) -> str:
        if len(self.machines) == 1:
            return _format_gpus(self.machines[0])
        return "+".join(
            f"{number}x({_format_gpus(machine)})" if number > 1 else f"({_format_gpus(machine)})"
            for number, machine in _run_lengths(self.machines)
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
    def most_gpus_per_machine(self) -> int:
        """The largest number of GPUs that a job can have."""
        return max(map(len, self.machines))

    def count_holding(self, vram: int) -> int:
        """Return how many GPUs with this much free memory a machine has; the largest number over the machines."""
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


def parse_cluster(text: str) -> SimulatedCluster:
    """Parse a user's description of the GPUs of a machine, or of several.

    GPUs outside of parentheses are those of one more machine, which comes first.

    Raises:
        UsageError: the text has another form, contains no GPU, or too many.
    """
    here: tuple[int, ...] = ()
    machines: list[tuple[int, ...]] = []
    for part in _PLUS.split(text):
        match = _MACHINES.fullmatch(part)
        number = int(match[1] or 1) if match else 1
        each = match[2].split("+") if match else [part]
        gpus = tuple(total for some in each for total in _gpus(some, text))
        if not number:
            raise UsageError(f"{part.strip()!r} contains no machine: {_LIKE}")
        _check_gpu_count(len(here) + sum(map(len, machines)) + number * len(gpus), text)
        if match:
            machines += [gpus] * number
        else:
            here += gpus
    return SimulatedCluster(tuple([here, *machines] if here else machines))


def _gpus(part: str, text: str) -> list[int]:
    """Return the bytes of each of the GPUs that a part such as `8x24GiB` names."""
    match = _PART.fullmatch(part)
    if match is None:
        raise UsageError(f"{_LIKE}, got {text!r}")
    number, size = int(match[1]), parse_bytes(match[2])
    if not number or not size:
        raise UsageError(f"{part.strip()!r} contains no GPU: {_LIKE}")
    if size > LARGEST_BYTES:
        raise UsageError(f"no GPU has {format_bytes(size)} of memory: {_LIKE}")
    _check_gpu_count(number, text)
    return [size] * number


def _check_gpu_count(gpu_count: int, text: str) -> None:
    if gpu_count > MOST_GPUS:
        raise UsageError(f"at most {MOST_GPUS:,} GPUs can be simulated, got {text!r}")


def _format_gpus(machine: Sequence[int]) -> str:
    """Return the GPUs of one machine in the form that users write."""
    return "+".join(
        f"{number}x{format_bytes(total).replace(' ', '')}"
        for number, total in _run_lengths(machine)
    )


def _run_lengths(values: Sequence[Value]) -> Iterator[tuple[int, Value]]:
    """Yield the length and the value of each run of equal values."""
    return ((len([*alike]), value) for value, alike in groupby(values))


class Workload(NamedTuple):
    """The jobs of a replay, and how many had to be left out."""

    jobs: tuple[TraceJob, ...]
    too_many_gpus: int = 0  # jobs that ask for more than a machine has
    too_much_vram: int = 0  # jobs that ask for more memory than enough of its GPUs have
    orphaned: int = 0  # jobs that need one of these


def select_feasible(jobs: Sequence[TraceJob], cluster: SimulatedCluster) -> Workload:
    """Leave out jobs that fit on no machine, and the jobs that need them; the same for all policies.

    Args:
        jobs: dependencies precede the jobs that need them.
        cluster: the GPUs.
    """
    kept: list[TraceJob] = []
    out: set[int] = set()
    many = much = orphaned = 0
    holding = {vram: cluster.count_holding(vram) for vram in {job.vram or 0 for job in jobs}}
    for job in jobs:
        if job.gpus > cluster.most_gpus_per_machine:
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


# --- the clock


class JobSpan(NamedTuple):
    """When a job could have started, when it did, when it ended, and where."""

    job: int  # the job's index
    ready: float  # when the job was submitted, and all that it needs had ended
    start: float
    end: float
    cards: tuple[int, ...]

    @property
    def waited_s(self) -> float:
        """Seconds that it waited for GPUs."""
        return self.start - self.ready


class SimulatedQueue(Protocol):
    """A queue that decides when and where each job starts."""

    def submit(self, job: TraceJob, now: float) -> None:
        """Add a job that could start."""

    def finish_job(self, job: TraceJob, duration_s: float, now: float) -> bool:
        """Release the GPUs of a job; False if it failed and has to run again."""

    def next_starts(self, now: float) -> Iterable[tuple[TraceJob, tuple[int, ...]]]:
        """Yield the jobs that start now with their GPUs; the GPUs are then in use."""


def replay(
    jobs: Sequence[TraceJob], queue: SimulatedQueue, *, cards: int, slowdown: float
) -> tuple[JobSpan, ...]:
    """Return the span of each job, in the order of their ends.

    Events at the same instant reach the queue together: first ends, then submissions.
    A job without GPUs starts as soon as it can, because a simulation has enough cores.

    Args:
        jobs: jobs in the order of their submission; `needs` name jobs among them.
        queue: decides which jobs start.
        cards: number of GPUs.
        slowdown: factor on the duration of each of two jobs on a GPU.
    """
    return _Replay(jobs, queue, cards, slowdown).run()


@dataclass(slots=True, eq=False)  # two jobs are equal only if they are the same object
class _JobRun:
    """The state of a job in a replay."""

    job: TraceJob
    unmet_count: int  # dependencies that have not ended; plus 1 until the job is submitted
    needed_by: list["_JobRun"] = field(default_factory=list)
    ready: float = 0.0
    start: float = 0.0
    cards: tuple[int, ...] = ()
    remaining_s: float = 0.0  # seconds alone, at the time below
    since: float = 0.0
    slowdown: float = 0.0  # current factor on the job's duration; 0: it does not run
    end: float = inf


class _Replay:
    """One replay in progress: the jobs on each GPU, their remaining work, and their speed.

    Each of `n` jobs on a GPU takes `slowdown ** (n - 1)` times as long as alone. A job on several
    GPUs runs at the pace of the most crowded one. Whenever neighbours start or end, the remaining
    work is computed again.
    """

    def __init__(
        self, jobs: Sequence[TraceJob], queue: SimulatedQueue, cards: int, slowdown: float
    ) -> None:
        self._queue, self._slowdown = queue, slowdown
        self._courses = {job.index: _JobRun(job, 1 + len(job.needs)) for job in jobs}
        for course in self._courses.values():
            for need in course.job.needs:
                self._courses[need].needed_by.append(course)
        self._coming = [*self._courses.values()][::-1]
        self._on: list[list[_JobRun]] = [[] for _ in range(cards)]
        # older ends of a job stay in the list until their time comes
        self._ends: list[tuple[float, int]] = []
        self._spans: list[JobSpan] = []

    def run(self) -> tuple[JobSpan, ...]:
        while True:
            comes = self._coming[-1].job.submitted if self._coming else inf
            now = min(comes, self._next_end())
            if now == inf:
                return tuple(self._spans)
            while self._next_end() <= now:
                self._end(self._courses[heappop(self._ends)[1]], now)
            while self._coming and self._coming[-1].job.submitted <= now:
                self._release(self._coming.pop(), now)
            for job, cards in self._queue.next_starts(now):
                self._start(job, cards, now)

    def _next_end(self) -> float:
        """Return when the next job ends if no other starts, infinity when none runs."""
        while self._ends and self._courses[self._ends[0][1]].end != self._ends[0][0]:
            heappop(self._ends)
        return self._ends[0][0] if self._ends else inf

    def _release(self, course: _JobRun, now: float) -> None:
        """Let a job start once it has come and the jobs that it needs have ended. Called after either event."""
        course.unmet_count -= 1
        if course.unmet_count:
            return
        course.ready = now
        if course.job.gpus:
            self._queue.submit(course.job, now)
        else:
            self._start(course.job, (), now)

    def _start(self, job: TraceJob, cards: tuple[int, ...], now: float) -> None:
        """Start a job on GPUs; its record contains how long it takes alone."""
        course = self._courses[job.index]
        course.start, course.cards, course.remaining_s = now, cards, job.seconds
        for card in cards:
            self._on[card].append(course)
        self._update_ends([course], cards, now)

    def _end(self, course: _JobRun, now: float) -> None:
        course.slowdown, course.end = 0.0, inf
        for card in course.cards:
            self._on[card].remove(course)
        self._update_ends((), course.cards, now)
        job = course.job
        if job.gpus and not self._queue.finish_job(job, now - course.start, now):
            self._queue.submit(job, now)  # the job is ready since its first start
            return
        self._spans.append(JobSpan(job.index, course.ready, course.start, now, course.cards))
        for dependant in course.needed_by:
            self._release(dependant, now)

    def _update_ends(
        self, started_runs: Iterable[_JobRun], cards: Iterable[int], now: float
    ) -> None:
        """Update pace and end of starting jobs, and of all jobs on these GPUs whose number of neighbours changed."""
        there = {each.job.index: each for card in cards for each in self._on[card]}
        for course in (there | {each.job.index: each for each in started_runs}).values():
            sharing = max((len(self._on[card]) for card in course.cards), default=1)
            factor = self._slowdown ** (sharing - 1)
            if factor == course.slowdown:
                continue
            if course.slowdown:
                course.remaining_s = max(
                    0.0, course.remaining_s - (now - course.since) / course.slowdown
                )
            course.since, course.slowdown = now, factor
            course.end = now + course.remaining_s * factor
            heappush(self._ends, (course.end, course.job.index))


BOUND_S = 10.0  # shorter jobs count as this long in a slowdown
WIDE = 8  # GPUs; on a small machine fewer are many


class PolicyResult(NamedTuple):
    """The results of one policy; its fields are those of JSON."""

    policy: str
    utilisation: float | None  # share of the GPUs' time in which at least one job ran on them
    wait_mean_s: float
    wait_p95_s: float  # 95th percentile of the waits
    wait_longest_s: float
    wait_max_wide_s: float | None  # longest wait of jobs that request many GPUs; None: no such job
    slowdown_mean: float  # bounded slowdown
    turnaround_mean_s: float  # from a job's submission, or the end of its dependencies, to its end
    makespan_s: float  # from the first submission to the last end


def wide_job_gpus(cards: int) -> int:
    """Return how many GPUs a wide job asks for at least: a quarter of the machine, 2 to 8."""
    return min(WIDE, max(2, cards // 4))


def compute_result(
    policy: str, spans: Sequence[JobSpan], jobs: Sequence[TraceJob], cards: int
) -> PolicyResult:
    """Return the result of a replay; jobs without GPUs never wait and do not count in the waits.

    The bounded slowdown of a job is (waited + ran) / max(its duration alone, 10 s), at least 1 (Feitelson, "Metrics
    for parallel job scheduling and their convergence", 2001).

    Args:
        policy: its name.
        spans: at least one.
        jobs: that were replayed.
        cards: number of GPUs.
    """
    alone = {job.index: job.seconds for job in jobs}
    slowdowns = [
        max(1.0, (span.waited_s + span.end - span.start) / max(alone[span.job], BOUND_S))
        for span in spans
        if span.cards
    ] or [1.0]
    of_wide = [span.waited_s for span in spans if len(span.cards) >= wide_job_gpus(cards)]
    waits = sorted(span.waited_s for span in spans if span.cards) or [0.0]
    makespan = max(span.end for span in spans)
    return PolicyResult(
        policy=policy,
        utilisation=_busy_seconds(spans) / (cards * makespan) if makespan else None,
        wait_mean_s=sum(waits) / len(waits),
        wait_p95_s=waits[ceil(0.95 * len(waits)) - 1],
        wait_longest_s=waits[-1],
        wait_max_wide_s=max(of_wide, default=None),
        slowdown_mean=sum(slowdowns) / len(slowdowns),
        turnaround_mean_s=sum(span.waited_s + span.end - span.start for span in spans) / len(spans),
        makespan_s=makespan,
    )


def _busy_seconds(spans: Iterable[JobSpan]) -> float:
    """Return the seconds in which GPUs had at least one job, summed over the GPUs."""
    until: dict[int, float] = {}
    busy = 0.0
    for span in sorted(spans, key=lambda span: span.start):
        for card in span.cards:
            since = max(span.start, until.get(card, 0.0))
            if span.end > since:
                busy += span.end - since
                until[card] = span.end
    return busy
