"""The generated pages of docs/ agree with the code."""

import re
from pathlib import Path

import pytest

import glossary
import reference_pages
from environment_variables import VARIABLES, Purpose
from launcher.api import JobOptions
from trueface.runtime.variables import VARIABLES as OF_TRUEFACE

TREE = Path(__file__).parents[2]
NAME = re.compile(r"\"((?:LAUNCHER|TRUEFACE)_[A-Z_]+)\"")
LIST_OF_TRUEFACE = TREE / "trueface/runtime/variables.py"
# made of names at run time: options of commands, facts of messages
COMPOSED = {"LAUNCHER_COMMAND_OPTION"} | {
    each.name for each in VARIABLES if each.purpose is Purpose.MESSAGE
}


@pytest.mark.parametrize("name", reference_pages.PAGES)
def test_generated_page_matches_the_code(name: str) -> None:
    page = (TREE / "docs" / name).read_text(encoding="utf-8")
    assert page == reference_pages.text_of(name), "python .ci/reference_pages.py --write"


def test_api_page_shows_options_with_types_and_defaults() -> None:
    sections = dict(
        part.split("\n", 1) for part in reference_pages.text_of("api.md").split("\n### ")[1:]
    )
    rows = {
        "submit": ("`hold` | `bool` | `False`", "`run` | `str` | `'functions'`"),
        "submit_program": ("`run` | `str` | `'add'`", "`env` | `Mapping[str, str]` | `None`"),
        "Executor": ("`run` | `str` | `'functions'`",),
        "JobOptions": ("`cpus` | `int` | `1`", "`grace` | `str \\| float \\| timedelta` | `'30s'`"),
    }
    assert not [
        row for name, shown in rows.items() for row in shown if f"| {row} |" not in sections[name]
    ]
    assert "trials: int" in sections["search"]
    assert "(#joboptions)" in sections["search"]
    options = set(JobOptions.__annotations__)
    assert options == set(re.findall(r"^\| `(\w+)` \|", sections["JobOptions"], re.MULTILINE))


def test_every_environment_variable_is_documented() -> None:
    known = {each.name for each in VARIABLES} | {name for name, *_ in OF_TRUEFACE}
    used = {
        name
        for package in ("launcher", "trueface")
        for file in (TREE / package).rglob("*.py")
        if file != LIST_OF_TRUEFACE
        for name in NAME.findall(file.read_text(encoding="utf-8"))
    }
    assert used - known == set()
    ours = {name for name in known if name.startswith(("LAUNCHER_", "TRUEFACE_"))}
    assert ours - used - COMPOSED == set()


def test_internal_environment_variables_are_not_documented() -> None:
    page = reference_pages.text_of("environment.md")
    shown = {each.name for each in VARIABLES if f"`{each.name}`" in page}
    assert shown == {each.name for each in VARIABLES if each.purpose is not Purpose.INTERNAL}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("A pilot runs jobs.\n", [(1, "pilot")]),
        ("# The pilot\n\nA **pilot** is a process. The pilot runs jobs.\n", []),
        ("See [pilots](glossary.md#pilot).\n", []),
        ("Write `pilot = off`.\n\n```text\na pilot\n```\n", []),
        ("Jobs run.\nEach task\nfile has a name.\n", [(2, "task file")]),
    ],
)
def test_term_is_linked_at_its_first_use(text: str, found: list[tuple[int, str]]) -> None:
    assert [*glossary.unexplained(text, ["pilot", "task file"])] == found


def test_glossary_has_at_most_fifty_terms() -> None:
    assert 20 < len(glossary.terms()) <= glossary.MOST_TERMS
