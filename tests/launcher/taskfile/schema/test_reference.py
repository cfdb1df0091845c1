"""Kinds that make folders, in the schema for editors and in the reference."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest
from jsonschema import Draft202012Validator

from launcher.experiments.kind_interface import Kind, Role
from launcher.experiments.kinds import COMMAND
from launcher.experiments.taskfile.language import WORDS, words_of
from launcher.experiments.taskfile.nodes import plain_value
from launcher.experiments.taskfile.schema.json_schema import task_schema
from launcher.experiments.taskfile.schema.reference import reference, table
from launcher.experiments.taskfile.yaml_tree import read_document
from launcher.queue.job_options.registry import job_options
from launcher.system.errors import Problems
from tests.launcher.conftest import Launcher
from tests.launcher.folder_toys import KINDS
from tests.launcher.language import a_plan, refusals
from tests.launcher.toylab import laboratory

TOYS: Mapping[str, Kind] = {**laboratory(), "command": COMMAND}


TEXT = reference(TOYS)


def section(name: str) -> str:
    found = re.search(rf"^### {name}\n(.*?)(?=^### |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert found, name
    return found[1]


@pytest.mark.parametrize("kind", TOYS.values(), ids=TOYS)
def test_words_of_an_entry_are_listed_with_its_settings(kind: Kind) -> None:
    before = section(kind.name).partition("| setting |")[0]
    told = set(re.findall(r"^\| `(\w+)` \|", before, re.MULTILINE))
    assert told == (set() if kind.role is Role.LABELS else set(words_of(kind)))


def test_required_settings_are_marked() -> None:
    assert re.search(r"\| `data` \| a data ID.*\(required\) \|", section("test"))
    assert "(required)" not in section("Keys of a file")


def test_every_resource_is_in_the_reference() -> None:
    assert all(
        f"| `{name}` | {option.takes.expected} |" in section("Resources")
        for name, option in job_options().items()
    )


def test_old_words_name_their_replacement() -> None:
    assert "| `run_name` | name |" in section("Old names")
    assert "| `data_list` | autotest |" in section("Old names")


def test_bars_in_cells_are_escaped_and_empty_columns_are_omitted() -> None:
    assert table(("a", "b", "c"), [("x|y", "", "z")]) == [
        "| a | c |",
        "| --- | --- |",
        "| x\\|y | z |",
    ]


def test_schema_command_prints_the_reference(launcher: Launcher, tmp_path: Path) -> None:
    said = launcher("schema", "--markdown")
    assert said.out.startswith("### Keys of a file\n")
    assert said.out.endswith("below `defaults`.\n")
    file = tmp_path / "reference.md"
    launcher.well("schema", "--markdown", "--out", str(file))
    assert file.read_text(encoding="utf-8") == said.out


SCHEMA = task_schema(KINDS)


GOOD = (
    "name: x\nbend: [{source: data/toys}]",
    "name: x\nbend: [{name: bent, matrix: {by: [left, right], lr: {small: 0.1}}, resources: {cpus: 2}}]",
    "name: x\nmatrix: {bend: {by: [left, right]}}\nbend: [{settings: {model: ''}}]",
)


BAD = (
    "name: x\nbend: [{name: a/b}]",
    "name: x\nbend: [{lr: many}]",
    "name: x\nbend: [{matrix: {by: []}}]",
    "name: x\nbend: [{data: dot:pre}]",
    "name: x\nbend: bent",
)


def is_valid(text: str) -> bool:
    problems = Problems()
    root = read_document(text, "x.yaml", problems)
    assert root is not None
    document = plain_value(root)
    return Draft202012Validator(cast("dict[str, Any]", SCHEMA)).is_valid(document)


@pytest.mark.parametrize("text", GOOD)
def test_plannable_files_are_valid_under_the_schema(text: str) -> None:
    assert a_plan(text, kinds=KINDS).jobs
    assert is_valid(text)


@pytest.mark.parametrize("text", BAD)
def test_malformed_files_are_refused_by_schema_and_plan(text: str) -> None:
    assert refusals(text, kinds=KINDS)
    assert not is_valid(text)


def test_the_reference_names_the_words_of_an_entry() -> None:
    section = reference(KINDS).partition("\n### bend\n")[2].partition("\n### ")[0]
    words = re.findall(r"^\| `(\w+)` \|", section.partition("| setting |")[0], re.MULTILINE)
    assert sorted(words) == sorted(WORDS[KINDS["bend"].role])
    assert "| `name` |" in section
    assert "from which other jobs can start" in section
