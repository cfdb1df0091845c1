"""Sweeps: `matrix: {lr: [0.1, 0.01], seed: [1, 2, 3]}` and the names of what comes of them.

A value goes into a model's ID as `@lr=0.1`. One that has no short form there (a path, a list) is
given a label: `matrix: {weights: {imagenet: default, ours: weights/our.pt}}`.
"""

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from launcher.document import Fields, Node, Scalar, plain_value
from launcher.errors import Problem
from launcher.ids import is_variant_value
from launcher.kinds import Kind
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
    sound = True
    if isinstance(node, Fields):
        for name, one in node.pairs:
            if not is_variant_value(name.text):
                message = "a label stands in model IDs: letters, digits and _.+- only"
                problems.append(Problem(code="matrix", message=message, place=name.place))
                sound = False
            values.append(Swept(key=key, node=one, label=name.text))
    elif isinstance(node, Scalar):
        values += [] if node.value is None else [Swept(key=key, node=node, label=None)]
    else:
        values += [Swept(key=key, node=one, label=None) for one in node.nodes]
    if not values:
        message = f"matrix: {key.text} has no values"
        hint = f"write {key.text}: [1, 2, 3]"
        problems.append(Problem(code="matrix", message=message, place=node.place, hint=hint))
    sound &= _distinct(values, problems)
    return Sweep(key=key, values=tuple(values)) if values and sound else None


def _distinct(values: Sequence[Swept], problems: list[Problem]) -> bool:
    """Tell whether each value has a name of its own; blame the first of those that have not."""
    by_label: dict[str, object] = {}
    seen: list[tuple[bool, object]] = []  # 1 and true are equal in Python, 1 and 1.0 to anybody
    for one in values:
        value = plain_value(one.node)
        name, known = label(one, value), (isinstance(value, bool), value)
        if name not in by_label and known not in seen:
            by_label[name] = value
            seen += [known]
            continue
        key, hint = one.key.text, ""
        message = f"matrix: {key} has this value twice"
        if known not in seen:
            message = f"matrix: two values of {key} would both be called {name!r} in an ID"
            hint = f"name them: {key}: {{first: …, second: …}}"
        problems.append(Problem(code="matrix", message=message, place=one.node.place, hint=hint))
        return False
    return True


def is_neutral(name: str, kinds: Iterable[Kind]) -> bool:
    """Tell whether a setting can change no result: every kind that has it says so."""
    having = [kind.settings for kind in kinds if name in kind.settings.model_fields]
    return bool(having) and all(name in one.neutral for one in having)


def blame_neutral(sweep: Sweep, problems: list[Problem]) -> None:
    """Add the problem of a sweep that would make the same model again and again."""
    message = f"matrix: {sweep.key.text} cannot change a result, so there is nothing to compare"
    problems.append(Problem(code="matrix", message=message, place=sweep.key.place))


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
