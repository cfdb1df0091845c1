"""The order of the jobs in each list: the queue's own, or by what a person asks for."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from launcher.screens.format import JobLine
from launcher.screens.screen import Happening, Screen, Work

QUEUE = ""  # the order in which the queue has them
ORDERS = (QUEUE, "name", "wait", "memory", "time", "priority")

_Job = TypeVar("_Job")
_Keys = Mapping[str, Callable[[_Job], Any]]  # order → what is compared; None where it is not known


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
    keys: dict[str, _Keys[Any]] = {"running": _RUNNING, "waiting": _LISTED, "recent": _RECENT}
    keys |= {} if screen.found is None else {"found": _LISTED}
    jobs = {name: getattr(screen, name) for name in keys if order in keys[name]}
    lists = {name: _sorted(jobs[name], keys[name][order], reverse=reverse) for name in jobs}
    changes: dict[str, object] = {"orders": dict.fromkeys(lists, title), **lists}
    return replace(screen, **changes)  # type: ignore[arg-type]  # as they are named


def _sorted(jobs: Sequence[_Job], key: Callable[[_Job], Any], *, reverse: bool) -> tuple[_Job, ...]:
    known = [job for job in jobs if key(job) is not None]
    unknown = [job for job in jobs if key(job) is None]
    return (*sorted(known, key=key, reverse=reverse), *unknown)


def _use(work: Work) -> int | None:
    amount = None if work.memory is None else work.memory.now or work.memory.peak
    return None if amount is None else -amount


def _took(ended: Happening) -> float | None:
    return None if ended.seconds is None else -ended.seconds


_RUNNING: _Keys[Work] = {
    "name": lambda work: work.line.name,
    "memory": _use,
    "time": lambda work: work.started,
    "priority": lambda work: -work.line.priority,
}
_LISTED: _Keys[JobLine] = {
    "name": lambda job: job.name,
    "wait": lambda job: job.since,
    "time": lambda job: job.since,
    "priority": lambda job: -job.priority,
}
_RECENT: _Keys[Happening] = {
    "name": lambda ended: ended.line.name,
    "time": _took,
    "priority": lambda ended: -ended.line.priority,
}
