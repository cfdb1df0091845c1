"""Digests that are remembered: never one of a file that changed."""

import hashlib
import os
import time
from pathlib import Path

import numpy as np
import pytest

from trueface.features import file_digests
from trueface.features.file_digests import ROW, FileDigests, Table
from trueface.runtime import artifact
from trueface.runtime.artifact import FileMark

DAY_S = 86_400


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a file that is old enough. A real file would have to exist for two seconds."""
    monkeypatch.setattr(artifact, "RACY_NS", 0)
    path = tmp_path / "image"
    path.write_bytes(b"one")
    return path


def digest_in_new_process(folder: Path, file: Path) -> tuple[str, int]:
    """Return what a process that begins now says, and how many files it read."""
    digests = FileDigests(folder)
    sha256 = digests.digest_file(file)[1].hex()
    digests.save_digests()
    return sha256, digests.hashed


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_file_is_read_once(file: Path) -> None:
    folder = file.parent
    assert digest_in_new_process(folder, file) == (sha256(b"one"), 1)
    assert digest_in_new_process(folder, file) == (sha256(b"one"), 0)
    assert oct(next(folder.glob("digests-*.bin")).stat().st_mode)[-3:] == "600"


def test_modified_file_is_read_again_despite_equal_mtime(file: Path) -> None:
    digest_in_new_process(file.parent, file)
    status = file.stat()
    time.sleep(0.02)  # a tick of the file system's clock
    file.write_bytes(b"two")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert digest_in_new_process(file.parent, file) == (sha256(b"two"), 1)


def test_file_that_may_change_undetected_is_not_cached(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifact, "RACY_NS", 60 * 10**9)
    assert [digest_in_new_process(file.parent, file)[1] for _ in range(2)] == [1, 1]


@pytest.mark.parametrize("damaged", [b"", b"\0" * 7, b"trueface digests 1\n" + b"\0" * 112])
def test_damaged_digests_are_ignored(file: Path, damaged: bytes) -> None:
    digest_in_new_process(file.parent, file)
    (kept,) = file.parent.glob("digests-*.bin")
    kept.write_bytes(damaged)
    assert digest_in_new_process(file.parent, file) == (sha256(b"one"), 1)
    assert digest_in_new_process(file.parent, file) == (sha256(b"one"), 0)


def test_digests_of_two_processes_are_merged(file: Path) -> None:
    other = file.with_name("other")
    other.write_bytes(b"other")
    first, second = (FileDigests(file.parent) for _ in range(2))
    first.digest_file(file), second.digest_file(other)
    for each in (first, second):
        each.save_digests()
    assert [digest_in_new_process(file.parent, path)[1] for path in (file, other)] == [0, 0]


def test_pipe_does_not_block(file: Path) -> None:
    os.mkfifo(file.with_name("pipe"))
    with pytest.raises(OSError, match="not a regular file"):
        FileDigests(None).digest_file(file.with_name("pipe"))


def test_partial_file_of_killed_process_is_deleted_after_a_day(file: Path) -> None:
    left, young = file.with_name(".0.tmp"), file.with_name(".1.tmp")
    for path in (left, young):
        path.write_bytes(b"half")
    before = time.time() - 2 * DAY_S
    os.utime(left, (before, before))
    digest_in_new_process(file.parent, file)
    assert (left.exists(), young.exists()) == (False, True)


def test_least_recently_used_digests_are_dropped(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, other, third = file.parent, file.with_name("other"), file.with_name("third")
    other.write_bytes(b"two")
    third.write_bytes(b"three")
    monkeypatch.setattr(file_digests, "MOST_FILES", 2)
    today = time.time()
    for days, path in enumerate((file, other, file, third)):
        monkeypatch.setattr(time, "time", lambda days=days: today + days * DAY_S)
        digest_in_new_process(folder, path)
    assert [digest_in_new_process(folder, path)[1] for path in (file, third, other)] == [0, 0, 1]


def test_equal_inode_numbers_on_two_disks_are_two_files(file: Path) -> None:
    marks = [FileMark.from_path(file)._replace(device=device) for device in (1, 2)]
    entries = {mark: (bytes([mark.device]) * 32, 5) for mark in marks}
    table = Table(np.zeros(0, dtype=ROW)).with_newer(entries).with_newer({marks[0]: (b"n" * 32, 6)})
    assert [table.find(mark) for mark in marks] == [(b"n" * 32, 6), (b"\2" * 32, 5)]
    assert table.find(marks[0]._replace(size=7)) is None
