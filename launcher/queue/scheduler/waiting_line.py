"""Order of the waiting jobs for decisions, over the cycles of one scheduler.

Within a run jobs are in the order of the policy (`disciplines.order_by_policy`). Between runs there
is weighted fair queueing. The run with the lowest virtual time is next. The virtual time is a sum
of usages, divided by the share. It adds the past usage of ended and running attempts, the expected
usage of running ones, and the usage of jobs that precede in this order. Runs with shares 1 and 3
thus get GPU time as 1 to 3 for any requests of their jobs. (Demers, Keshav, Shenker, "Analysis and
simulation of a fair queueing algorithm", 1989.)

A new run beside others starts NEW_RUN_CREDIT_S ahead of them. A short run is done before it has to
share. Its earlier usage counts for at most this much, for or against it.

A job with a higher priority precedes those of other runs. A job whose run got nothing for a day
counts as if it had one point more. No job therefore waits forever behind runs that are always new.

Screens show the same from the stored data of the queue: the order of waiting jobs, and why one is
behind others. Only the scheduler's own decision considers the expected durations of running jobs.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from heapq import merge
from itertools import chain, islice
from math import inf
from operator import itemgetter
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from launcher.queue.jobs.accounts import NO_ACCOUNT, FairShareAccount, gpu_equivalents
from launcher.queue.scheduler.policy.ages import AgeTracker
from launcher.queue.scheduler.policy.disciplines import (
    DEFAULT_POLICY,
    SchedulingPolicy,
    order_by_policy,
)
from launcher.queue.scheduler.policy.model import (
    Machine,
    Running,
    Waiting,
    elapsed_s,
    make_waiting,
    remaining_s,
)
from launcher.queue.scheduler.policy.queue_lengths import QueueDelayEstimator, queue_length
from launcher.queue.store.lanes import PRIORITY_POINT_S
from launcher.queue.store.ready_jobs import ReadyJobs
from launcher.queue.store.rows import ReadyJob
from launcher.queue.store.usage import UsageLookup
from launcher.system.units import median

if TYPE_CHECKING:  # screens read this module, too, and need no nodes
    from launcher.queue.scheduler.node import Node

NEW_RUN_CREDIT_S = 8 * 3600.0  # GPU-seconds for a share of 1
# bounds of the counted duration of a job that has not ended, for any forecast
LEAST_S, MOST_S = 1.0, 86_400.0
NO_ACCOUNTS: Mapping[str, FairShareAccount] = MappingProxyType({})

_SortKey = tuple[float, float, float]  # key of a job among those of other runs, the smallest first


def order_by_fair_share(
    waiting_jobs: Iterable[Waiting],
    running_jobs: Iterable[Running] = (),
    accounts: Mapping[str, FairShareAccount] = NO_ACCOUNTS,
    now: float = 0.0,
    policy: SchedulingPolicy = DEFAULT_POLICY,
) -> list[Waiting]:
    """Return waiting jobs in the order in which a decision examines them.

    Args:
        waiting_jobs: Jobs of one run keep their order.
        running_jobs: Running jobs on the machine.
        accounts: By run, its share and the usage of ended attempts.
        now: On the clock of the accounts, and of `Running.since` and `Running.ends`.
        policy: The policy. Most policies ignore runs.
    """
    jobs, places = [*waiting_jobs], [*running_jobs]
    lines: dict[str, list[Waiting]] = {}
    for job in jobs:
        lines.setdefault(job.run, []).append(job)
    if not policy.uses_fair_share or len(lines) < 2:
        return jobs
    vtimes, active = virtual_times(places, accounts, now), {place.run for place in places}
    for place in places:  # and the GPU seconds that running jobs are expected to use
        if place.run in vtimes:
            left = gpu_equivalents(place.devices, place.cpus) * _clamp_seconds(
                remaining_s(place, now), LEAST_S
            )
            vtimes[place.run] += left / accounts[place.run].share
    # a job without a known duration counts with the median of the known ones
    known = [seconds for job in jobs if (seconds := _expected_seconds(job)) is not None]
    usual_s = _clamp_seconds(median(known) if known else None, LEAST_S)

    def ordered_jobs(run: str) -> Iterator[tuple[_SortKey, Waiting]]:
        account, vtime = accounts.get(run, NO_ACCOUNT), vtimes.get(run, 0.0)
        # a time that is still to come was written before the clock was set back
        served = inf if run in active else account.updated_at if account.updated_at <= now else -inf
        for job in lines[run]:
            unserved_s = now - max(job.since + job.priority * PRIORITY_POINT_S, served)
            points = int(unserved_s // PRIORITY_POINT_S) if unserved_s >= PRIORITY_POINT_S else 0
            yield (-job.priority - points, vtime, job.since), job
            gpus = job.resources.gpus if job.resources.may_need_gpu else 0
            cards = gpu_equivalents(gpus, job.resources.cpus)
            vtime += cards * _clamp_seconds(_expected_seconds(job), usual_s) / account.share

    return [job for _, job in merge(*map(ordered_jobs, lines), key=itemgetter(0))]


class VtimeInitializer:
    """Sets the virtual time of new runs relative to the runs that waited or ran before."""

    def __init__(self) -> None:
        """Begin without runs."""
        self._present: frozenset[str] = frozenset()

    def initialize(
        self, accounts: Mapping[str, FairShareAccount], running_jobs: Iterable[Running], now: float
    ) -> dict[str, FairShareAccount]:
        """Return the accounts of runs that wait, where those are changed that have just come.

        Args:
            accounts: accounts of all runs with jobs that could start.
            running_jobs: what has a place on the machine.
            now: time on the clock of `Running.since`.
        """
        places = [*running_jobs]
        vtimes = virtual_times(places, accounts, now)
        there = [vtimes[run] for run in accounts if run in self._present]
        base = min(there or vtimes.values(), default=0.0)
        lowest = base - NEW_RUN_CREDIT_S if there else base
        entered = {
            run: account
            if run in self._present
            else account._replace(vtime=min(max(account.vtime, lowest), base + NEW_RUN_CREDIT_S))
            for run, account in accounts.items()
        }
        self._present = frozenset(accounts) | {place.run for place in places}
        return entered


def used_gpu_seconds(job: Running, now: float) -> float:
    """Return the past GPU-seconds of a running job."""
    return gpu_equivalents(job.devices, job.cpus) * (elapsed_s(job, now) or 0.0)


def virtual_times(
    running_jobs: Iterable[Running], accounts: Mapping[str, FairShareAccount], now: float
) -> dict[str, float]:
    """Return the virtual times of runs, with what those of their jobs that run have had by now."""
    vtimes = {run: account.vtime for run, account in accounts.items()}
    for job in running_jobs:
        if job.run in vtimes:
            vtimes[job.run] += used_gpu_seconds(job, now) / accounts[job.run].share
    return vtimes


def _expected_seconds(job: Waiting) -> float | None:
    """Return how long a job is expected to take, None if no more than its limit is known."""
    return job.seconds if job.forecast.seconds or job.forecast.limit is None else None


def _clamp_seconds(seconds: float | None, otherwise: float) -> float:
    known = seconds if seconds is not None and seconds == seconds else otherwise  # not NaN
    return min(max(known, LEAST_S), MOST_S)


class OrderedQueue(NamedTuple):
    """Waiting jobs in their order, and running jobs."""

    jobs: Sequence[Waiting]
    running: Mapping["Node", Sequence[Running]]  # by node


class PendingQueue:
    """State for the order of jobs in addition to their rank: waiting times and usage of their runs."""

    def __init__(self, ready_jobs: ReadyJobs, usage: UsageLookup) -> None:
        """Start without jobs.

        Args:
            ready_jobs: Ready jobs of the queue.
            usage: Returns the recorded usage of jobs.
        """
        self._ready_jobs, self._usage = ready_jobs, usage
        self._ages, self._newcomers, self._lengths = (
            AgeTracker(),
            VtimeInitializer(),
            QueueDelayEstimator(),
        )

    def reset(self) -> None:
        """Compute the virtual times of new runs again, because storing them failed."""
        self._newcomers = VtimeInitializer()

    def order_jobs(
        self,
        ready: Sequence[ReadyJob],
        running_jobs: Mapping["Node", Sequence[Running]],
        machine: Callable[[], Machine],
        now: float,
        policy: SchedulingPolicy,
    ) -> OrderedQueue:
        """Return the jobs in the order in which they are examined.

        Args:
            ready: All jobs that could start.
            running_jobs: Running jobs by node.
            machine: Returns this machine.
            now: Seconds since 1970.
            policy: The policy.
        """
        seen, runs = self._ages.correct_clock(
            [make_waiting(job, self._usage(job.lane.signature, job.program)) for job in ready],
            chain.from_iterable(running_jobs.values()),
            now=now,
            steady=time.clock_gettime(time.CLOCK_BOOTTIME),
        )
        if self._lengths.is_due(now):
            heads = {job.lane_id: head for job, head in zip(ready, seen, strict=True)}
            counts = self._ready_jobs.waiting_by_lane()
            lanes = [(heads[lane], count) for lane, count in counts.items() if lane in heads]
            self._lengths.record(now, queue_length(lanes, runs, machine(), now))
        accounts = self._enter_newcomers(ready, runs, now)
        line = order_by_policy(self._lengths.set_patience(seen), now, policy)
        ordered = order_by_fair_share(line, runs, accounts, now, policy)
        corrected = iter(runs)
        return OrderedQueue(
            ordered, {node: [*islice(corrected, len(own))] for node, own in running_jobs.items()}
        )

    def _enter_newcomers(
        self, ready: Sequence[ReadyJob], running_jobs: Sequence[Running], now: float
    ) -> dict[str, FairShareAccount]:
        """Return the accounts of the waiting runs; the virtual times at which new runs begin are stored."""
        accounts = {str(job.account.run): job.account for job in ready}
        entered = self._newcomers.initialize(accounts, running_jobs, now)
        changed = {run: each.vtime for run, each in entered.items() if each != accounts[run]}
        if changed:
            self._ready_jobs.set_vtimes(changed)
        return entered
