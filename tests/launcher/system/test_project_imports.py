"""Which modules of a project a script imports."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from launcher.provenance.project_imports import (
    ImportFinder,
    ProjectFolders,
    project_folders,
)


def write(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def found(folder: Path, start: str = "train.py", most: int = 1000) -> tuple[set[str], bool]:
    """Return the names of the found files, and whether these are all."""
    places = project_folders(str(folder), ["lib"], "")
    start = str(folder / start) if start.endswith(".py") else start
    files, is_all = ImportFinder().files([start], places, most)
    assert len(files) == len({*files})
    return {str(Path(file).relative_to(folder)) for file in files}, is_all


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"train.py": "import os, json, torch"}, {"train.py"}),
        ({"train.py": "import a", "a.py": "import train"}, {"train.py", "a.py"}),
        ({"train.py": "def f():\n    if f:\n        import a", "a.py": ""}, {"train.py", "a.py"}),
        ({"train.py": "import a", "a.py": "def broken("}, {"train.py", "a.py"}),
        ({"train.py": "def broken("}, {"train.py"}),
        ({"train.py": "import a", "lib/a.py": ""}, {"train.py", "lib/a.py"}),
        (
            {
                "train.py": "import p.q.r",
                "p/__init__.py": "",
                "p/q/__init__.py": "",
                "p/q/r.py": "",
            },
            {"train.py", "p/__init__.py", "p/q/__init__.py", "p/q/r.py"},
        ),
        (
            {
                "train.py": "from p import a, name",
                "p/__init__.py": "name = 1",
                "p/a.py": "",
                "p/b.py": "",
            },
            {"train.py", "p/__init__.py", "p/a.py"},
        ),
        ({"train.py": "from n.m import a", "n/m/a.py": ""}, {"train.py", "n/m/a.py"}),
        ({"train.py": "import a", "a.py": "", "a/data.csv": ""}, {"train.py", "a.py"}),
        (
            {
                "train.py": "import p.q.a",
                "p/__init__.py": "",
                "p/q/__init__.py": "",
                "p/q/a.py": "from . import b\nfrom ..c import x\nfrom .. import d",
                "p/q/b.py": "",
                "p/c.py": "",
                "p/d/__init__.py": "",
            },
            {
                *("train.py", "p/__init__.py", "p/q/__init__.py", "p/q/a.py", "p/q/b.py"),
                *("p/c.py", "p/d/__init__.py"),
            },
        ),
    ],
)
def test_imported_modules_of_the_project_are_found(
    tmp_path: Path, files: Mapping[str, str], expected: set[str]
) -> None:
    write(tmp_path, files)
    assert found(tmp_path) == (expected, True)


def test_module_is_found_by_its_name(tmp_path: Path) -> None:
    write(tmp_path, {"p/__init__.py": "", "p/main.py": "from p import a", "p/a.py": ""})
    assert found(tmp_path, "p.main") == ({"p/__init__.py", "p/main.py", "p/a.py"}, True)
    assert found(tmp_path, "absent.module") == (set(), True)


def test_search_ends_at_its_limit_and_says_so(tmp_path: Path) -> None:
    text = "\n".join(f"import m{n}" for n in range(50))
    write(tmp_path, {"train.py": text, **{f"m{n}.py": "" for n in range(50)}})
    assert found(tmp_path, most=3) == ({"train.py", "m0.py", "m1.py"}, False)


def test_changed_text_is_read_again(tmp_path: Path) -> None:
    finder, places = ImportFinder(), ProjectFolders((str(tmp_path),))
    write(tmp_path, {"train.py": "import a", "a.py": "", "bb.py": ""})
    start = str(tmp_path / "train.py")
    assert len(finder.files([start], places)[0]) == 2
    write(tmp_path, {"train.py": "import a, bb"})
    assert len(finder.files([start], places)[0]) == 3


def test_editable_packages_belong_to_the_project(tmp_path: Path) -> None:
    installed = tmp_path / "venv/lib/python3.12/site-packages"
    write(
        installed,
        {
            "listed.pth": f"import os\n{tmp_path}/listed\n",
            "__editable___mapped_finder.py": f"MAPPING: dict[str, str] = {{'mapped': '{tmp_path}/src/mapped'}}",
            "__editable___broken_finder.py": "MAPPING = f(",
            "installed.py": "",
        },
    )
    write(
        tmp_path,
        {
            "work/train.py": "import listed_module, mapped.a, installed",
            "listed/listed_module.py": "",
            "src/mapped/__init__.py": "",
            "src/mapped/a.py": "",
        },
    )
    places = project_folders(str(tmp_path / "work"), [], str(tmp_path / "venv/bin/python"))
    files, _ = ImportFinder().files([str(tmp_path / "work/train.py")], places)
    names = {str(Path(file).relative_to(tmp_path)) for file in files}
    assert names == {
        *("work/train.py", "listed/listed_module.py", "src/mapped/__init__.py", "src/mapped/a.py")
    }
