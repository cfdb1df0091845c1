"""The words of the experiment language, read where they are written: IDs, poisons, resources.

Each reader returns what it read together with its place, or tells the problem and returns None.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from launcher.errors import IdError, Problem, Severity, UnknownName, UsageError, nearest
from launcher.ids import DataId, ModelId, Poison, find_word, parse_data, parse_model, parse_poison
from launcher.job import LIMITS, is_device, within
from launcher.kinds import Kind, Role
from launcher.taskfile.legacy_names import OLD_RESOURCES, resources_today
from launcher.taskfile.scope import Asked, Scope
from launcher.taskfile.settings import accepted, all_settings, known_settings, unknown_key
from launcher.taskfile.yaml_tree import Fields, Items, Node, Scalar
from launcher.units import parse_bytes, parse_seconds

RESOURCES: Mapping[str, str] = {
    "cpus": within("cpus"),
    "device": "auto, cpu, or a GPU such as cuda:0",
    "exclusive": "true or false: it shares its GPUs with nobody",
    "gpus": f"{within('gpus')}; it gets all of them or waits",
    "priority": within("priority"),
    "ram": "an amount such as 16GiB",
    "rerun": "again or never: what follows when it was stopped, or nobody can know how an attempt ended",
    "retries": within("retries"),
    "time_limit": "a time such as 8h or 1h30m",
    "vram": "an amount such as 16GiB that each of its GPUs must have free, or auto",
}

# For a resource that is written where it is none.
RESOURCE_HINTS: Mapping[str, str] = {
    **{name: f"it goes below resources: {{{name}: …}}" for name in RESOURCES},
    **{old: f"it is resources: {{{now}: …}} today" for old, now in OLD_RESOURCES.items()},
}
POISONED = "poisoned"  # in place of a model: every one of which training labels were wrong
AUTO = "auto"

_CUT = re.compile(r"\s+(?P<rest>#[A-Za-z0-9]\S*:\S+)")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class At(Generic[T]):
    """A value and the word in the file that says it."""

    value: T
    node: Scalar


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
    _warn_comment(node, scope)
    try:
        return At(parse_model(node.text), node)
    except IdError as error:
        hint = ""
        if node.text.casefold() in {"none", ""}:
            hint = "a new model is written null"
        elif kind.role is Role.UNLEARN and nearest(node.text, [POISONED]):
            hint = f"did you mean '{POISONED}', every model whose labels were?"
        elif ":" not in node.text and "model" in known_settings(kind):
            meant = accepted(kind, "model", node.text)
            hint = f"an architecture goes under settings: {{model: {meant or '…'}}}"
            hint += "" if meant else f"; {all_settings(kind)} names them"
        place = node.part(error.offset, error.length)
        scope.blame(place, "id", f"model: {error.message}", hint)
        return None


def read_data(node: Node, readers: Iterable[Kind], scope: Scope) -> At[DataId] | None:
    """Read a data ID and have its words checked by the kinds that will work with it."""
    if not isinstance(node, Scalar):
        hint = "join data IDs with '&'" if isinstance(node, Items) else ""
        scope.blame(node.place, "wrong-type", "expected one data ID", hint)
        return None
    _warn_comment(node, scope)
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


def _warn_comment(node: Scalar, scope: Scope) -> None:
    """Warn of a chain that was cut by YAML: a '#' after a space begins a comment."""
    line = node.source.lines[node.line] if node.line < len(node.source.lines) else ""
    if node.plain and (cut := _CUT.match(line, node.column + node.length)):
        place = node.source.place(node.line, cut.start("rest"), len(cut["rest"]))
        message = "this is a comment, as '#' stands after a space"
        scope.note(place, "comment", message, "write the whole ID in quotes, without spaces")


def unknown_word(error: UnknownName, node: Scalar) -> Problem:
    """Return the problem of a subset or modifier that a laboratory does not know."""
    found = find_word(node.text, error.name, modifier="modifier" in error.what)
    return Problem(
        code="unknown-name",
        message=f"unknown {error.what} {error.name!r}",
        place=node.place if found is None else node.part(*found),
        hint=f"did you mean '{error.suggestion}'?" if error.suggestion else "",
        notes=(error.listing,),
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


def read_asked(node: Node, above: Asked, scope: Scope, also: Iterable[str] = ()) -> Asked:
    """Read a mapping of resources on top of those that hold above it; `also` could stand there."""
    if not isinstance(node, Fields):
        scope.blame(node.place, "wrong-type", "expected resources such as {cpus: 2, device: auto}")
        return above
    asked = above
    _blame_contradiction(node, scope)
    # `gpus` has the last word
    today = resources_today(node, scope.problems)
    for key, one in sorted(today.pairs, key=lambda pair: pair[0].text == "gpus"):
        if key.text not in RESOURCES:
            scope.problems.append(unknown_key(key, "a resource", RESOURCES, nearby=also))
            continue
        try:
            asked = _with(asked, key.text, one)
        except UsageError as error:
            scope.blame(one.place, "resources", f"{key.text}: {error}")
    return asked


def _blame_contradiction(node: Fields, scope: Scope) -> None:
    """Blame resources that want a GPU and none; what two files say is merged, and is none."""
    said = {key.text: one for key, one in node.pairs if isinstance(one, Scalar)}
    if "gpus" not in said or "device" not in said:
        return
    gpus, device = said["gpus"], said["device"]
    contrary = (gpus.text != "0" and device.text == "cpu") or (
        gpus.text == "0" and device.text.startswith("cuda")
    )
    if contrary and gpus.place.file == device.place.file:
        message = f"gpus: {gpus.text} and device: {device.text} contradict each other"
        scope.blame(node.place, "resources", message)


def _with(asked: Asked, name: str, node: Node) -> Asked:
    """Return `asked` with one resource set.

    Raises:
        UsageError: the value does not fit; says what was expected.
    """
    value = node.value if isinstance(node, Scalar) else None
    text = node.text if isinstance(node, Scalar) else ""
    if name == "vram":
        return replace(asked, min_vram=None if text == AUTO else parse_bytes(text))
    if type(value) is int and name in LIMITS and not _within(name, value):
        raise UsageError(f"expected {within(name)}, got {value}")
    if name == "gpus" and type(value) is int:
        device = "auto" if asked.device == "cpu" else asked.device
        return replace(asked, device="cpu" if value == 0 else device, gpus=value or None)
    if name == "exclusive" and isinstance(value, bool):
        return replace(asked, exclusive=value)
    if name == "ram":
        return replace(asked, ram=parse_bytes(text))
    if name == "time_limit" and (span_s := parse_seconds(text)) > 0:
        return replace(asked, time_limit_s=span_s)
    if name == "rerun" and text in {"again", "never"}:
        return replace(asked, rerun=text)
    if name == "retries" and type(value) is int:
        return replace(asked, retries=value)
    if name == "device" and is_device(text):
        return replace(asked, device=text)
    if name == "cpus" and type(value) is int:
        return replace(asked, cpus=value)
    if name == "priority" and type(value) is int:
        return replace(asked, priority=value)
    raise UsageError(f"expected {RESOURCES[name]}")


def _within(name: str, value: int) -> bool:
    least, most = LIMITS[name]
    return least <= value <= most
