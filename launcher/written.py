"""The words of the experiment language, read where they are written: IDs, poisons, resources.

Each reader returns what it read together with its place, or tells the problem and returns None.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from launcher.document import Fields, Items, Node, Scalar
from launcher.errors import IdError, Place, Problem, Severity, UnknownName, UsageError
from launcher.ids import (
    DataId,
    ModelId,
    Poison,
    find_word,
    parse_data,
    parse_model,
    parse_poison,
)
from launcher.kinds import Kind
from launcher.settings import Given, known_settings, unknown_key
from launcher.units import Bytes, parse_bytes, parse_seconds

_RESOURCES: Mapping[str, str] = {
    "cpus": "a whole number, at least 1",
    "device": "auto, cpu, or a GPU such as cuda:0",
    "min_vram": "an amount such as 16GiB",
    "priority": "a whole number",
    "ram": "an amount such as 16GiB",
    "rerun": "again or never: what follows when nobody can know how an attempt ended",
    "retries": "a whole number from 0 to 1000",
    "time_limit": "a time such as 8h or 1h30m",
}

MOST_RETRIES = 1000

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class At(Generic[T]):
    """A value and the word in the file that says it."""

    value: T
    node: Scalar


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a job asks of the machine and of the queue."""

    cpus: int = 1
    min_vram: Bytes | None = None  # that must be free on its GPU; None: not said
    device: str = "auto"  # "auto", "cpu", "cuda" or "cuda:N"
    priority: int = 0  # higher goes first
    ram: Bytes | None = None  # main memory that is promised to it
    rerun: str = "again"  # or "never"
    retries: int = 0
    time_limit_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What holds for every entry of a file, and where its problems are gathered."""

    kinds: Mapping[str, Kind]
    problems: list[Problem]
    defaults: Given = field(default_factory=dict)
    kind_defaults: Mapping[str, Given] = field(default_factory=dict)
    asked: Asked = field(default_factory=Asked)

    def blame(self, place: Place, code: str, message: str, hint: str = "") -> None:
        """Add one problem."""
        self.problems.append(Problem(code=code, message=message, place=place, hint=hint))

    def given(self, kind: Kind, entry: Given) -> dict[str, tuple[Scalar, Node]]:
        """Return what the file says of a kind's settings: entry before kind before file."""
        merged = {**self.defaults, **self.kind_defaults.get(kind.name, {}), **entry}
        known = set(known_settings(kind))
        return {name: value for name, value in merged.items() if name in known}


def listed(node: Node) -> tuple[Node, ...]:
    """Return the nodes of a list; a single value stands for a list of one."""
    return node.nodes if isinstance(node, Items) else (node,)


def is_null(node: Node | None) -> bool:
    """Tell whether nothing is written there."""
    return node is None or (isinstance(node, Scalar) and node.value is None)


def read_model(node: Node, kind: Kind, scope: Scope) -> At[ModelId] | None:
    """Read a model ID; whether there is such a model is for the plan to find out."""
    if not isinstance(node, Scalar):
        scope.blame(node.place, "wrong-type", "expected one model ID")
        return None
    try:
        return At(parse_model(node.text), node)
    except IdError as error:
        hint = ""
        if node.text == "None":
            hint = "a new model is written null"
        elif ":" not in node.text and "model" in known_settings(kind):
            hint = f"an architecture goes under settings: {{model: {node.text}}}"
        place = node.part(error.offset, error.length)
        scope.blame(place, "id", f"model: {error.message}", hint)
        return None


def read_data(node: Node, readers: Iterable[Kind], scope: Scope) -> At[DataId] | None:
    """Read a data ID and have its words checked by the kinds that will work with it."""
    if not isinstance(node, Scalar):
        hint = "join data IDs with '&'" if isinstance(node, Items) else ""
        scope.blame(node.place, "wrong-type", "expected one data ID", hint)
        return None
    try:
        data = parse_data(node.text)
        for kind in readers:
            kind.elementary(kind.images(data))
    except IdError as error:
        mark = next((mark for mark in "#%~@" if mark in node.text), "")
        hint = f"'{mark}' belongs to model IDs" if mark else ""
        scope.blame(node.part(error.offset, error.length), "id", f"data: {error.message}", hint)
        return None
    except UnknownName as error:
        scope.problems.append(unknown_word(error, node))
        return None
    return At(data, node)


def unknown_word(error: UnknownName, node: Scalar) -> Problem:
    """Return the problem of a subset or modifier that a laboratory does not know."""
    found = find_word(node.text, error.name, modifier="modifier" in error.what)
    return Problem(
        code="unknown-name",
        message=f"unknown {error.what} {error.name!r}",
        place=node.place if found is None else node.part(*found),
        hint=f"did you mean '{error.suggestion}'?" if error.suggestion else "",
        notes=(f"known: {', '.join(error.known)}",),
    )


def read_poisons(node: Node, scope: Scope) -> tuple[At[Poison | None], ...] | None:
    """Read one poison or a list of them; None where one cannot be read."""
    nodes = listed(node)
    if not nodes:
        scope.blame(node.place, "wrong-type", "expected at least one percentage such as 20")
    found = [_poison(one, scope) for one in nodes]
    read = tuple(one for one in found if one is not None)
    return read if nodes and len(read) == len(nodes) else None


def _poison(node: Node, scope: Scope) -> At[Poison | None] | None:
    if not isinstance(node, Scalar):
        scope.blame(node.place, "wrong-type", "expected a percentage such as 20")
        return None
    if node.value is None:
        return At(None, node)
    try:
        poison = parse_poison(node.text)
    except IdError as error:
        hint = f"write {node.text.rstrip('% ')}" if node.text.endswith("%") else ""
        scope.blame(node.place, "poison", f"poison: {error.message}", hint)
        return None
    if poison is not None and poison.rate < 0.01:
        share = poison.percent
        scope.problems.append(
            Problem(
                code="small-poison",
                message=f"poison {share} is read as {share} percent of the labels",
                severity=Severity.WARNING,
                place=node.place,
                hint=f"a rate of {share} is written {float(share) * 100:g}",
            )
        )
    return At(poison, node)


def read_asked(node: Node, above: Asked, scope: Scope) -> Asked:
    """Read a mapping of resources on top of those that hold above it."""
    if not isinstance(node, Fields):
        scope.blame(node.place, "wrong-type", "expected resources such as {cpus: 2, device: auto}")
        return above
    asked = above
    for key, one in node.pairs:
        if key.text not in _RESOURCES:
            scope.problems.append(unknown_key(key, "a resource", _RESOURCES))
            continue
        try:
            asked = _with(asked, key.text, one)
        except UsageError as error:
            scope.blame(one.place, "resources", f"{key.text}: {error}")
    return asked


def _with(asked: Asked, name: str, node: Node) -> Asked:
    """Return `asked` with one resource set.

    Raises:
        UsageError: the value does not fit; says what was expected.
    """
    value = node.value if isinstance(node, Scalar) else None
    text = node.text if isinstance(node, Scalar) else ""
    if name == "min_vram":
        return replace(asked, min_vram=parse_bytes(text))
    if name == "ram":
        return replace(asked, ram=parse_bytes(text))
    if name == "time_limit" and (span_s := parse_seconds(text)) > 0:
        return replace(asked, time_limit_s=span_s)
    if name == "rerun" and text in {"again", "never"}:
        return replace(asked, rerun=text)
    if name == "retries" and type(value) is int and 0 <= value <= MOST_RETRIES:
        return replace(asked, retries=value)
    if name == "device" and _is_device(text):
        return replace(asked, device=text)
    if name == "cpus" and type(value) is int and 1 <= value < 1 << 16:
        return replace(asked, cpus=value)
    if name == "priority" and type(value) is int and abs(value) < 1 << 31:
        return replace(asked, priority=value)
    raise UsageError(f"expected {_RESOURCES[name]}")


def _is_device(text: str) -> bool:
    name, _, number = text.partition(":")
    numbered = number.isascii() and number.isdigit() and len(number) < 4
    return text in ("auto", "cpu", "cuda") or (name == "cuda" and numbered)
