"""The command that installs an extra."""

import shlex
import sys

import pytest

from launcher.system.installation import install_command


@pytest.mark.parametrize("python", ["/opt/my envs/bin/python", "/usr/bin/python3.12"])
def test_command_runs_pip_of_the_named_interpreter(python: str) -> None:
    words = shlex.split(install_command("data", "/home/me/heavy lab", python=python))
    assert words == [python, "-m", "pip", "install", "/home/me/heavy lab[data]"]


def test_command_installs_into_the_environment_of_this_process() -> None:
    assert install_command("web") == (
        f"{shlex.quote(sys.executable)} -m pip install 'launcher-trueface[web]'"
    )
