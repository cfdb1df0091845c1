"""In which order the jobs of several runs are looked at: weighted fair queueing between runs.

Within a run jobs come as the policy has them (`disciplines.arranged`). Between runs the one comes next that had least of the machine for
its share, its virtual time: what its ended attempts had, what those that run have had and are expected to have, and
what stands before it in this order. So runs with shares 1 and 3 get card time as 1 to 3, whatever their jobs ask
for. (Demers, Keshav, Shenker, "Analysis and simulation of a fair queueing algorithm", 1989.)

A run that comes beside others begins CREDIT_S before them: a quick run is done before it has to share, and what was
before counts no more than that, for or against it.

A job with a higher priority comes before those of other runs; and so does one whose run had nothing for a day, like
one with a point more: nobody waits for ever behind runs that are always new.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heapreplace
from math import inf, isfinite
from statistics import median
from types import MappingProxyType

from launcher.scheduler.policy.disciplines import OURS, Discipline
from launcher.scheduler.policy.model import Running, Waiting
from launcher.store.accounts import NO_ACCOUNT, RunAccount, cards_of
from launcher.store.user_actions import AGEING_S

CREDIT_S = 8 * 3600.0  # card-seconds for a share of 1
LEAST_S, MOST_S = 1.0, 86_400.0  # so long a job counts that has not ended, whatever is expected
NO_ACCOUNTS: Mapping[str, RunAccount] = MappingProxyType({})


@dataclass(slots=True)
class _Line:
    """The waiting jobs of a run in their order, and its virtual time by the next of them."""

    served: float  # when it last had something of the machine
    vtime: float
    jobs: list[Waiting] = field(default_factory=list)
    next: int = 0

    def key(self, now: float) -> tuple[float, float, float]:
        """Return the place of the next job beside those of other runs, the smallest first."""
        job = self.jobs[self.next]
        submitted = job.since + job.priority * AGEING_S
        unserved_s = now - max(submitted, self.served)
        points = int(unserved_s // AGEING_S) if unserved_s >= AGEING_S else 0
        return -job.priority - points, self.vtime, job.since


def in_turn(
    waiting: Iterable[Waiting],
    running: Iterable[Running] = (),
    accounts: Mapping[str, RunAccount] = NO_ACCOUNTS,
    now: float = 0.0,
    discipline: Discipline = OURS,
) -> list[Waiting]:
    """Return waiting jobs in the order in which a decision looks at them.

    Args:
        waiting: those of a run stay in the order in which they come.
        running: what has a place on the machine already.
        accounts: by run, what ended attempts had.
        now: on the clock of the accounts, and of `Running.since` and `Running.ends`.
        discipline: the policy; most know no runs.
    """
    jobs = [*waiting]
    if not discipline.takes_turns or len({job.run for job in jobs}) < 2:
        return jobs
    lines = _lines(jobs, [*running], accounts, now)
    usual_s = _usual(jobs)
    heap = [(line.key(now), number, line) for number, line in enumerate(lines)]
    heapify(heap)
    ordered: list[Waiting] = []
    while heap:
        _, number, line = heap[0]
        job = line.jobs[line.next]
        ordered.append(job)
        line.vtime += _cards(job) * _expected(_foreseen(job), usual_s) / _share(job.weight)
        line.next += 1
        if line.next < len(line.jobs):
            heapreplace(heap, (line.key(now), number, line))
        else:
            heappop(heap)
    return ordered


class Newcomers:
    """Knows which runs waited or ran before, and where those begin that come beside them."""

    def __init__(self) -> None:
        """Begin without runs."""
        self._present: frozenset[str] = frozenset()

    def entered(
        self, accounts: Mapping[str, RunAccount], running: Iterable[Running], now: float
    ) -> dict[str, RunAccount]:
        """Return the accounts of runs that wait, where those are changed that have just come.

        Args:
            accounts: of all runs with jobs that could start.
            running: what has a place on the machine.
            now: on the clock of `Running.since`.
        """
        places = [*running]
        vtimes = virtual_times(places, accounts, now)
        there = {run: vtimes[run] for run in accounts if run in self._present}
        base = min((there or vtimes).values(), default=0.0)
        lowest = base - CREDIT_S if there else base
        entered = {}
        for run, account in accounts.items():
            begins = min(max(account.vtime, lowest), base + CREDIT_S)
            if run not in self._present and begins != account.vtime:
                account = account.at_vtime(begins)
            entered[run] = account
        self._present = frozenset(accounts) | {place.run for place in places}
        return entered


def virtual_times(
    running: Iterable[Running], accounts: Mapping[str, RunAccount], now: float
) -> dict[str, float]:
    """Return the virtual times of runs, with what those of their jobs that run have had by now."""
    vtimes = {run: account.vtime for run, account in accounts.items()}
    for job in running:
        if job.run in vtimes:
            had = cards_of(job.devices, job.cpus) * _elapsed(job, now)
            vtimes[job.run] += had / accounts[job.run].share
    return vtimes


def _lines(
    jobs: Iterable[Waiting],
    running: Sequence[Running],
    accounts: Mapping[str, RunAccount],
    now: float,
) -> list[_Line]:
    vtimes, active = virtual_times(running, accounts, now), {job.run for job in running}
    for place in running:
        if place.run in vtimes:
            left = cards_of(place.devices, place.cpus) * _left(place, now)
            vtimes[place.run] += left / accounts[place.run].share
    lines: dict[str, _Line] = {}
    for job in jobs:
        if job.run not in lines:
            at = accounts.get(job.run, NO_ACCOUNT).at
            # a time that is still to come was written before the clock was set back
            served = inf if job.run in active else at if at <= now else -inf
            lines[job.run] = _Line(served, vtimes.get(job.run, 0.0))
        lines[job.run].jobs.append(job)
    return [*lines.values()]


def _left(job: Running, now: float) -> float:
    """Return how long a running job is expected to go on: as long again, where nothing is known."""
    elapsed, ends = _elapsed(job, now), job.ends
    if job.forecast.seconds and job.since is not None:
        ends = job.forecast.end(now - elapsed, now)
    elif job.forecast.limit is not None:
        ends = None  # a limit alone says little
    return _expected(None if ends is None or ends <= now else ends - now, elapsed)


def _elapsed(job: Running, now: float) -> float:
    return max(0.0, now - job.since) if job.since is not None and isfinite(job.since) else 0.0


def _usual(jobs: Sequence[Waiting]) -> float:
    """Return how long a job counts of which nothing is known: as those of which it is."""
    known = [seconds for job in jobs if (seconds := _foreseen(job)) is not None]
    return _expected(median(known) if known else None, LEAST_S)


def _foreseen(job: Waiting) -> float | None:
    """Return how long a job is expected to take, None where no more than its limit is known."""
    return job.seconds if job.forecast.seconds or job.forecast.limit is None else None


def _expected(seconds: float | None, otherwise: float) -> float:
    known = seconds if seconds is not None and seconds == seconds else otherwise  # not NaN
    return min(max(known, LEAST_S), MOST_S)


def _share(weight: float) -> float:
    return weight if isfinite(weight) and weight > 0 else 1.0


def _cards(job: Waiting) -> float:
    asked = job.resources
    return cards_of(asked.gpus if asked.may_need_gpu else 0, asked.cpus)
