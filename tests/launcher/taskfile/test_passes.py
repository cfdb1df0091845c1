"""The passes of a task file, each alone: a tree of nodes goes in, and a tree or what holds for its entries comes out."""

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

import pytest
from pydantic import Field, model_validator

from launcher.experiments.kind_interface import Kind, Role, Settings
from launcher.experiments.kinds import COMMAND
from launcher.experiments.taskfile.includes import fill_variables, merge_files
from launcher.experiments.taskfile.legacy_names import LegacyAction, translate
from launcher.experiments.taskfile.nodes import GivenSetting, MappingNode, plain_value
from launcher.experiments.taskfile.overrides import apply_overrides, read_overrides
from launcher.experiments.taskfile.scope import EVERY, with_current_names
from launcher.experiments.taskfile.settings import resolve_settings
from launcher.experiments.taskfile.yaml_tree import read_document
from launcher.system.errors import Problems, UnknownName
from launcher.system.files import Json
from tests.launcher.folder_toys import KINDS as TOYS
from tests.launcher.language import a_plan, job, names
from tests.launcher.toylab import Toy, laboratory

KINDS: Mapping[str, Kind] = {**laboratory(), "command": COMMAND}


def tree(text: str) -> MappingNode:
    problems = Problems()
    root = read_document(text, "x.yaml", problems)
    assert isinstance(root, MappingNode)
    assert not problems
    return root


def test_variables_are_expanded_only_in_values() -> None:
    problems = Problems()
    root = fill_variables(tree("${A}: [x, '${A}']\nb: {c: '$${A}'}\n"), {"A": "5"}, problems)
    assert plain_value(root) == {"${A}": ["x", 5], "b": {"c": "${A}"}}
    assert not problems


@pytest.mark.parametrize(
    ("first", "second", "both"),
    [
        ("train: [a]", "train: [b]", {"train": ["a", "b"]}),
        ("phases: [a]", "phases: [b]", {"phases": ["b"]}),
        ("matrix: [a]", "matrix: {b: 1}", {"matrix": {"b": 1}}),
        ("name: a", "name: null", {"name": "a"}),
        ("defaults: {a: 1, b: 1}", "defaults: {b: null}", {"defaults": {"a": 1, "b": None}}),
        (
            "resources: {train: {a: 1, b: 1}}",
            "resources: {train: {b: 2}}",
            {"resources": {"train": {"a": 1, "b": 2}}},
        ),
        ("notify: {a: 1}", "notify: {b: 1}", {"notify": {"b": 1}}),
    ],
)
def test_merge_of_two_files_concatenates_lists_and_prefers_the_second(
    first: str, second: str, both: object
) -> None:
    assert plain_value(merge_files(tree(first), tree(second))) == both


@pytest.mark.parametrize(
    ("text", "today", "wanted"),
    [
        ("run_name: y", {"name": "y"}, LegacyAction.RUN),
        ("min_vram: 16", {"resources": {"vram": "16MiB"}}, LegacyAction.RUN),
        ("lr: 2\ndefaults: {epochs: 3}", {"defaults": {"lr": 2, "epochs": 3}}, LegacyAction.RUN),
        ("poison_rate: [0, 0.2]", {"defaults": {"poison": [0, 20]}}, LegacyAction.RUN),
        ("only_list: true", {}, LegacyAction.LIST),
        ("parse: true\nonly_list: true", {}, LegacyAction.RESULTS),
        (
            "resources: {train: {min_vram: auto}}",
            {"resources": {"train": {"vram": "auto"}}},
            LegacyAction.RUN,
        ),
    ],
)
def test_old_words_are_moved_to_their_current_position(
    text: str, today: object, wanted: LegacyAction
) -> None:
    problems = Problems()
    root, wants = translate(tree(text), KINDS, problems)
    assert (plain_value(root), wants) == (today, wanted)
    assert {problem.code for problem in problems} == {"old-name"}


def test_words_of_the_command_line_override_those_of_the_file() -> None:
    problems = Problems()
    arguments = ["name=y", "matrix.train.lr=[3]", "lr=4", "train.lr=5", "resources.train.cpus=6"]
    overrides = read_overrides(arguments, KINDS, problems)
    root = apply_overrides(
        tree("name: x\nmatrix: {train: {lr: [1], epochs: [2]}}"), overrides, problems
    )
    matrix = {"train": {"lr": [3], "epochs": [2]}}
    assert plain_value(root) == {"name": "y", "matrix": matrix}
    forced = {
        kind: {name: plain_value(said.node) for name, said in given.items()}
        for kind, given in overrides.settings.items()
    }
    assert forced == {EVERY: {"lr": 4}, "train": {"lr": 5}}
    assert [plain_value(each) for each in overrides.resources] == [{"train": {"cpus": 6}}]
    assert not problems


def test_memory_of_a_gpu_is_reported_by_its_current_name() -> None:
    problems = Problems()
    assert plain_value(with_current_names(tree("min_vram: 1GiB"), problems)) == {"vram": "1GiB"}
    assert [problem.message for problem in problems] == ["min_vram is now called vram"]


# --- settings


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
    assert isinstance(root, MappingNode)
    given = {key.text: GivenSetting(key, node) for key, node in root.pairs}
    found = resolve_settings(KIND, given, root.place, problems)
    return None if found is None else found.values, problems


@pytest.mark.parametrize(
    ("text", "message", "line", "column"),
    [
        ("low: 3\nhigh: 2\n", "low 3 is above high 2", 1, 1),
        ("low: 0\nshape: dto\n", "unknown shape 'dto' (known: dot). Did you mean 'dot'?", 1, 1),
        ("table: 3\n", "table: expected a mapping, got 3", 1, 8),
        ("table: {a: x}\n", "table: expected a whole number, got a mapping", 1, 9),
        ("low: {a: 1}\n", "low: expected a whole number, got a mapping", 1, 7),
        ("either: [1]\n", "either: expected true or false or a number, got a list", 1, 9),
    ],
)
def test_refusal_of_a_plugin_package_has_its_message_and_location(
    text: str, message: str, line: int, column: int
) -> None:
    values, problems = settled(text)
    assert values is None
    assert [one.message for one in problems] == [message]
    place = problems[0].place
    assert place is not None
    assert (place.line, place.column) == (line, column)


# --- A setting with the name of a kind: below defaults and matrix the type of its value decides


class BlendSettings(Settings):
    """Settings of which one has the name of another kind."""

    source: str = "data/toys"
    bend: str = "left"


NAMED_ALIKE: dict[str, Kind] = {
    **TOYS,
    "blend": replace(TOYS["blend"], settings=BlendSettings),  # type: ignore[type-var]  # toys
}


def test_value_sets_the_setting_and_mapping_sets_the_kind() -> None:
    made = a_plan("defaults: {bend: up}\nblend: [{}]\nbend: [{}]\n", kinds=NAMED_ALIKE)
    assert job(made, "blend/blend").settings["bend"] == "up"
    made = a_plan("defaults: {bend: {by: up}}\nblend: [{}]\nbend: [{}]\n", kinds=NAMED_ALIKE)
    assert job(made, "blend/blend").settings["bend"] == "left"
    assert job(made, "bend/bend").settings["by"] == "up"


def test_list_sweeps_the_setting_and_mapping_sweeps_settings_of_the_kind() -> None:
    made = a_plan("matrix: {bend: [up, down]}\nblend: [{}]\n", kinds=NAMED_ALIKE)
    assert names(made) == ["blend/blend@bend=up", "blend/blend@bend=down"]
    made = a_plan("matrix: {bend: {by: [up, down]}}\nbend: [{}]\n", kinds=NAMED_ALIKE)
    assert names(made) == ["bend/bend@by=up", "bend/bend@by=down"]
