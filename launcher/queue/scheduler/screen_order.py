"""Order of waiting jobs in lists: that in which the scheduler examines them, without estimates of running jobs."""

from collections.abc import Iterable
from functools import partial

from launcher.queue.scheduler.policy.disciplines import DEFAULT_POLICY, SchedulingPolicy
from launcher.queue.store.job_queries import JobOrder, order_by_rank
from launcher.queue.store.queue import Store
from launcher.queue.store.runs import JobClass


def screen_order(store: Store, now: float, policy: SchedulingPolicy = DEFAULT_POLICY) -> JobOrder:
    """Return the key that sorts the first jobs of all runs in the order of the scheduler."""
    return partial(_ordered_numbers, store, now) if policy.uses_fair_share else order_by_rank


def _ordered_numbers(store: Store, now: float, flows: Iterable[JobClass]) -> list[int]:
    listed = [*flows]
    if len({flow.account.run for flow in listed}) < 2:
        return order_by_rank(listed)
    from launcher.queue.scheduler.run_places import order_by_runs  # 5 ms, only for several runs

    return order_by_runs(store, now, listed)
