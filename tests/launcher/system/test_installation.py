"""The command that installs an extra."""

import shlex

import pytest

from launcher.system.installation import install_command


@pytest.mark.parametrize("python", ["/opt/my envs/bin/python", "/usr/bin/python3.12"])
def test_command_runs_pip_of_the_named_interpreter(python: str) -> None:
    words = shlex.split(install_command("data", "/home/me/heavy lab", python=python))
    assert words == [python, "-m", "pip", "install", "/home/me/heavy lab[data]"]
