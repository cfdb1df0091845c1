"""Screens in a file, a line of JSON each: what `launcher top` recorded, to be shown again."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import StrEnum
from pathlib import Path
from types import UnionType
from typing import Any, TextIO, get_args, get_origin

from launcher.errors import UsageError
from launcher.screens.format import harmless
from launcher.screens.screen import Screen
from launcher.system.files import Json

SCHEMA = 1
_WRITTEN = "name a file that `launcher top --record FILE` wrote"
_TIMES = frozenset(
    {"at", "since", "started", "starts_at", "heard_at"}
)  # fields that hold seconds since 1970
_LAST = 1e11  # of them; no calendar goes much further


def screen_text(screen: Screen) -> str:
    """Return a screen as a line of JSON, without what is as usual."""
    content = _json(screen)
    assert isinstance(content, dict)
    record = {"schema": SCHEMA, **content}
    return json.dumps(record, ensure_ascii=False, separators=(",", ":"))


def read_screen(text: str) -> Screen:
    """Return the screen that a line of JSON tells of.

    Raises:
        ValueError: it is none; the message says where and why in one line.
    """
    try:
        record = json.loads(text)
    except RecursionError:
        raise ValueError("no JSON: nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"no JSON: {error}") from error
    if not isinstance(record, dict) or record.pop("schema", None) != SCHEMA:
        raise ValueError(f"no screen of schema {SCHEMA}")
    screen = _value(Screen, record, "screen")
    assert isinstance(screen, Screen)
    return screen


def read_day(file: Path) -> list[Screen]:
    """Return the screens of a file, the oldest first.

    Raises:
        UsageError: it cannot be read, or a line of it is damaged.
    """
    screens = []
    try:
        with file.open(encoding="utf-8") as lines:
            for number, text in enumerate(lines, start=1):
                if not text.strip():
                    continue
                try:
                    screens.append(read_screen(text))
                except ValueError as error:
                    if screens and not text.endswith("\n"):
                        break  # whoever recorded it was killed, or had no room
                    raise UsageError(f"{file}:{number}: {error}; {_WRITTEN}") from error
    except OSError as error:
        raise UsageError(
            f"cannot read the recording {file}: {error.strerror}; {_WRITTEN}"
        ) from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is no recording: it is not UTF-8; {_WRITTEN}") from error
    if not screens:
        raise UsageError(f"{file} holds no screen; `launcher top --record FILE` makes a recording")
    return sorted(screens, key=lambda screen: screen.at)


class Recorder:
    """Appends screens to a file, those that differ from the one before in more than hour and machine."""

    def __init__(self, file: TextIO) -> None:
        """Write to a file that is open for text."""
        self._file, self._last = file, ""

    def add(self, screen: Screen) -> None:
        """Write a screen down, where something has changed."""
        text = screen_text(screen)
        _, _, rest = text.partition('"home":')  # behind the time and the machine
        if rest != self._last:
            self._last = rest
            self._file.write(text + "\n")
            self._file.flush()


def at_time(screens: Sequence[Screen], at: float) -> Screen:
    """Return which screen was the newest at a time, the first where that is earlier."""
    return next((screen for screen in reversed(screens) if screen.at <= at), screens[0])


def _json(value: object) -> Json:
    """Return a value as JSON; fields of a dataclass that are as usual are left out."""
    match value:
        case Mapping():
            return {str(key): _json(item) for key, item in value.items()}
        case frozenset():
            return sorted(value)
        case list() | tuple():
            return [_json(item) for item in value]
        case None | bool() | int() | float() | str():
            return value
    if not is_dataclass(value):
        raise TypeError(f"no JSON: {value!r}")
    content = ((field, getattr(value, field.name)) for field in fields(value))
    return {field.name: _json(part) for field, part in content if part != _usual(field)}


def _usual(field: Field[Any]) -> Any:  # of any type
    return field.default if field.default_factory is MISSING else field.default_factory()


def _value(kind: Any, value: Any, place: str) -> Any:  # annotations are values of any type
    """Return what JSON tells of a value of this type.

    Raises:
        ValueError: it is none.
    """
    origin, inside = get_origin(kind), get_args(kind)
    if origin is UnionType:
        if value is None and type(None) in inside:
            return None
        return _value(next(member for member in inside if member is not type(None)), value, place)
    if origin in {tuple, frozenset} and isinstance(value, list):
        kinds = inside if Ellipsis not in inside and origin is tuple else inside[:1] * len(value)
        if len(kinds) == len(value):
            pairs = zip(kinds, value, strict=True)
            return origin(
                _value(member, part, f"{place}[{n}]") for n, (member, part) in enumerate(pairs)
            )
    if origin is Mapping and isinstance(value, dict):
        key_type, value_type = inside
        return {
            _value(key_type, key, place): _harmless(part)
            if value_type is Json
            else _value(value_type, part, f"{place}.{key}")
            for key, part in value.items()
        }
    if is_dataclass(kind) and isinstance(kind, type) and isinstance(value, dict):
        return _record(kind, value, place)
    if isinstance(kind, type) and issubclass(kind, StrEnum) and value in [*kind]:
        return kind(value)
    if kind is float and type(value) in {int, float} and abs(value) <= sys.float_info.max:
        if place.rpartition(".")[2] in _TIMES and not 0 <= value <= _LAST:
            raise ValueError(f"{place} is no time: {json.dumps(value):.40}")
        return float(value)
    if kind is str and isinstance(value, str):
        return harmless(value)
    if kind in {int, bool} and type(value) is kind:
        return value
    raise ValueError(f"{place} is no {getattr(kind, '__name__', kind)}: {json.dumps(value):.40}")


def _harmless(value: Json) -> Json:
    match value:
        case str():
            return harmless(value)
        case list():
            return [_harmless(item) for item in value]
        case dict():
            return {harmless(key): _harmless(item) for key, item in value.items()}
    return value


def _record(kind: type[Any], value: dict[str, Any], place: str) -> Any:  # any dataclass
    by_name = {field.name: field for field in fields(kind)}
    if unknown := value.keys() - by_name.keys():
        raise ValueError(f"{place} has no {min(unknown)}")
    for field in by_name.values():
        if (
            field.name not in value
            and field.default is MISSING
            and field.default_factory is MISSING
        ):
            raise ValueError(f"{place} lacks its {field.name}")
    parts = {key: _value(by_name[key].type, part, f"{place}.{key}") for key, part in value.items()}
    return kind(**parts)
