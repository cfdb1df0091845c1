"""The proof of tests/powercut in small, and that it can fail; the whole one: make powercut."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.powercut.disk import Disk
from tests.powercut.proof import prove, record
from tests.powercut.recording import Operation

JOBS, CUTS, SEED = 12, 60, 7  # with fewer jobs none takes the place of another


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("recorded")


@pytest.fixture(scope="module")
def operations(place: Path) -> Sequence[Operation]:
    if shutil.which("cc") is None:
        pytest.skip("recording needs a C compiler")
    return record(place, JOBS)


def test_a_power_cut_loses_nothing_that_was_seen_to_be_queued_or_done(
    operations: Sequence[Operation], place: Path
) -> None:
    report = prove(place, operations, cuts=CUTS, restarts=1, seed=SEED)
    assert report.findings == ()


def test_without_syncs_a_power_cut_loses_jobs(operations: Sequence[Operation], place: Path) -> None:
    report = prove(place, operations, cuts=40, restarts=0, seed=SEED, syncs=False)
    assert report.findings


def changes(*lines: tuple[object, ...]) -> Disk:
    """Return a disk after changes: what, path, other, inode, offset, data."""
    disk = Disk("/disk")
    for what, path, other, inode, offset, data in lines:
        disk.apply(
            Operation(
                str(what),
                str(path),
                str(other),
                int(str(inode)),
                int(str(offset)),
                bytes(str(data), "ascii"),
            )
        )
    return disk


def test_a_disk_keeps_what_was_synced_and_loses_the_rest() -> None:
    disk = changes(
        ("m", "/disk/home", "", 1, 0, ""),
        ("c", "/disk/home/a", "", 2, 0, ""),
        ("w", "", "", 2, 0, "old"),
        ("s", "", "", 2, 0, ""),
        ("l", "/disk/home/a", "/disk/home/b", 0, 0, ""),
        ("s", "", "", 1, 0, ""),
        ("w", "", "", 2, 0, "new!"),
        ("r", "/disk/home/b", "/disk/home/c", 0, 0, ""),
    )
    assert disk.after_a_cut(lambda: False) == {"home": {"a": b"old", "b": b"old"}}
    assert disk.after_a_cut(lambda: True) == {"home": {"a": b"new!", "c": b"new!"}}
