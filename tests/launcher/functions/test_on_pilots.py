"""Functions on pilots: the call lies where they see it."""

import os
from pathlib import Path

import pytest

from launcher.api import UsageError, submit
from launcher.system.paths import Home
from tests.build import DEADLINE_S

PATIENCE_S = 3 * DEADLINE_S  # a pilot has to start first
CONFIG = """
[backends.near]
kind = "local"
idle = "1s"
[backends.far]
kind = "local"
folder = "FAR"
"""


@pytest.fixture
def far(queue: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two backends that are processes of this machine; the folder of the second one's pilots."""
    folder, config, project = (tmp_path / name for name in ("far", "config.toml", "project"))
    config.write_text(CONFIG.replace("FAR", str(folder)), encoding="utf-8")
    monkeypatch.setenv("LAUNCHER_CONFIG", str(config))
    project.mkdir()
    monkeypatch.chdir(project)
    return folder


def test_a_function_runs_on_a_pilot_and_its_value_or_exception_comes_back(
    far: Path, home: Home
) -> None:
    bias, here = 2, os.getpid()

    def work(x: int) -> int:
        assert os.getpid() != here
        return x // bias

    def refuse() -> None:
        raise ValueError("not here")

    answer, refusal = submit(work, 10, on="near"), submit(refuse, on=["near"])
    assert answer.result(PATIENCE_S) == 5
    with pytest.raises(ValueError, match="not here"):
        refusal.result(PATIENCE_S)
    assert home.attempt(answer.job, 1).folder.is_symlink()  # into the folder of its pilot
    assert not far.exists()


def test_where_the_pilots_have_no_folder_in_common_the_function_is_refused(far: Path) -> None:
    with pytest.raises(UsageError, match="near, far have no folder in common"):
        submit(int, on="near,far")
    submit(int, on="local,far", hold=True)
    assert [path.parent for path in far.rglob("*.calls")] == [far / "functions"]
