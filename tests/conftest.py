"""What every test can ask for."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.paths import Home

LAUNCHER = Path(sys.executable).with_name("launcher")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    """A queue of its own, whose scheduler and jobs end with the test."""
    folder = tmp_path / "home"
    monkeypatch.setenv("LAUNCHER_HOME", str(folder))
    yield Home(folder)
    if folder.exists():
        subprocess.run(
            [LAUNCHER, "stop", "--now"],
            env={**os.environ, "LAUNCHER_HOME": str(folder)},
            capture_output=True,
            check=False,
            timeout=60,
        )
