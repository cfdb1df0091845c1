"""Records that another version may have stored: each field is known and of its type, or refused by name."""

import json
from collections.abc import Container, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from launcher import __version__

Part = TypeVar("Part")


class Unreadable(ValueError):
    """A stored record cannot be decoded; the message names the part."""


def parse_record(text: str, subject: str) -> dict[str, Any]:
    """Return a stored record.

    Args:
        text: text as it was stored.
        subject: whose record it is.

    Raises:
        Unreadable: the text is none.
    """
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"{subject} is not JSON") from error
    if not isinstance(record, dict):
        raise Unreadable(f"{subject} is not a JSON object")
    return record


def restore_fields(kind: type[Part], record: object, subject: str) -> Part:
    """Return the NamedTuple or dataclass whose fields were stored as a record.

    Raises:
        Unreadable: it has an unknown field, a known one of another type, or lacks one.
    """
    if not isinstance(record, dict | Mapping):  # a dict is known at once, a Mapping is looked up
        raise Unreadable(f"{subject} is not a JSON object")
    types, required = _field_types(kind)  # type: ignore[arg-type]  # a class can be hashed
    for name, value in record.items():
        if name not in types:
            raise Unreadable(f"{name!r} of {subject} is unknown to launcher {__version__}")
        fitting = types[name]
        # a bool is an int of Python, but not of JSON
        if not isinstance(value, fitting) or (isinstance(value, bool) and bool not in fitting):
            raise Unreadable(f"{name!r} of {subject} has the wrong type: {str(value)[:40]!r}")
    for name in required:
        if name not in record:
            raise Unreadable(f"{subject} has no {name!r}")
    return kind(**record)


def restore_known_fields(kind: type[Part], record: object, subject: str) -> Part:
    """Return what is known of such a record, where nothing depends on the rest.

    Raises:
        Unreadable: it has a known field of another type, or lacks one without a default.
    """
    fields_of = record if isinstance(record, Mapping) else {}
    names, _ = _field_types(kind)  # type: ignore[arg-type]  # as above
    return restore_fields(
        kind, {name: fields_of[name] for name in names if name in fields_of}, subject
    )


@cache
def _field_types(kind: Any) -> tuple[dict[str, tuple[type, ...]], tuple[str, ...]]:
    """Return field → the types that a stored value may have; and the fields without a default."""
    types: dict[str, tuple[type, ...]] = {}
    for name, hint in get_type_hints(kind).items():
        alternatives = get_args(hint) if isinstance(hint, UnionType) else (hint,)
        plain = tuple(get_origin(alternative) or alternative for alternative in alternatives)
        if float in plain:
            plain = (*plain, int)  # JSON has one kind of number
        types[name] = (dict, *plain) if Mapping in plain else plain  # as above
    return types, tuple(name for name in types if name not in _names_with_default(kind))


def _names_with_default(kind: Any) -> Container[str]:
    if not is_dataclass(kind):
        return kind._field_defaults  # type: ignore[no-any-return]  # defaults of a NamedTuple
    return {
        each.name
        for each in fields(kind)
        if not (each.default is MISSING and each.default_factory is MISSING)
    }


def read_texts(value: object, subject: str) -> tuple[str, ...]:
    """Return a list of texts.

    Raises:
        Unreadable: it is none.
    """
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return tuple(value)
    raise Unreadable(f"{subject} is not a list of strings")
