"""Steps in the order of their files: each behind those that make what it reads, and those that it names.

Only plans in which folders are made or jobs are named need it: a training may read such a folder, and the
job that makes it another training's model, so that no order by kind holds for all of them.
"""

import heapq
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from launcher.draft import Input
from launcher.errors import Place, Problem
from launcher.kind_interface import Role
from launcher.planning.expanding.step import Step


class StepFiles(NamedTuple):
    """A step, and what its kind says that it reads and writes."""

    step: Step
    inputs: Sequence[Input]
    outputs: Sequence[os.PathLike[str]]


Named = Mapping[str, Mapping[str, Place]]  # step → the steps that it names, and where
_NONE: Named = {}


def in_order_of_files(
    steps: Sequence[StepFiles], problems: list[Problem], named: Named = _NONE
) -> list[Step]:
    """Return the steps, each behind those that make what it reads; else they keep their order.

    Args:
        steps: in the order in which they would run if none read what another one makes.
        problems: where a circle is blamed.
        named: the steps that come before others because these name them.
    """
    needs = _needs(steps, named)
    followers: list[list[int]] = [[] for _ in steps]
    for at, makers in enumerate(needs):
        for maker in makers:
            followers[maker].append(at)
    waits = [len(makers) for makers in needs]
    ready = [at for at, count in enumerate(waits) if not count]
    heapq.heapify(ready)
    placed = [False] * len(steps)
    order: list[Step] = []
    while len(order) < len(steps):
        if not ready:  # each of the others waits for one of them
            ready.append(_released(steps, needs, placed, problems, named))
        at = heapq.heappop(ready)
        if placed[at]:
            continue
        placed[at] = True
        order.append(steps[at].step)
        for follower in followers[at]:
            waits[follower] -= 1
            if not waits[follower] and not placed[follower]:
                heapq.heappush(ready, follower)
    return order


def _needs(steps: Sequence[StepFiles], named: Named) -> list[set[int]]:
    """Return for each step those that it names, and those that make what it reads or a folder around it."""
    place_of = {step.name: at for at, (step, _, _) in enumerate(steps)} if named else {}
    makers: dict[str, int] = {}
    filled: dict[str, list[int]] = {}  # folder in which data jobs write → these
    for at, (step, _, outputs) in enumerate(steps):
        for path in map(_normal, outputs):
            makers.setdefault(path, at)
            if step.kind.role is Role.DATA:
                for above in _with_parents(path):
                    filled.setdefault(above, []).append(at)
    needs: list[set[int]] = []
    for at, (step, inputs, _) in enumerate(steps):
        paths = [_normal(file.path) for file in inputs]
        own = {makers[above] for path in paths for above in _with_parents(path) if above in makers}
        # of those that fill one folder together, each waits for those before it
        own |= {maker for path in paths for maker in filled.get(path, ()) if maker < at}
        own |= {place_of[name] for name in named.get(step.name, ()) if name in place_of}
        needs.append(own - {at})
    return needs


def _released(
    steps: Sequence[StepFiles],
    needs: Sequence[Iterable[int]],
    placed: Sequence[bool],
    problems: list[Problem],
    named: Named,
) -> int:
    """Return a step of a circle, which is placed in spite of it; blame what the file says, not its kinds."""
    first = placed.index(False)
    seen: dict[int, None] = {}
    at = first
    while at not in seen:  # each that is left waits for another one that is left
        seen[at] = None
        at = min(maker for maker in needs[at] if not placed[maker])
    path = list(seen)
    circle = path[path.index(at) :]
    chain = [steps[each].step.name for each in [*circle, circle[0]]]
    names = " → ".join(chain)
    words = (named.get(job, {}).get(before) for job, before in itertools.pairwise(chain))
    if word := next((place for place in words if place is not None), None):
        problems.append(
            Problem(
                code="cycle",
                message=f"each of these waits for the next, so none can begin: {names}",
                place=word,
                hint="take one of them out of after or after_any",
            )
        )
        return min(circle)
    if not any(steps[each].step.kind.role is Role.FOLDER for each in circle):
        return min(circle)
    problems.append(
        Problem(
            code="cycle",
            message=f"these read what the others make, so none can begin: {names}",
            place=steps[min(circle)].step.place,
            hint="let one of them read what another job makes, or what is there",
        )
    )
    return min(circle)


def _normal(path: os.PathLike[str]) -> str:
    return os.path.normpath(path)


def _with_parents(path: str) -> Iterator[str]:
    yield path
    while (above := path.rpartition("/")[0]) and above != path:
        yield above
        path = above
