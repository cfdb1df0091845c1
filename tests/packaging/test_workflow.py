"""The workflow for a public forge: it tests each supported Python, with targets that exist."""

import re
import shutil
import subprocess
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest
import yaml

TREE = Path(__file__).parents[2]
FILE = TREE / ".github" / "workflows" / "test.yml"


@pytest.fixture(scope="module")
def workflow() -> Any:
    return yaml.safe_load(FILE.read_text(encoding="utf-8"))


def test_every_python_of_the_metadata_is_tested(workflow: Any) -> None:
    setup = ConfigParser(interpolation=None)
    setup.read(TREE / "setup.cfg")
    declared = re.findall(r"Python :: (3\.\d+)$", setup["metadata"]["classifiers"], re.MULTILINE)
    assert workflow["jobs"]["test"]["strategy"]["matrix"]["python"] == declared


@pytest.mark.parametrize(
    "name", ["README.md", "CONTRIBUTING.md", "docs/installing.md", "setup.cfg"]
)
def test_untried_pythons_are_named_wherever_the_tried_ones_are(name: str) -> None:
    text = (TREE / name).read_text(encoding="utf-8")
    assert re.search(r"3\.11 to 3\.13\b[^#|]{,80}[Nn]ewer (?:ones|Pythons) are not tried", text)


def test_workflow_runs_tests_and_release(workflow: Any) -> None:
    runs = [step.get("run", "") for job in workflow["jobs"].values() for step in job["steps"]]
    assert {run for run in runs if run.startswith("make")} == {
        "make PYTHON=python test",
        "make PYTHON=python release",
    }
    assert workflow["permissions"] == {"contents": "read"}


@pytest.mark.skipif(shutil.which("actionlint") is None, reason="actionlint is not installed")
def test_actionlint_finds_nothing() -> None:
    done = subprocess.run(["actionlint", FILE], capture_output=True, text=True, check=False)
    assert done.stdout == ""
