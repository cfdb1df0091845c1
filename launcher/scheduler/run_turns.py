"""Whose turn it is between runs, as screens tell it: the order of waiting jobs, and why a job is behind others.

From what the queue has on record; how long running jobs will take is left to the scheduler's own decision.

In which order the jobs of several runs are looked at: weighted fair queueing between runs.

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
from functools import partial
from heapq import heapify, heappop, heapreplace
from math import inf, isfinite
from statistics import median
from types import MappingProxyType
from typing import NamedTuple

from launcher.accounts import CORES_OF_A_CARD, NO_ACCOUNT, Account, cards_of
from launcher.errors import counted
from launcher.job import Resources
from launcher.scheduler.policy.disciplines import OURS, Discipline
from launcher.scheduler.policy.model import Running, Waiting
from launcher.states import State
from launcher.store.job_queries import InOrder, by_rank
from launcher.store.queue import Store
from launcher.store.rows import JobRow
from launcher.store.runs import FirstJobs, Flow, jobs_before, open_runs, places
from launcher.store.user_actions import AGEING_S
from launcher.system.files import Json
from launcher.system.text import harmless

CREDIT_S = 8 * 3600.0  # card-seconds for a share of 1
LEAST_S, MOST_S = 1.0, 86_400.0  # so long a job counts that has not ended, whatever is expected
NO_ACCOUNTS: Mapping[str, Account] = MappingProxyType({})


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
    accounts: Mapping[str, Account] = NO_ACCOUNTS,
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
        self, accounts: Mapping[str, Account], running: Iterable[Running], now: float
    ) -> dict[str, Account]:
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
                account = account._replace(vtime=begins)
            entered[run] = account
        self._present = frozenset(accounts) | {place.run for place in places}
        return entered


def virtual_times(
    running: Iterable[Running], accounts: Mapping[str, Account], now: float
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
    accounts: Mapping[str, Account],
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


MOST_NAMED = 3  # runs that go first
_ORDINALS = {1: "first", 2: "second", 3: "third"}
_SUFFIXES = {1: "st", 2: "nd", 3: "rd"}


class RunRow(NamedTuple):
    """A run with open jobs, as `launcher share` lists it."""

    account: Account
    used: float  # card-seconds
    running: int
    waiting: int

    def cells(self) -> tuple[str, ...]:
        """Return name, share, use and jobs, for people."""
        used = _rounded(self.used / 3600)
        share = f"{self.account.share:g}"
        return harmless(self.account.name), share, used, str(self.running), str(self.waiting)

    def record(self) -> dict[str, Json]:
        """Return the same for programs."""
        return {
            "run": harmless(self.account.name),
            "share": self.account.share,
            "gpu_hours": self.used / 3600,
            "running": self.running,
            "waiting": self.waiting,
        }


def runs_of(store: Store, now: float) -> list[RunRow]:
    """Return the runs that have open jobs, and what they used lately."""
    running = _running(store)
    return [
        RunRow(account=account, used=_used(account, running, now), running=number, waiting=waiting)
        for account, number, waiting in open_runs(store.database.execute)
    ]


def screen_order(store: Store, now: float, discipline: Discipline = OURS) -> InOrder:
    """Return what brings the first jobs of all runs into the order in which the scheduler looks at them."""
    return partial(_numbers, _running(store), now) if discipline.takes_turns else by_rank


def turn_of(store: Store, row: JobRow, now: float, discipline: Discipline = OURS) -> str:
    """Return which place a waiting job has in its run, and which runs go first; '' where no other run waits.

    The place is by age: who has waited longer for his length is not known here, and may start before.

    Args:
        home: of the queue; under another policy than ours runs do not take turns.
        store: the queue.
        row: the job.
        now: seconds since 1970.
        discipline: the policy that decides.
    """
    if not discipline.takes_turns or row.state is not State.QUEUED or row.waits:
        return ""
    flows = [*FirstJobs(store.database.execute).flows(1)]
    accounts = {str(flow.account.run): flow.account for flow in flows}
    own = accounts.get(str(row.run_id))
    if own is None or len(accounts) < 2:
        return ""
    running = _running(store)
    vtimes, on_gpus = virtual_times(running, accounts, now), row.spec.resources.may_need_gpu

    def use(account: Account) -> str:
        hours, unit = _hours(_used(account, running, now), on_gpus=on_gpus)
        return f"share {account.share:g}, used {hours} {unit} lately"

    heads = in_turn(_waiting(flows), running, accounts, now)
    order = [*dict.fromkeys(job.run for job in heads)]
    first = [accounts[run] for run in order[: order.index(str(row.run_id))]]
    priorities = {flow.priority for flow in flows if flow.account.run == row.run_id}
    place = _ordinal(1 + jobs_before(store.database.execute, row, priorities))
    text = f"{place} by age of run {harmless(row.run)} ({use(own)})"
    if not first:
        later = accounts[order[1]]
        return f"{text}; this run comes next, before run {harmless(later.name)} ({use(later)})"
    named = ", ".join(f"run {harmless(run.name)} ({use(run)})" for run in first[:MOST_NAMED])
    more = len(first) - MOST_NAMED
    if more > 0:
        named = f"{named} and {counted(more, 'other run')}"
    heads_by_run = {job.run: job for job in reversed(heads)}
    priority = heads_by_run[str(first[0].run)].priority
    ahead_s = vtimes[str(own.run)] - vtimes[str(first[0].run)]
    why, subject = "", "it" if len(first) == 1 else "the first of them"
    if priority > heads_by_run[str(own.run)].priority:
        why = f": {subject} has a job with priority {priority}"
    elif ahead_s > 0:
        hours, unit = _hours(ahead_s, on_gpus=on_gpus)
        why = f": {subject} had {hours} {unit} less for a share of 1"
    return f"{text}; {named} {'goes' if len(first) == 1 else 'go'} first{why}"


def _numbers(running: Sequence[Running], now: float, flows: Iterable[Flow]) -> list[int]:
    listed = [*flows]
    accounts = {str(flow.account.run): flow.account for flow in listed}
    return [job.job for job in in_turn(_waiting(listed), running, accounts, now)]


def _waiting(flows: Iterable[Flow]) -> list[Waiting]:
    resources = Resources()
    jobs = [
        Waiting(
            job=job,
            resources=resources,
            run=str(flow.account.run),
            weight=flow.account.share,
            since=rank,
            priority=flow.priority,
        )
        for flow in flows
        for rank, job in flow.jobs
    ]
    return sorted(jobs, key=lambda job: (job.since, job.job))


def _running(store: Store) -> list[Running]:
    return [
        Running(run=str(run), since=since, devices=gpus, cpus=cpus)
        for run, since, gpus, cpus in places(store.database.execute)
    ]


def _used(account: Account, running: Iterable[Running], now: float) -> float:
    """Return the card-seconds that a run had lately, with what its running jobs have had."""
    own = (job for job in running if job.run == str(account.run))
    return account.used_by(now) + sum(
        cards_of(job.devices, job.cpus) * max(0.0, now - (job.since or now)) for job in own
    )


def _hours(card_s: float, *, on_gpus: bool) -> tuple[str, str]:
    hours = card_s / 3600
    return (
        (_rounded(hours), "GPU-hours")
        if on_gpus
        else (_rounded(hours * CORES_OF_A_CARD), "core-hours")
    )


def _rounded(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.1f}"


def _ordinal(number: int) -> str:
    suffix = "th" if 10 < number % 100 < 14 else _SUFFIXES.get(number % 10, "th")
    return _ORDINALS.get(number, f"{number:,}{suffix}")
