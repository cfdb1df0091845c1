"""The five packages of launcher, the modules beside them, and a queue without the packages above it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.source_tree import ROOT, module, texts

FLOORS = (
    "system",
    "provenance",
    "queue",
    "experiments",
    "frontends",
)  # each imports those before it
# modules beside them, with names that others contain
DOORS = {
    "api": "scripts, notebooks and plugin packages",
    "cli": "the installed command",
    "ids": "hashes of jobs",
    "kinds": "entry points and stored jobs",
    "notify": "schedulers that start it",
    "pilots": "scripts that wait in Slurm",
    "scheduler": "systemd units and crontabs",
}
ABOVE = ("experiments", "frontends")
# tests of the queue that need no seconds
QUICK = (
    "gpu/test_core_shares.py",
    "scheduler/policy/test_co_location.py",
    "scheduler/policy/test_watchdog.py",
    "staging/test_view.py",
    "store/test_queue.py",
)
# pytest in a tree of its own; an editable installation would answer for the packages that the tree lacks
ALONE = """
import sys
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in getattr(finder, "__module__", "")]
import pytest
sys.exit(pytest.main(sys.argv[1:]))
"""
ABSENT = """
from importlib.util import find_spec
def test_packages_above_the_queue_are_absent(): assert not find_spec("launcher.experiments")
"""


def test_only_floors_and_doors_are_at_the_top() -> None:
    top = ROOT / "launcher"
    packages = {file.parent.name for file in top.glob("*/__init__.py")}
    doors = {file.stem for file in top.glob("*.py")} - {"__init__", "__main__"}
    assert (packages, doors) == ({*FLOORS}, {*DOORS})
    assert len(doors) <= 10


def test_floors_import_no_door_but_ids() -> None:
    closed = "|".join(DOORS.keys() - {"ids"})
    entering = re.compile(
        rf"^ *(?:(?:from|import) launcher\.(?:{closed})\b(?!\.)|from launcher import .*\b(?:{closed})\b)",
        re.MULTILINE,
    )
    assert entering.search("    from launcher.api import submit\n")
    inside = {dotted: text for dotted, text in texts("launcher").items() if dotted.count(".") > 1}
    assert [dotted for dotted, text in inside.items() if entering.search(text)] == []


@pytest.mark.parametrize("floor", FLOORS)
def test_each_floor_says_what_is_in_it_and_where_to_begin(floor: str) -> None:
    said = module(f"launcher.{floor}").docstring
    assert len([line for line in said.splitlines() if line.strip()]) >= 3
    assert "Start reading at" in said
    beginning = (ROOT / "contributing/walk.md").read_text(encoding="utf-8").splitlines()[:60]
    assert any(f"`{floor}`" in line for line in beginning)


@pytest.mark.parametrize("door", [*DOORS])
def test_each_door_is_named_on_the_walk_through_the_code(door: str) -> None:
    page = (ROOT / "contributing/walk.md").read_text(encoding="utf-8")
    assert f"|`launcher.{door}`|" in page


def test_queue_works_without_the_packages_above_it(tmp_path: Path) -> None:
    left_out = shutil.ignore_patterns("__pycache__", "data", "trueface", "e2e", "benchmarks")

    def without_upper(folder: str, names: list[str]) -> set[str]:
        return {*left_out(folder, names), *(ABOVE if Path(folder).name == "launcher" else ())}

    shutil.copytree(ROOT / "launcher", tmp_path / "launcher", ignore=without_upper)
    shutil.copytree(ROOT / "tests", tmp_path / "tests", ignore=left_out)
    shutil.copytree(ROOT / ".ci", tmp_path / ".ci", ignore=left_out)
    shutil.copy(ROOT / "setup.cfg", tmp_path)
    (tmp_path / "tests/launcher/test_absent.py").write_text(ABSENT)
    ended = subprocess.run(
        [
            *(sys.executable, "-c", ALONE, "-q", "-p", "no:cacheprovider"),
            *(f"tests/launcher/{file}" for file in (*QUICK, "test_absent.py")),
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-2000:]
