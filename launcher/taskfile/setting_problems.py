"""What pydantic complains of, in words for someone who edits a file."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from launcher.errors import Place, Problem, UnknownName, counted, nearest
from launcher.kind_interface import Kind
from launcher.taskfile.yaml_tree import Given, Items, Node, Scalar, plain_value

LONGEST_VALUE = 60  # characters of a value in a message

# What each of pydantic's complaints expected.
_EXPECTED: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "int_type": lambda _: "a whole number",
    "int_parsing": lambda _: "a whole number",
    "int_parsing_size": lambda _: "a whole number",
    "int_from_float": lambda _: "a whole number",
    "float_type": lambda _: "a number",
    "float_parsing": lambda _: "a number",
    "finite_number": lambda _: "a finite number",
    "bool_type": lambda _: "true or false",
    "bool_parsing": lambda _: "true or false",
    "string_type": lambda _: "a text",
    "none_required": lambda _: "null",
    "tuple_type": lambda _: "a list",
    "list_type": lambda _: "a list",
    "dict_type": lambda _: "a mapping",
    "missing": lambda _: "more values",
    "too_short": lambda context: f"at least {counted(context['min_length'], 'value')}",
    "too_long": lambda context: f"at most {counted(context['max_length'], 'value')}",
    "literal_error": lambda context: f"one of {_listed(context['expected'])}",
    "enum": lambda context: f"one of {_listed(context['expected'])}",
    "greater_than": lambda context: f"more than {context['gt']:g}",
    "greater_than_equal": lambda context: f"at least {context['ge']:g}",
    "less_than": lambda context: f"less than {context['lt']:g}",
    "less_than_equal": lambda context: f"at most {context['le']:g}",
}


def complaints_of(
    kind: Kind, error: ValidationError, given: Given, where: Place
) -> Iterable[Problem]:
    """Yield a problem for each setting that pydantic refuses.

    Args:
        kind: whose settings.
        error: of pydantic.
        given: what the file says.
        where: the entry, for what has no better place.
    """
    by_name: dict[str, list[Any]] = {}
    for detail in error.errors(include_url=False):
        by_name.setdefault(str(detail["loc"][0]) if detail["loc"] else "", []).append(detail)
    lacking = [name for name, errors in by_name.items() if errors[0]["type"] == "missing"]
    lacking = [f"'{name}'" for name in lacking if name not in given]
    if lacking:
        yield Problem(
            code="missing-setting",
            message=f"{kind.name} needs a value for {' and '.join(lacking)}",
            place=where,
            hint="give it here or under defaults",
        )
    for name, errors in by_name.items():
        if name in given:
            yield _complaint(name, errors, given[name][1])
        elif not name:
            yield Problem(code="setting", message=_said(errors[0]), place=where)
        elif errors[0]["type"] != "missing":
            message = f"{name}: {_said(errors[0])}"
            yield Problem(code="setting", message=message, place=where)


def _complaint(name: str, errors: Sequence[Any], node: Node) -> Problem:
    """Make one problem of all that pydantic says of one setting (a union says it per branch)."""
    deep = [error for error in errors if any(isinstance(step, int) for step in error["loc"][1:])]
    if isinstance(node, Items) and deep:
        errors = deep
        step = next(step for step in deep[0]["loc"][1:] if isinstance(step, int))
        node = node.nodes[step] if step < len(node.nodes) else node
    elif isinstance(node, Scalar):
        errors = [error for error in errors if error not in deep] or errors
    if (unknown := unknown_name(errors[0])) is not None:
        return Problem(
            code="setting",
            message=f"{name}: unknown {unknown.what} {unknown.name!r}",
            place=node.place,
            hint=f"did you mean '{unknown.suggestion}'?" if unknown.suggestion else "",
            notes=(unknown.listing,),
        )
    wanted = list(dict.fromkeys(_expected(error) for error in errors if error["type"] in _EXPECTED))
    if wanted:
        message = f"{name}: expected {' or '.join(wanted)}, got {_shown(plain_value(node))}"
    else:
        message = f"{name}: {_said(errors[0])}"
    close = None
    if isinstance(node, Scalar) and errors[0]["type"] in ("literal_error", "enum"):
        close = nearest(node.text, _quoted(errors[0]["ctx"]["expected"]))
    hint = f"did you mean '{close}'?" if close else ""
    return Problem(code="setting", message=message, place=node.place, hint=hint)


def unknown_name(error: Mapping[str, Any]) -> UnknownName | None:
    """Return the unknown name that a validator complained of; None where it is another complaint."""
    cause = error.get("ctx", {}).get("error") if error["type"] == "value_error" else None
    inner = cause.args[0] if isinstance(cause, ValueError) and cause.args else None
    return inner if isinstance(inner, UnknownName) else None


def _expected(error: Mapping[str, Any]) -> str:
    return _EXPECTED[error["type"]](error.get("ctx", {}))


def _said(error: Mapping[str, Any]) -> str:
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    message = str(error["msg"])
    return message[:1].lower() + message[1:]


def _quoted(expected: str) -> list[str]:
    return re.findall(r"'([^']*)'", expected)


def _listed(expected: str) -> str:
    return ", ".join(_quoted(expected)) or expected


def _shown(value: Any) -> str:
    """Print a value as YAML would, cut where it is long."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case list():
            return "a list" if len(value) != 0 else "an empty list"
        case dict():
            return "a mapping"
    shown = repr(value)
    return shown if len(shown) <= LONGEST_VALUE else f"{shown[: LONGEST_VALUE - 3]}…"
