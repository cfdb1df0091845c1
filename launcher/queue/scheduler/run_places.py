"""Order of the waiting jobs of several runs, and why one is behind others, as screens show it from the store.

The duration of running jobs is left to the scheduler's own decision.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from launcher.queue.jobs.accounts import CORES_PER_GPU, FairShareAccount
from launcher.queue.jobs.job import Resources
from launcher.queue.jobs.states import State
from launcher.queue.scheduler.policy.disciplines import DEFAULT_POLICY, SchedulingPolicy
from launcher.queue.scheduler.policy.model import Running, Waiting
from launcher.queue.scheduler.waiting_line import (
    order_by_fair_share,
    used_gpu_seconds,
    virtual_times,
)
from launcher.queue.store.queue import Store
from launcher.queue.store.rows import JobRow
from launcher.queue.store.runs import (
    JobClass,
    QueueHeads,
    count_jobs_before,
    open_runs,
    running_placements,
)
from launcher.system.errors import pluralize
from launcher.system.files import Json
from launcher.system.text import sanitize_terminal

MOST_NAMED = 3  # runs that go first
_ORDINALS = {1: "first", 2: "second", 3: "third"}
_SUFFIXES = {1: "st", 2: "nd", 3: "rd"}


class RunRow(NamedTuple):
    """A run with open jobs, as `launcher share` lists it."""

    account: FairShareAccount
    used: float  # GPU-seconds
    running: int
    waiting: int

    def cells(self) -> tuple[str, ...]:
        """Return name, share, use and jobs, for people."""
        used = _format_number(self.used / 3600)
        share = f"{self.account.share:g}"
        return (
            sanitize_terminal(self.account.name),
            share,
            used,
            str(self.running),
            str(self.waiting),
        )

    def to_json(self) -> dict[str, Json]:
        """Return the same for programs."""
        return {
            "run": sanitize_terminal(self.account.name),
            "share": self.account.share,
            "gpu_hours": self.used / 3600,
            "running": self.running,
            "waiting": self.waiting,
        }


def runs_of(store: Store, now: float) -> list[RunRow]:
    """Return the runs with open jobs and their recent usage."""
    running = _read_running(store)
    return [
        RunRow(
            account=account,
            used=_recent_usage(account, running, now),
            running=number,
            waiting=waiting,
        )
        for account, number, waiting in open_runs(store.database.execute)
    ]


def describe_position(
    store: Store, row: JobRow, now: float, policy: SchedulingPolicy = DEFAULT_POLICY
) -> str:
    """Return the position of a waiting job in its run, and the preceding runs. '' without other waiting runs.

    The position is by age. The scheduler's ratio of waiting time to length is not known here, so
    later jobs may start first.

    Args:
        store: The queue.
        row: The job.
        now: Seconds since 1970.
        policy: The policy of the scheduler. Only the default policy alternates runs.
    """
    if not policy.uses_fair_share or row.state is not State.QUEUED or row.waits:
        return ""
    flows, own = [*QueueHeads(store.database.execute).read_classes(1)], str(row.run_id)
    accounts = {str(flow.account.run): flow.account for flow in flows}
    if own not in accounts or len(accounts) < 2:
        return ""
    running, on_gpus = _read_running(store), row.spec.resources.may_need_gpu

    def describe_run(run: str) -> str:
        account = accounts[run]
        used = _format_hours(_recent_usage(account, running, now), on_gpus=on_gpus)
        return (
            f"run {sanitize_terminal(account.name)} (share {account.share:g}, used {used} lately)"
        )

    priorities: dict[str, int] = {}
    for job in order_by_fair_share(_list_waiting(flows), running, accounts, now):
        priorities.setdefault(job.run, job.priority)
    order = [*priorities]
    first = order[: order.index(own)]
    own_priorities = {flow.priority for flow in flows if flow.account.run == row.run_id}
    place = _ordinal(1 + count_jobs_before(store.database.execute, row, own_priorities))
    text = f"{place} by age in {describe_run(own)}"
    if not first:
        return f"{text}; this run comes next, before {describe_run(order[1])}"
    others = ", ".join(map(describe_run, first[:MOST_NAMED]))
    if len(first) > MOST_NAMED:
        others = f"{others} and {pluralize(len(first) - MOST_NAMED, 'other run')}"
    comes, subject = ("comes", "it") if len(first) == 1 else ("come", "the first of them")
    vtimes, why = virtual_times(running, accounts, now), ""
    if priorities[first[0]] > priorities[own]:
        why = f": {subject} has a job with priority {priorities[first[0]]}"
    elif (ahead_s := vtimes[own] - vtimes[first[0]]) > 0:
        less, none = (_format_hours(seconds, on_gpus=on_gpus) for seconds in (ahead_s, 0.0))
        less = "slightly" if less == none else less
        why = f": {subject} used {less} less for each unit of share"
    return f"{text}; {others} {comes} before this run{why}"


def order_by_runs(store: Store, now: float, flows: Sequence[JobClass]) -> list[int]:
    """Return the numbers of the first jobs of all runs in the order of weighted fair queueing."""
    running = _read_running(store)
    accounts = {str(flow.account.run): flow.account for flow in flows}
    return [job.job for job in order_by_fair_share(_list_waiting(flows), running, accounts, now)]


def _list_waiting(flows: Iterable[JobClass]) -> list[Waiting]:
    resources = Resources()
    jobs = [
        Waiting(
            job=job,
            resources=resources,
            run=str(flow.account.run),
            since=rank,
            priority=flow.priority,
        )
        for flow in flows
        for rank, job in flow.jobs
    ]
    return sorted(jobs, key=lambda job: (job.since, job.job))


def _read_running(store: Store) -> list[Running]:
    return [
        Running(run=str(run), since=since, devices=gpus, cpus=cpus)
        for run, since, gpus, cpus in running_placements(store.database.execute)
    ]


def _recent_usage(account: FairShareAccount, running_jobs: Iterable[Running], now: float) -> float:
    """Return the recent GPU-seconds of a run, including those of its running jobs."""
    own = (used_gpu_seconds(job, now) for job in running_jobs if job.run == str(account.run))
    return account.decayed_usage(now) + sum(own)


def _format_hours(card_s: float, *, on_gpus: bool) -> str:
    if on_gpus:
        return f"{_format_number(card_s / 3600)} GPU-hours"
    return f"{_format_number(card_s / 3600 * CORES_PER_GPU)} core-hours"


def _format_number(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.1f}"


def _ordinal(number: int) -> str:
    suffix = "th" if 10 < number % 100 < 14 else _SUFFIXES.get(number % 10, "th")
    return _ORDINALS.get(number, f"{number:,}{suffix}")
