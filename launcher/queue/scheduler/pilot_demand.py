"""How much of what waits would start if a backend had more pilots; no clock, no files."""

from collections import Counter
from collections.abc import Iterable, Mapping
from math import ceil
from typing import NamedTuple

from launcher.queue.backends.eligibility import count_slots, why_never_fits
from launcher.queue.backends.node_paths import NodePaths
from launcher.queue.backends.pilot_rules import Demand
from launcher.queue.backends.settings import BackendSettings
from launcher.queue.store.lanes import Lane


class WaitingLane(NamedTuple):
    """Jobs with the same request that wait only for room."""

    lane: Lane
    jobs: int
    paths: tuple[str, ...] = ()  # paths that they need to see on a node, as this machine has them
    interpreter: str = ""  # path of the Python that a node must have


def pilot_demands(
    lanes: Iterable[WaitingLane],
    backends: Mapping[str, BackendSettings],
    remaining_in_group: Mapping[str, int],
) -> dict[str, Demand]:
    """Return the work for the pilots of each backend.

    A job counts for the first of its backends that can hold it. Work above the capacity of all
    pilots of that backend counts for the next one.

    Args:
        lanes: The waiting jobs.
        backends: The configured backends.
        remaining_in_group: How many further jobs of a group may start, if it has a limit.
    """
    needed = dict.fromkeys(backends, 0.0)
    jobs: Counter[str] = Counter()
    paths: dict[str, list[str]] = {name: [] for name in backends}
    left = dict(remaining_in_group)
    for waiting in lanes:
        lane = waiting.lane
        number = waiting.jobs
        if lane.group in left:
            number = max(0, min(number, left[lane.group]))
            left[lane.group] -= number
        for name in lane.on:
            if name not in backends or why_never_fits(lane.resources, lane.limit, backends[name]):
                continue
            each = count_slots(lane.resources, backends[name]) if backends[name].pilot else 1
            room = max(0.0, backends[name].pilots - needed[name]) * each
            taken = min(number, ceil(room))
            if taken:
                needed[name] += taken / each
                jobs[name] += taken
                paths[name] += _node_paths(waiting, backends[name])
            number -= taken
    return {
        name: Demand(
            jobs=jobs[name],
            slots=ceil(jobs[name] / max(1, ceil(needed[name]))),
            paths=tuple(dict.fromkeys(paths[name])),
        )
        for name in jobs
    }


def _node_paths(waiting_lane: WaitingLane, settings: BackendSettings) -> list[str]:
    """Return the paths that jobs need, as the nodes of a backend have them."""
    node = NodePaths(settings)
    python = node.interpreter(waiting_lane.interpreter) if waiting_lane.interpreter else ""
    # an interpreter without a path is searched on the node
    named = [python] if python.startswith("/") else []
    return [*map(node.path, waiting_lane.paths), *named]
