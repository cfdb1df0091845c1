"""The line of waiting jobs: in which order decisions look at them, over the turns of one scheduler.

Within a run jobs come as the policy has them (`disciplines.order_by_policy`). Between runs there is weighted fair queueing:
the one comes next that had least of the machine for its share, its virtual time: what its ended attempts had, what
those that run have had and are expected to have, and what stands before it in this order. So runs with shares 1 and 3
get card time as 1 to 3, whatever their jobs ask for. (Demers, Keshav, Shenker, "Analysis and simulation of a fair
queueing algorithm", 1989.)

A run that comes beside others begins CREDIT_S before them: a quick run is done before it has to share, and what was
before counts no more than that, for or against it.

A job with a higher priority comes before those of other runs; and so does one whose run had nothing for a day, like
one with a point more: nobody waits for ever behind runs that are always new.

Screens tell the same from what the queue has on record: the order of waiting jobs, and why one is behind others. How
long running jobs will take is left to the scheduler's own decision.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from heapq import merge
from math import inf
from operator import itemgetter
from types import MappingProxyType
from typing import NamedTuple

from launcher.accounts import NO_ACCOUNT, FairShareAccount, gpu_equivalents
from launcher.scheduler.policy.ages import AgeTracker
from launcher.scheduler.policy.disciplines import DEFAULT_POLICY, SchedulingPolicy, order_by_policy
from launcher.scheduler.policy.model import (
    Machine,
    Running,
    Waiting,
    elapsed_s,
    make_waiting,
    remaining_s,
)
from launcher.scheduler.policy.queue_lengths import QueueDelayEstimator, queue_length
from launcher.store.lanes import PRIORITY_POINT_S
from launcher.store.rows import ReadyJob
from launcher.store.scheduler_actions import SchedulerActions
from launcher.store.usage import UsageLookup
from launcher.units import median

NEW_RUN_CREDIT_S = 8 * 3600.0  # card-seconds for a share of 1
LEAST_S, MOST_S = 1.0, 86_400.0  # so long a job counts that has not ended, whatever is expected
NO_ACCOUNTS: Mapping[str, FairShareAccount] = MappingProxyType({})

_SortKey = tuple[float, float, float]  # of a job beside those of other runs, the smallest first


def order_by_fair_share(
    waiting: Iterable[Waiting],
    running: Iterable[Running] = (),
    accounts: Mapping[str, FairShareAccount] = NO_ACCOUNTS,
    now: float = 0.0,
    policy: SchedulingPolicy = DEFAULT_POLICY,
) -> list[Waiting]:
    """Return waiting jobs in the order in which a decision looks at them.

    Args:
        waiting: those of a run stay in the order in which they come.
        running: what has a place on the machine already.
        accounts: by run, its share and what ended attempts had.
        now: on the clock of the accounts, and of `Running.since` and `Running.ends`.
        policy: the policy; most know no runs.
    """
    jobs, places = [*waiting], [*running]
    lines: dict[str, list[Waiting]] = {}
    for job in jobs:
        lines.setdefault(job.run, []).append(job)
    if not policy.uses_fair_share or len(lines) < 2:
        return jobs
    vtimes, active = virtual_times(places, accounts, now), {place.run for place in places}
    for place in places:  # and what these are expected to have
        if place.run in vtimes:
            left = gpu_equivalents(place.devices, place.cpus) * _clamp_seconds(
                remaining_s(place, now), LEAST_S
            )
            vtimes[place.run] += left / accounts[place.run].share
    # of what nothing is known counts as long as that of which something is
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
    """Knows which runs waited or ran before, and where those begin that come beside them."""

    def __init__(self) -> None:
        """Begin without runs."""
        self._present: frozenset[str] = frozenset()

    def initialize(
        self, accounts: Mapping[str, FairShareAccount], running: Iterable[Running], now: float
    ) -> dict[str, FairShareAccount]:
        """Return the accounts of runs that wait, where those are changed that have just come.

        Args:
            accounts: of all runs with jobs that could start.
            running: what has a place on the machine.
            now: on the clock of `Running.since`.
        """
        places = [*running]
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
    """Return how many card-seconds a running job has had."""
    return gpu_equivalents(job.devices, job.cpus) * (elapsed_s(job, now) or 0.0)


def virtual_times(
    running: Iterable[Running], accounts: Mapping[str, FairShareAccount], now: float
) -> dict[str, float]:
    """Return the virtual times of runs, with what those of their jobs that run have had by now."""
    vtimes = {run: account.vtime for run, account in accounts.items()}
    for job in running:
        if job.run in vtimes:
            vtimes[job.run] += used_gpu_seconds(job, now) / accounts[job.run].share
    return vtimes


def _expected_seconds(job: Waiting) -> float | None:
    """Return how long a job is expected to take, None where no more than its limit is known."""
    return job.seconds if job.forecast.seconds or job.forecast.limit is None else None


def _clamp_seconds(seconds: float | None, otherwise: float) -> float:
    known = seconds if seconds is not None and seconds == seconds else otherwise  # not NaN
    return min(max(known, LEAST_S), MOST_S)


class OrderedQueue(NamedTuple):
    """Waiting jobs in their order, and what runs."""

    jobs: Sequence[Waiting]
    running_local: Sequence[Running]  # on this machine
    running_on_pilots: Sequence[Running]  # on pilots


class PendingQueue:
    """Knows what tells the order of jobs beside their rank: how long they wait, what their runs had."""

    def __init__(self, queue: SchedulerActions, usage: UsageLookup | None = None) -> None:
        """Begin without having seen any job.

        Args:
            queue: whose jobs wait.
            usage: tells what is known of jobs; None: what is on record.
        """
        self._queue, self._usage = queue, usage or queue.usage
        self._ages, self._newcomers, self._lengths = (
            AgeTracker(),
            VtimeInitializer(),
            QueueDelayEstimator(),
        )

    def reset(self) -> None:
        """Find out anew where runs begin that have just come: what was stored of that came to nothing."""
        self._newcomers = VtimeInitializer()

    def order_jobs(
        self,
        ready: Sequence[ReadyJob],
        running_local: Sequence[Running],
        running_on_pilots: Sequence[Running],
        machine: Machine,
        now: float,
        policy: SchedulingPolicy,
    ) -> OrderedQueue:
        """Return the jobs in the order in which they are looked at.

        Args:
            ready: all that could start.
            running_local: what runs on this machine.
            running_on_pilots: what runs on pilots.
            machine: this one.
            now: seconds since 1970.
            policy: the policy.
        """
        seen, running = self._ages.correct_clock(
            [make_waiting(job, self._usage(job.lane.signature, job.program)) for job in ready],
            [*running_local, *running_on_pilots],
            now=now,
            steady=time.clock_gettime(time.CLOCK_BOOTTIME),
        )
        if self._lengths.is_due(now):
            heads = {job.lane_id: head for job, head in zip(ready, seen, strict=True)}
            counts = self._queue.waiting_by_lane()
            lanes = [(heads[lane], count) for lane, count in counts.items() if lane in heads]
            self._lengths.record(now, queue_length(lanes, running, machine, now))
        accounts = self._accounts(ready, running, now)
        line = order_by_policy(self._lengths.set_patience(seen), now, policy)
        ordered = order_by_fair_share(line, running, accounts, now, policy)
        return OrderedQueue(ordered, running[: len(running_local)], running[len(running_local) :])

    def _accounts(
        self, ready: Sequence[ReadyJob], running: Sequence[Running], now: float
    ) -> dict[str, FairShareAccount]:
        """Return what the runs had that wait; where those begin that have just come is stored."""
        accounts = {str(job.account.run): job.account for job in ready}
        entered = self._newcomers.initialize(accounts, running, now)
        changed = {run: each.vtime for run, each in entered.items() if each != accounts[run]}
        if changed:
            self._queue.set_vtimes(changed)
        return entered
