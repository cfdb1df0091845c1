from collections.abc import Mapping
from typing import ClassVar

import pytest
from pydantic import Field, model_validator

from launcher.errors import Problems, UnknownName
from launcher.kind_interface import Kind, Role, Settings
from launcher.system.files import Json
from launcher.taskfile.settings import settle, unknown_key
from launcher.taskfile.yaml_tree import Fields, Said, read_document
from tests.launcher.toylab import Toy


class OwnChecks(Settings):
    """Settings with checks that no single field has."""

    neutral: ClassVar[frozenset[str]] = frozenset({"low"})

    low: int = 0
    high: int = 1
    shape: str = "dot"
    either: bool | float = 0.5
    table: dict[str, int] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> "OwnChecks":
        if self.shape != "dot":
            raise UnknownName("shape", self.shape, ["dot"])
        if self.low > self.high:
            raise ValueError(f"low {self.low} is above high {self.high}")
        return self


KIND: Kind = Toy(name="own", role=Role.PLAIN, entry="x:y", settings=OwnChecks)


def settled(text: str) -> tuple[Mapping[str, Json] | None, Problems]:
    problems = Problems()
    root = read_document(text, "x.yaml", problems)
    assert isinstance(root, Fields)
    given = {key.text: Said(key, node) for key, node in root.pairs}
    found = settle(KIND, given, root.place, problems)
    return None if found is None else found.values, problems


def test_settings_are_completed_by_their_defaults_in_the_order_of_the_kind() -> None:
    values, problems = settled("high: 3\n")
    assert values == {"low": 0, "high": 3, "shape": "dot", "either": 0.5, "table": {}}
    assert not problems
    assert [*values] == ["low", "high", "shape", "either", "table"]


@pytest.mark.parametrize(
    ("text", "message", "line", "column"),
    [
        ("low: 3\nhigh: 2\n", "low 3 is above high 2", 1, 1),
        ("low: 0\nshape: dto\n", "unknown shape 'dto', did you mean dot? (known: dot)", 1, 1),
        ("table: 3\n", "table: expected a mapping, got 3", 1, 8),
        ("table: {a: x}\n", "table: expected a whole number, got a mapping", 1, 9),
        ("low: {a: 1}\n", "low: expected a whole number, got a mapping", 1, 7),
        ("either: [1]\n", "either: expected true or false or a number, got a list", 1, 9),
    ],
)
def test_what_a_laboratory_refuses_is_told_in_its_words_at_its_place(
    text: str, message: str, line: int, column: int
) -> None:
    values, problems = settled(text)
    assert values is None
    assert [one.message for one in problems] == [message]
    place = problems[0].place
    assert place is not None
    assert (place.line, place.column) == (line, column)


def test_a_truth_is_no_number() -> None:
    assert settled("high: true\n")[1][0].message == "high: expected a whole number, got true"
    values, _ = settled("either: true\n")
    assert values is not None
    assert values["either"] is True


def test_an_unknown_key_names_the_kinds_that_would_know_it() -> None:
    problems = Problems()
    root = read_document("crops: 1\n", "x.yaml", problems)
    assert isinstance(root, Fields)
    problem = unknown_key(root.pairs[0][0], "a setting of own", ["low"], ["test", "audit"])
    assert problem.hint == "test and audit would know it"
    assert problem.notes == ("known: low",)
