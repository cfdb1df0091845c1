"""All tests that Hydra and Snakemake have for plugins, in an environment with the built wheel."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.documents import TREE
from tests.e2e.conftest import Project
from tests.e2e.test_install import check_success, pip
from tests.launcher.plugins.conftest import run_peer_suite

pytestmark = pytest.mark.night


@pytest.mark.parametrize(
    ("extra", "file", "passed"),
    [("hydra", "hydra_suite.py", 21), ("snakemake", "snakemake_suite.py", 2)],
)
def test_suite_of_the_tool_passes_in_an_environment_of_its_own(
    tool_project: Project, tmp_path: Path, extra: str, file: str, passed: int
) -> None:
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    wanted = (f"{TREE}[{extra}]", "pytest")
    check_success(pip("--python", environment, "install", "--no-compile", *wanted), tmp_path)
    commands = environment / "bin"
    path = os.pathsep.join([str(commands), os.environ["PATH"]])
    variables = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    variables |= {"LAUNCHER_HOME": str(tool_project.home.folder), "PATH": path}
    project = replace(tool_project, environment=variables, commands=commands)
    tested = run_peer_suite(project, file, python=(commands / "python",))
    assert f"{passed} passed" in tested.stdout, tested.stdout
