"""Fixtures for the tests of pilots."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from launcher.queue.backends.pilot_folder import PilotSpec
from launcher.queue.backends.pilot_processes import kill_all
from tests.launcher.pilots.desk import Desk

MakeDesk = Callable[..., Desk]


@pytest.fixture(autouse=True)
def nodes_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what killed pilots leave on their node be deleted with the test."""
    (tmp_path / "node").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "node"))


@pytest.fixture
def desk_of(tmp_path: Path) -> Iterator[MakeDesk]:
    """Make the ends of pilots; they and all that they started are killed afterwards."""
    desks: list[Desk] = []

    def make(spec: PilotSpec | None = None, root: Path = tmp_path / "pilots") -> Desk:
        desks.append(Desk.of(root, spec))
        return desks[-1]

    yield make
    for desk in desks:
        kill_all(desk.folder, None)
        if desk.process is not None:
            desk.process.kill()
            desk.process.wait(20)
