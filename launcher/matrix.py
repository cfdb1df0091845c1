"""Sweeps: `matrix: {lr: [0.1, 0.01], seed: [1, 2, 3]}` and the names of what comes of them.

A value goes into a model's ID as `@lr=0.1`. One that has no short form there (a path, a list) is
given a label: `matrix: {weights: {imagenet: default, ours: weights/our.pt}}`.
"""

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from launcher.document import Fields, Node, Scalar
from launcher.errors import Problem
from launcher.ids import is_variant_value
from launcher.records import Json

MOST_COMBINATIONS = 10_000

_NOT_A_VALUE = re.compile(r"[^A-Za-z0-9_.+\-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """One value of a sweep, as one combination has it."""

    key: Scalar  # the setting
    node: Node  # its value
    label: str | None  # what the file calls it; None: its value tells


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """A setting and the values that it takes one after another."""

    key: Scalar
    values: tuple[Swept, ...]


Combination = Mapping[str, Swept]  # by the name of the setting


def read_sweep(key: Scalar, node: Node, problems: list[Problem]) -> Sweep | None:
    """Read the values of one setting; None where there are none to read, with the reason told."""
    values: list[Swept] = []
    if isinstance(node, Fields):
        for name, one in node.pairs:
            if not is_variant_value(name.text):
                message = "a label stands in model IDs: letters, digits and _.+- only"
                problems.append(Problem(code="matrix", message=message, place=name.place))
            values.append(Swept(key=key, node=one, label=name.text))
    elif isinstance(node, Scalar):
        values += [] if node.value is None else [Swept(key=key, node=node, label=None)]
    else:
        values += [Swept(key=key, node=one, label=None) for one in node.nodes]
    if values:
        return Sweep(key=key, values=tuple(values))
    message = f"matrix: {key.text} has no values"
    hint = f"write {key.text}: [1, 2, 3]"
    problems.append(Problem(code="matrix", message=message, place=node.place, hint=hint))
    return None


def combinations(sweeps: Sequence[Sweep], problems: list[Problem]) -> list[tuple[Swept, ...]]:
    """Return every combination, the first setting changing slowest; one empty one without sweeps."""
    count = 1
    for sweep in sweeps:
        count *= len(sweep.values)
    if count > MOST_COMBINATIONS:
        message = f"matrix: {count:,} combinations, and {MOST_COMBINATIONS:,} at most are made"
        problems.append(Problem(code="matrix", message=message, place=sweeps[0].key.place))
        return [()]
    return list(itertools.product(*(sweep.values for sweep in sweeps)))


def by_setting(chosen: Iterable[Swept]) -> dict[str, Swept]:
    """Return swept values by the names of their settings."""
    return {one.key.text: one for one in chosen}


def label(swept: Swept, value: Json) -> str:
    """Return what stands for a swept value in an ID: its label, or the value as it was understood."""
    if swept.label is not None:
        return swept.label
    return _NOT_A_VALUE.sub("-", _text(value)).strip("-") or "none"


def blame_twins(
    names: Iterable[tuple[tuple[str, str], ...]],
    place_of: Callable[[str], Swept],
    problems: list[Problem],
) -> None:
    """Add a problem where two combinations would have the same name."""
    seen: set[tuple[tuple[str, str], ...]] = set()
    for name in names:
        if name and name in seen:
            key = place_of(name[-1][0]).key
            told = ",".join(f"{one}={value}" for one, value in name)
            message = f"matrix: two combinations would be called @{told}"
            hint = f"name the values: {key.text}: {{first: …, second: …}}"
            problems.append(Problem(code="matrix", message=message, place=key.place, hint=hint))
        seen.add(name)


def _text(value: Json) -> str:
    match value:
        case bool():
            return str(value).lower()
        case list():
            return "-".join(_texts(value))
        case None:
            return "none"
    return str(value)


def _texts(values: Iterable[Json]) -> Iterator[str]:
    return map(_text, values)
