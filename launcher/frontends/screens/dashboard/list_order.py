"""The orders in which the lists of a screen can be sorted."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from launcher.frontends.screens.job_view import JobView
from launcher.frontends.screens.snapshots import QueueSnapshot

QUEUE_ORDER = ""  # the order of the queue
ORDERS = (QUEUE_ORDER, "name", "wait", "memory", "time", "priority")
_Key = Callable[[JobView], Any]  # returns the sort key; None if unknown


def sort_snapshot(screen: QueueSnapshot, order: str, *, reverse: bool = False) -> QueueSnapshot:
    """Return a snapshot with sorted lists. The sort is stable; lists without this order are unchanged.

    Args:
        screen: screen in the queue's order.
        order: one of ORDERS; `name` is ascending, all others are descending.
        reverse: reverse the order; jobs with unknown values stay last.
    """
    if order == QUEUE_ORDER:
        return screen
    title = f"{order}, reversed" if reverse else order
    lists = {
        name: _sort_jobs(getattr(screen, name), keys[order], reverse=reverse)
        for name, keys in _KEYS.items()
        if order in keys and getattr(screen, name) is not None
    }
    changes: dict[str, object] = {"orders": dict.fromkeys(lists, title), **lists}
    return screen._replace(**changes)  # type: ignore[arg-type]  # as they are named


def _sort_jobs(jobs: Sequence[JobView], key: _Key, *, reverse: bool) -> tuple[JobView, ...]:
    known = [job for job in jobs if key(job) is not None]
    unknown = [job for job in jobs if key(job) is None]
    return (*sorted(known, key=key, reverse=reverse), *unknown)


def _used_memory(job: JobView) -> int | None:
    amount = None if job.memory is None else job.memory.now or job.memory.peak
    return None if amount is None else -amount


def _requested_memory(job: JobView) -> int | None:
    return None if job.memory is None or job.memory.requested is None else -job.memory.requested


_COMMON_KEYS: Mapping[str, _Key] = {
    "name": lambda job: job.name,
    "priority": lambda job: -job.priority,
    "time": lambda job: job.since,
}


_LIST_KEYS = {**_COMMON_KEYS, "wait": _COMMON_KEYS["time"]}


_KEYS: Mapping[str, Mapping[str, _Key]] = {
    "running": {**_COMMON_KEYS, "memory": _used_memory},
    "waiting": {**_LIST_KEYS, "memory": _requested_memory},
    "recent": {
        **_COMMON_KEYS,
        "time": lambda job: None if job.seconds is None else -job.seconds,
    },
    "found": _LIST_KEYS,
}
