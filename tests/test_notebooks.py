"""The notebooks of docs/ run, and print what they show."""

import importlib.util
from pathlib import Path

import pytest

from launcher.system.paths import Home
from tests.notebooks import NOTEBOOKS, execute, texts_of

NEEDED = ("nbclient", "ipykernel", "nbformat", "pandas")
ABSENT = [name for name in NEEDED if importlib.util.find_spec(name) is None]
MOST_BYTES = 64 << 10


@pytest.mark.night
@pytest.mark.skipif(bool(ABSENT), reason=f"not installed: {', '.join(ABSENT)}")
@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_prints_what_it_shows(path: Path, tmp_path: Path) -> None:
    target = tmp_path / path.name
    execute(path, target, Home(tmp_path / "home"))
    assert texts_of(target) == texts_of(path), "python -m tests.notebooks"
    assert path.stat().st_size < MOST_BYTES
