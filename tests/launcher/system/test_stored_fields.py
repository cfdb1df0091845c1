"""Records of NamedTuples and dataclasses."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

import pytest

from launcher.system.stored_fields import Unreadable, restore_fields, restore_known_fields


class Tuple(NamedTuple):
    name: str
    size: int
    share: float | None = None
    paused: bool = False
    parts: Mapping[str, int] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    name: str
    size: int
    share: float | None = None
    paused: bool = False
    parts: Mapping[str, int] = field(default_factory=dict)


KINDS = pytest.mark.parametrize("kind", [Tuple, Data])
RECORD = {"name": "a", "size": 3}


@KINDS
@pytest.mark.parametrize(
    "more", [{}, {"share": 1, "paused": True}, {"share": 0.5, "parts": {"x": 1}}, {"share": None}]
)
def test_what_was_stored_is_restored(kind: type[Tuple | Data], more: dict[str, object]) -> None:
    part = restore_fields(kind, RECORD | more, "it")
    assert part == kind(**RECORD | more)  # type: ignore[arg-type]  # of the right types
    record = part._asdict() if isinstance(part, Tuple) else asdict(part)
    assert restore_fields(kind, json.loads(json.dumps(record)), "it") == part


@KINDS
@pytest.mark.parametrize(
    ("record", "error"),
    [
        (RECORD | {"new": 1}, "'new' of it is unknown to launcher"),
        (RECORD | {"size": "3"}, "'size' of it has the wrong type: '3'"),
        (RECORD | {"size": 3.5}, "'size' of it has the wrong type: '3.5'"),
        (RECORD | {"size": True}, "'size' of it has the wrong type: 'True'"),
        (RECORD | {"share": False}, "'share' of it has the wrong type: 'False'"),
        (RECORD | {"paused": 1}, "'paused' of it has the wrong type: '1'"),
        (RECORD | {"name": None}, "'name' of it has the wrong type: 'None'"),
        ({"name": "a"}, "it has no 'size'"),
        ([], "it is not a JSON object"),
    ],
)
def test_an_invalid_record_is_refused_by_the_name_of_its_field(
    kind: type[Tuple | Data], record: object, error: str
) -> None:
    with pytest.raises(Unreadable, match=error):
        restore_fields(kind, record, "it")


@KINDS
def test_unknown_fields_are_ignored_if_nothing_depends_on_them(kind: type[Tuple | Data]) -> None:
    known = restore_known_fields(kind, RECORD | {"new": 1}, "it")
    assert known == restore_fields(kind, RECORD, "it")
    with pytest.raises(Unreadable, match="it has no 'name'"):
        restore_known_fields(kind, 7, "it")
