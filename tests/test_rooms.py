"""Each folder of the two packages says what it is for, and names its files in the order to read them."""

import ast
import re
from pathlib import Path

import pytest

TREE = Path(__file__).parents[1]
ROOMS = sorted(
    path.parent for top in ("launcher", "trueface") for path in (TREE / top).rglob("*.py")
)
ROOMS = list(dict.fromkeys(ROOMS))
MOST_LINES = 10
MOST_MODULES = 20
MOST_AT_THE_TOP = 8
ORDER = re.compile(r"In reading order: (?P<names>[^.]*)\.")
REGISTERS = re.compile(
    r"^(@register_\w+|register_options|@check)\(|= Metric\(|\bMetric\($", re.MULTILINE
)


def docstring(room: Path) -> str:
    return ast.get_docstring(ast.parse((room / "__init__.py").read_text())) or ""


def plugins(room: Path) -> set[str]:
    """Return the files that register themselves: a new one need not be named."""
    return {path.stem for path in room.glob("*.py") if REGISTERS.search(path.read_text())}


def contents(room: Path) -> set[str]:
    modules = {path.stem for path in room.glob("*.py")} - {"__init__"}
    return modules | {path.parent.name for path in room.glob("*/__init__.py")}


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: str(room.relative_to(TREE)))
def test_a_room_names_all_its_files_in_reading_order(room: Path) -> None:
    text = docstring(room)
    assert len(text.splitlines()) <= MOST_LINES
    listed = ORDER.search(text)
    assert listed is not None, text
    names = re.split(r",\s+", listed["names"])
    assert len(names) == len(set(names))
    assert set(names) | plugins(room) == contents(room)
    assert set(names) <= contents(room)


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: str(room.relative_to(TREE)))
def test_a_room_says_where_to_start(room: Path) -> None:
    start = re.search(r"Start reading at (.*)", docstring(room))
    assert start is not None
    for name in re.findall(r"`([\w.]+)`", start[1]):
        parts = name.split(".")
        path = room.joinpath(*parts)
        if path.with_suffix(".py").exists() or (path / "__init__.py").exists():
            continue
        tree = ast.parse(room.joinpath(*parts[:-1]).with_suffix(".py").read_text())
        assert parts[-1] in {getattr(node, "name", "") for node in tree.body}, name


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: str(room.relative_to(TREE)))
def test_no_room_is_crowded(room: Path) -> None:
    most = MOST_AT_THE_TOP if room.parent == TREE else MOST_MODULES
    modules = {path.stem for path in room.glob("*.py")} - {"__init__"}
    assert len(modules - plugins(room)) <= most
