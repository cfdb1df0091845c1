"""Input and possible results of a decision: waiting jobs, running jobs and the machine.

The duration of a job is a distribution from the durations of similar jobs and its own time limit.
Its GPU request may be shared, alone with the measured memory, or alone with the least memory that
may suffice.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import ceil, inf, isfinite
from typing import NamedTuple

from launcher.queue.gpu.resources import ForeignReservation
from launcher.queue.gpu.snapshot import GpuSnapshot
from launcher.queue.jobs.accounts import (
    NO_RESOURCE_USAGE,
    PeerScheduler,
    ResourceKind,
    ResourceUsage,
)
from launcher.queue.jobs.job import NUMBERS, Resources
from launcher.queue.jobs.signatures import is_exact_signature
from launcher.queue.jobs.states import Reason, ReasonCode
from launcher.queue.scheduler.policy.co_location import UNKNOWN_LOAD, GpuLoad, make_load
from launcher.queue.scheduler.policy.oom_policy import NEGLIGIBLE
from launcher.queue.scheduler.policy.vram_request import choose_vram_request, estimate_vram
from launcher.queue.store.rows import Claim, ReadyJob
from launcher.queue.store.usage import Usage
from launcher.queue.store.usage_records import similar_key
from launcher.system.files import Json
from launcher.system.gpu_sharing import SharingRules

LONG_QUANTILE = (
    0.75  # a waiting job is counted on to take no longer than this share of those like it
)
MEDIAN_QUANTILE = (
    0.5  # a running job is expected to end with the middle one of those that ran as long
)
SHORTEST_S = 60.0  # seconds; least expected duration of a job without records
LEAST_S = (
    1.0  # seconds; least remaining time of an overdue job: no end is expected at this very moment
)


class Forecast(NamedTuple):
    """Durations of similar jobs in seconds alone on their GPUs, ascending, and the job's own time limit.

    Durations of trainings have heavy tails. The longest of a few says little about the next one,
    and a job that has outlasted all of them is not about to end. Every query is therefore about the
    part of the distribution that is left after the time that a job has run. Beyond the last known
    duration a job is expected to run as long again as it has run (a Pareto tail with exponent 1;
    "Lindy's law"). The time limit bounds all results.
    """

    seconds: tuple[float, ...] = ()
    limit: float | None = None  # the time limit, at which the job is ended; None: no limit

    def quantile(self, share: float, elapsed_s: float = 0.0) -> float | None:
        """Return the duration that a share of such jobs does not exceed, None where nothing is known.

        Args:
            share: share above 0 and at most 1.
            elapsed_s: seconds that it runs already; jobs that took no longer do not count.

        Returns:
            Seconds from its start to its end; more than `elapsed_s`, unless its limit has passed.
        """
        first = bisect_right(self.seconds, elapsed_s)
        left = len(self.seconds) - first
        if left:
            total: float | None = self.seconds[first + max(1, ceil(share * left)) - 1]
        else:
            total = max(2 * elapsed_s, SHORTEST_S) if elapsed_s > 0 else None
        if self.limit is None:
            return total
        bound = max(self.limit, elapsed_s)
        return bound if total is None else min(total, bound)

    def mean(self, usual_s: float, running_s: float = 0.0, running_count: int = 0) -> float:
        """Return how long such jobs take on average, s, but no longer than its limit.

        Those that have ended are the short ones as long as the long ones run. So the time that all have run
        is divided by the number of ends (the estimate for exponential durations with censoring: Epstein and Sobel,
        "Life testing", 1953). Where none has ended, those that run are expected to run as long again.

        Args:
            usual_s: how long a job takes of which nothing is known.
            running_s: how long jobs alike have run that have not ended, added up.
            running_count: how many those are.
        """
        if self.seconds:
            mean = (sum(self.seconds) + running_s) / len(self.seconds)
        else:
            mean = max(usual_s, 2 * running_s / running_count if running_count else 0.0)
        return mean if self.limit is None else min(mean, self.limit)

    def end(self, start_time: float, now: float) -> float | None:
        """Return when a job that runs since a time is expected to end, on the same clock.

        A clock that was set back counts as no time at all.
        """
        total = self.quantile(MEDIAN_QUANTILE, max(0.0, now - start_time))
        return None if total is None else start_time + total

    def expected_end(self, start_time: float, now: float) -> float | None:
        """Return its expected end, None if unknown: as at its start, and later if it is overdue."""
        first, end = self.end(start_time, start_time), self.end(start_time, now)
        return first if first is None or end is None or first > now else max(end, now + LEAST_S)


UNKNOWN = Forecast()


def make_forecast(seconds: Iterable[float], limit: float | None = None) -> Forecast:
    """Return the forecast from durations in any order. Invalid durations are ignored.

    Args:
        seconds: Durations of similar jobs.
        limit: Its own time limit, s.
    """
    usable = (value for value in seconds if isfinite(value) and value >= 0)
    bound = limit if limit is not None and isfinite(limit) and limit > 0 else None
    return Forecast(tuple(sorted(usable)), bound)


def running_forecast(claim: Claim, usage: Usage, ends: float | None = None) -> Forecast:
    """Return the forecast of a running attempt with its limit: its own report, otherwise similar jobs.

    Args:
        claim: The attempt.
        usage: Recorded usage of similar jobs.
        ends: End time that its program reported, None if it reported none.
    """
    seconds = usage.seconds if ends is None else (ends - claim.claimed,)
    return make_forecast(seconds, claim.spec.terms.time_limit_s)


class Waiting(NamedTuple):
    """A job that could start: all that it needs is done."""

    job: int
    resources: Resources
    name: str = ""  # name of the job in reasons; empty: reasons give the number
    group: str = ""
    vram: int | None = None  # bytes on each of the job's GPUs; None: a fixed part of the GPU
    estimated: bool = False  # `vram` is neither declared nor measured with the same settings
    similar: str = ""  # jobs with the same are of the same type, or run the same program
    made_exclusive: bool = (
        # the job was stopped for the sake of others once: now it shares GPUs with none of ours
        False
    )
    source: str = ""  # source of the request: "declared", "learned", …
    enough: int | None = None  # bytes with which the job may start alone on an unused GPU
    # bytes on each of the job's GPUs; the job never starts with fewer: declared, or missing at a failure
    least_vram: int = 0
    seconds: float | None = None  # expected longest duration of the job; None: unknown
    forecast: Forecast = UNKNOWN  # on what that rests
    # when the job came, on the clock of `now`; a point of priority is a day earlier
    since: float = 0.0
    backfill_until: float = -inf  # other jobs may pass the job until then
    max_delay_s: float = (
        # by this many seconds the place that is kept for the job may slip; -inf: no guess counts
        0.0
    )
    visible: tuple[str, ...] | None = None  # CUDA_VISIBLE_DEVICES of the job's user; None: not set
    load: GpuLoad = UNKNOWN_LOAD  # the job's load on a GPU, and its slowdown by others there
    # a place is kept for the job on another machine, and none here
    reserved_elsewhere: bool = False
    holds_reservation: bool = (
        False  # the job's reservation of our resources stays although it waits for other queues
    )
    run: str = ""  # between runs `waiting_line` decides the order
    priority: int = 0

    @property
    def exclusive(self) -> bool:
        """Whether it shares its GPUs with none of ours."""
        return self.made_exclusive or self.resources.exclusive


class Running(NamedTuple):
    """A place on the machine that is reserved already."""

    cpus: int
    job: int = 0
    name: str = ""  # as in `Waiting`
    devices: tuple[str, ...] = ()  # UUIDs of GPUs; empty: the job works on the CPU
    ram: int = 0  # bytes
    group: str = ""
    vram: int | None = None  # bytes on each of the job's GPUs; None: no other job shares them
    estimated: bool = False  # as in `Waiting`
    similar: str = ""  # likewise
    unmeasured_s: float | None = (
        None  # seconds for which the job has run with an estimate and without a measurement
    )
    exclusive: bool = False  # the job shares its GPUs with none of ours
    used: Mapping[str, int] = {}  # UUID → bytes, if that is measured
    ends: float | None = None  # when the job is expected to end; None: unknown
    since: float | None = None  # when the job began, on the same clock; None: unknown
    forecast: Forecast = UNKNOWN  # expected end after that time has passed
    load: GpuLoad = UNKNOWN_LOAD  # as in `Waiting`
    run: str = ""  # likewise


class Machine(NamedTuple):
    """Resources: cores and memory that we may use, GPUs as they are now, limits of groups."""

    cpus: int
    cores: int = -1  # mask of the cores among which `cpus` are free
    ram: int = 0  # bytes in all
    installed_ram: int = (
        0  # bytes of the whole machine, also for users outside our quota; 0: equal to `ram`
    )
    ram_free: int = 0  # unused bytes
    gpus: tuple[GpuSnapshot, ...] = ()
    absent: str = ""  # why no GPU can be seen, where the driver says so
    limits: Mapping[str, int] = {}  # group → jobs at once
    rules: SharingRules = SharingRules()
    foreign: tuple[ForeignReservation, ...] = ()
    idle: Mapping[str, float] = {}  # UUID → seconds without others
    # UUID → the load of processes of others there, and how many of them hold memory
    foreign_load: Mapping[str, tuple[float, int]] = {}
    peers: tuple[PeerScheduler, ...] = ()  # other schedulers that wait
    use: ResourceUsage = NO_RESOURCE_USAGE  # our user's, decayed
    starving_resource: ResourceKind | None = (
        None  # the resource that others yield to us after our long wait
    )

    @property
    def total_cores(self) -> int:
        """How many cores those are among which ours are; a quota of CPU time may leave us fewer."""
        return max(self.cpus, self.cores.bit_count()) if self.cores >= 0 else self.cpus

    @property
    def total_ram(self) -> int:
        """How many bytes of memory those are among which ours are."""
        return max(self.ram, self.installed_ram)


class Start(NamedTuple):
    """Start this job now, on these devices, with this many cores."""

    job: int
    devices: tuple[str, ...]  # UUIDs of GPUs; empty: on the CPU
    cpus: int
    reason: str
    vram: int | None = None  # bytes on each GPU; None: an estimate that follows the job's use
    exclusive: bool = False
    estimate: int | None = None  # bytes, where that is what counts at first


class Wait(NamedTuple):
    """Leave this job in the queue."""

    job: int
    reason: str
    # for programs; the text holds all that they say
    code: ReasonCode = ReasonCode.NO_ROOM
    data: Mapping[str, Json] = {}
    blocked_by_others: bool = (
        False  # the job is first, and would start if other queues gave back their reservations
    )
    blocked_by_own: bool = False  # jobs of ours that hold the lacking resource block the job
    lacking_resource: ResourceKind | None = None  # resource of which there is too little
    # a place is kept for it here, which is expected to be free then; None: none is kept
    reserved_from: float | None = None

    @property
    def full_reason(self) -> Reason:
        """Why the job waits, for programs and for people."""
        return Reason(code=self.code, text=self.reason, data=self.data)


Decision = Start | Wait


EVICTION_GROWTH = (
    1.5  # factor on the usage of a job at its eviction: it may have been about to use more
)


def make_waiting(ready: ReadyJob, usage: Usage) -> Waiting:
    """Return a job of the queue as the policy sees it, with its VRAM request and how long it takes."""
    lane = ready.lane
    exact = is_exact_signature(lane.signature)
    asked = lane.resources.vram
    vram, source, estimated = choose_vram_request(
        asked, lane.least_vram, usage, exact=exact, numbers=ready.numbers
    )
    lesson = estimate_vram(usage, exact=exact, numbers=ready.numbers)
    peak = None if lesson is None else lesson.peak
    enough = peak if exact or asked is None else None
    lacked = max(0, lane.least_vram - NEGLIGIBLE)
    if (
        vram is not None and vram == lane.least_vram
    ):  # only an estimate of the need is known from a failure
        enough = max(lacked, peak or 0)
    certain = max(asked or 0, lacked)
    if estimated:  # an estimate refuses nothing: alone the job is tried anyhow
        enough = certain = 0
    elif vram is not None and enough is not None:
        enough = min(vram, enough)
        certain = min(enough, certain)
    if (
        lane.made_exclusive and asked is None and vram is not None
    ):  # rather more than the job had, though the GPU may have less
        vram = max(vram, round(EVICTION_GROWTH * lane.least_vram))
    forecast = make_forecast(usage.seconds, lane.limit)
    return Waiting(
        job=ready.id,
        resources=lane.resources,
        group=lane.group,
        vram=vram,
        estimated=estimated,
        similar=similar_key(lane.signature, ready.program),
        made_exclusive=lane.made_exclusive,
        source=source,
        enough=enough,
        least_vram=certain,
        seconds=forecast.quantile(LONG_QUANTILE),
        forecast=forecast,
        since=ready.rank,
        load=make_load(usage.expected_sm, usage.slowdown),
        visible=lane.visible,
        run=str(ready.account.run),
        priority=ready.priority,
    )


@dataclass(frozen=True, slots=True)
class GpuRequest:
    """Request of a job on each of its GPUs, and the GPUs that it may have."""

    count: int
    vram: int | None  # bytes; None: a fixed part of the GPU
    exclusive: bool
    device: str  # "auto", "cuda", "cuda:N", "cuda:N:M" or a UUID
    visible: tuple[str, ...] | None
    excludes_others: bool = False  # other users' jobs share them neither
    may_use_reserve: bool = False  # the job may use memory of the reserve for others
    load: GpuLoad = UNKNOWN_LOAD  # the job's load on a GPU, and its slowdown by others there
    uses_gpu_numbers: bool = False  # the job's GPUs are named by numbers, which MIG makes ambiguous
    estimated: bool = False  # `vram` is neither declared nor measured with the same settings
    similar: str = ""  # as in `Waiting`, if that is estimated
    made_exclusive: bool = False  # as in `Waiting`
    number: str = (
        ""  # the number that `device` had when the job was queued, such as cuda:1, if it was given
    )
    ram: int = 0  # bytes of main memory, which some GPUs use as theirs

    @property
    def needs_quiet_gpu(self) -> bool:
        """Whether others may use almost nothing of its GPUs. False if its usage beside them is known."""
        return self.exclusive and (self.excludes_others or not self.made_exclusive)


def gpu_request_of(job: Waiting) -> GpuRequest:
    """Return what a waiting job asks of GPUs."""
    asked = job.resources
    return GpuRequest(
        max(1, asked.gpus),
        job.vram,
        job.exclusive,
        asked.gpu_uuid or asked.device,
        job.visible,
        asked.exclusive,
        load=job.load,
        uses_gpu_numbers=asked.gpu_ids == NUMBERS,
        estimated=job.estimated,
        similar=job.similar if job.estimated else "",
        made_exclusive=job.made_exclusive,
        number=asked.device if asked.gpu_uuid else "",
        ram=asked.ram or 0,
    )


def elapsed_s(run: Running, now: float) -> float | None:
    """Return the run time of a job in seconds, None if unknown. 0 after a clock was set back."""
    since = run.since
    return None if since is None or not isfinite(since) else max(0.0, now - since)


def remaining_s(run: Running, now: float) -> float:
    """Return how long a running job goes on: as long again, where only its limit is known, or nothing."""
    known, limit, ends = elapsed_s(run, now), run.forecast.limit, run.ends
    spent_s = known or 0.0
    if known is not None and run.forecast.seconds:
        ends = run.forecast.end(now - spent_s, now)
    elif limit is not None:
        return max(0.0, min(spent_s, limit - spent_s))
    left = spent_s if ends is None or ends <= now else ends - now
    return left if isfinite(left) else 0.0
