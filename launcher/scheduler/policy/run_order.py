"""In which order the jobs of several runs are looked at: weighted fair queueing between runs.

Within a run jobs come by rank: priority, then age. Between runs the one comes next that used least of the machine
lately, for its share: what its ended attempts used, which fades, what those that run have used and are expected to,
and what stands before it in this order. So runs with shares 1 and 3 get card time as 1 to 3, and a run of three jobs
is not behind one of a thousand. (Demers, Keshav, Shenker, "Analysis and simulation of a fair queueing algorithm",
1989; use that fades is Kay and Lauder's fair share, 1988.)

A job with a higher priority comes before those of other runs; and so does one whose run had nothing for a day, like
one with a point more: nobody waits for ever behind runs that are always new.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heapreplace
from math import isfinite
from statistics import median
from types import MappingProxyType

from launcher.scheduler.policy.model import Running, Waiting
from launcher.store.runs.accounts import NO_ACCOUNT, RunAccount, cards_of, lately
from launcher.store.user_actions import AGEING_S

LEAST_S = 1.0  # a job of which nothing is known counts at least as long
NO_ACCOUNTS: Mapping[str, RunAccount] = MappingProxyType({})


@dataclass(slots=True)
class _Line:
    """The waiting jobs of a run in their order, and how much the run has had by the next of them."""

    account: RunAccount
    served: float | None  # when it last had something of the machine; None: now
    used: float  # card-seconds
    jobs: list[Waiting] = field(default_factory=list)
    next: int = 0

    def key(self, now: float) -> tuple[float, float, float]:
        """Return the place of the next job beside those of other runs, the smallest first."""
        job = self.jobs[self.next]
        level = job.priority
        if self.served is not None:
            submitted = job.rank + job.priority * AGEING_S
            level += max(0, int((now - max(submitted, self.served)) // AGEING_S))
        return -level, self.used / _weight(job), job.rank


def in_turn(
    waiting: Iterable[Waiting],
    running: Iterable[Running] = (),
    accounts: Mapping[str, RunAccount] = NO_ACCOUNTS,
    now: float = 0.0,
) -> list[Waiting]:
    """Return waiting jobs in the order in which a decision looks at them.

    Args:
        waiting: those of a run that are alike in rank stay in the order in which they come.
        running: what has a place on the machine already.
        accounts: by run, what ended attempts used.
        now: on the clock of the accounts, and of `Running.since` and `Running.ends`.
    """
    jobs = sorted(waiting, key=lambda job: job.rank)
    if len({job.run for job in jobs}) < 2:
        return jobs
    lines = _lines(jobs, running, accounts, now)
    usual_s = _usual(jobs)
    heap = [(line.key(now), number, line) for number, line in enumerate(lines)]
    heapify(heap)
    ordered: list[Waiting] = []
    while heap:
        _, number, line = heap[0]
        job = line.jobs[line.next]
        ordered.append(job)
        line.used += _cards(job) * lately(_seconds(job, usual_s))
        line.next += 1
        if line.next < len(line.jobs):
            heapreplace(heap, (line.key(now), number, line))
        else:
            heappop(heap)
    return ordered


def use_by_run(
    running: Iterable[Running], accounts: Mapping[str, RunAccount], now: float
) -> dict[str, float]:
    """Return the card-seconds that runs had lately, with what those that run have had by now."""
    used = {run: account.used_by(now) for run, account in accounts.items()}
    for job in running:
        had = _cards_of_running(job) * lately(_elapsed(job, now))
        used[job.run] = used.get(job.run, 0.0) + had
    return used


def _lines(
    jobs: Iterable[Waiting],
    running: Iterable[Running],
    accounts: Mapping[str, RunAccount],
    now: float,
) -> list[_Line]:
    running = [*running]
    used, active = use_by_run(running, accounts, now), {job.run for job in running}
    for place in running:
        used[place.run] = used.get(place.run, 0.0) + _cards_of_running(place) * lately(
            _left(place, now)
        )
    lines: dict[str, _Line] = {}
    for job in jobs:
        if job.run not in lines:
            account = accounts.get(job.run, NO_ACCOUNT)
            served = None if job.run in active else min(account.at, now)
            lines[job.run] = _Line(account, served, used.get(job.run, 0.0))
        lines[job.run].jobs.append(job)
    return [*lines.values()]


def _left(job: Running, now: float) -> float:
    """Return how long a running job is expected to go on: as long again, where nothing is known."""
    if job.ends is not None and isfinite(job.ends) and job.ends > now:
        return job.ends - now
    return max(LEAST_S, _elapsed(job, now))


def _elapsed(job: Running, now: float) -> float:
    return max(0.0, now - job.since) if job.since is not None and isfinite(job.since) else 0.0


def _usual(jobs: Sequence[Waiting]) -> float:
    """Return how long a job counts of which nothing is known: as those of which it is."""
    known = [_seconds(job, 0.0) for job in jobs if job.seconds is not None]
    return max(LEAST_S, median(known)) if known else LEAST_S


def _seconds(job: Waiting, usual_s: float) -> float:
    return job.seconds if job.seconds is not None and isfinite(job.seconds) else usual_s


def _weight(job: Waiting) -> float:
    return job.weight if isfinite(job.weight) and job.weight > 0 else 1.0


def _cards(job: Waiting) -> float:
    asked = job.resources
    return cards_of(asked.gpus if asked.may_need_gpu else 0, asked.cpus)


def _cards_of_running(job: Running) -> float:
    return cards_of(job.devices, job.cpus)
