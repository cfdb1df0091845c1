"""The orders in which the lists of a screen can be sorted."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from launcher.screens.job_view import JobView
from launcher.screens.snapshots import Screen

QUEUE = ""  # the order in which the queue has them
ORDERS = (QUEUE, "name", "wait", "memory", "time", "priority")
_Key = Callable[[JobView], Any]  # what is compared; None where it is not known


def sorted_screen(screen: Screen, order: str, *, reverse: bool = False) -> Screen:
    """Return a screen whose lists are in an order; equals stay as they were, as does a list without it.

    Args:
        screen: in the queue's order.
        order: one of ORDERS; all but `name` begin with the most.
        reverse: the other way round; what is not known stays last.
    """
    if order == QUEUE:
        return screen
    title = f"{order}, reversed" if reverse else order
    lists = {
        name: _sorted(getattr(screen, name), keys[order], reverse=reverse)
        for name, keys in _KEYS.items()
        if order in keys and getattr(screen, name) is not None
    }
    changes: dict[str, object] = {"orders": dict.fromkeys(lists, title), **lists}
    return screen._replace(**changes)  # type: ignore[arg-type]  # as they are named


def _sorted(jobs: Sequence[JobView], key: _Key, *, reverse: bool) -> tuple[JobView, ...]:
    known = [job for job in jobs if key(job) is not None]
    unknown = [job for job in jobs if key(job) is None]
    return (*sorted(known, key=key, reverse=reverse), *unknown)


def _use(job: JobView) -> int | None:
    amount = None if job.memory is None else job.memory.now or job.memory.peak
    return None if amount is None else -amount


def _asked(job: JobView) -> int | None:
    return None if job.memory is None or job.memory.asked is None else -job.memory.asked


_ALL: Mapping[str, _Key] = {
    "name": lambda job: job.name,
    "priority": lambda job: -job.priority,
    "time": lambda job: job.since,
}


_LISTED = {**_ALL, "wait": _ALL["time"]}


_KEYS: Mapping[str, Mapping[str, _Key]] = {
    "running": {**_ALL, "memory": _use},
    "waiting": {**_LISTED, "memory": _asked},
    "recent": {**_ALL, "time": lambda ended: None if ended.seconds is None else -ended.seconds},
    "found": _LISTED,
}
