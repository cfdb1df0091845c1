"""Which test functions no line and no branch needs: others run each of their steps often enough."""

from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

ENOUGH = 2  # other functions that run a step; fewer if fewer do today


class Function(NamedTuple):
    """A test function with all its cases."""

    name: str
    seconds: float
    steps: frozenset[int]


def functions_of(
    steps: "Iterable[tuple[str, array[int]]]", seconds: Mapping[str, float | None], known: set[int]
) -> list[Function]:
    """Return the functions of tests, of whose steps only known ones count."""
    found: dict[str, set[int]] = {}
    costs: dict[str, float] = {}
    for test, numbers in steps:
        name = test.partition("[")[0]
        found.setdefault(name, set()).update(known.intersection(numbers))
        costs[name] = costs.get(name, 0.0) + (seconds[test] or 0.0)
    return [Function(name, costs[name], frozenset(found[name])) for name in found]


def find_needless(functions: Iterable[Function], candidates: Iterable[Function]) -> list[Function]:
    """Return candidates that can be deleted together, slowest first.

    Each step is then still run by as many functions as before, or by `ENOUGH`.
    """
    counts = Counter(step for function in functions for step in function.steps)
    needless = []
    for function in sorted(candidates, key=lambda each: (-each.seconds, each.name)):
        # a function that runs no step of the product tests something else
        if function.steps and all(counts[step] > ENOUGH for step in function.steps):
            counts.subtract(function.steps)
            needless.append(function)
    return needless
