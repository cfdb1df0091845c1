"""What editors and the reference are told of kinds that make folders."""

import re
from typing import Any, cast

import pytest
from jsonschema import Draft202012Validator

from launcher.errors import Problems
from launcher.taskfile.language import WORDS
from launcher.taskfile.schema.json_schema import task_schema
from launcher.taskfile.schema.reference import reference
from launcher.taskfile.yaml_tree import plain_value, read_document
from tests.launcher.folder_toys import KINDS
from tests.launcher.language import a_plan, refusals

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
def test_what_can_be_planned_fits_the_schema(text: str) -> None:
    assert a_plan(text, kinds=KINDS).jobs
    assert is_valid(text)


@pytest.mark.parametrize("text", BAD)
def test_what_is_misshapen_fits_neither(text: str) -> None:
    assert refusals(text, kinds=KINDS)
    assert not is_valid(text)


def test_the_reference_names_the_words_of_an_entry() -> None:
    section = reference(KINDS).partition("\n### bend\n")[2].partition("\n### ")[0]
    words = re.findall(r"^\| `(\w+)` \|", section.partition("| setting |")[0], re.MULTILINE)
    assert sorted(words) == sorted(WORDS[KINDS["bend"].role])
    assert "| `name` |" in section
    assert "others to start from it" in section
