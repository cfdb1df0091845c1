import os
import time
from pathlib import Path

import pytest

from launcher.system.file_digests import GONE, LARGE_BYTES, FileDigests

LONG_AGO = 1_000_000_000_000_000_000  # ns since 1970


def a_file(folder: Path, text: str = "a", *, changed_ns: int = LONG_AGO, size: int = 1) -> Path:
    path = folder / "file"
    path.write_text(text * size)
    os.utime(path, ns=(changed_ns, changed_ns))
    return path


def replaced(path: Path) -> None:
    text, changed_ns = path.read_text(), path.stat().st_mtime_ns
    other = path.with_name("other")
    other.write_text(text.replace("a", "b"))
    os.utime(other, ns=(changed_ns, changed_ns))
    other.replace(path)


def rewritten(path: Path, by_ns: int, text: str = "b") -> None:
    changed_ns = path.stat().st_mtime_ns + by_ns
    path.write_text(text * path.stat().st_size)
    os.utime(path, ns=(changed_ns, changed_ns))


@pytest.mark.parametrize(
    ("change", "is_seen"),
    [
        (lambda path: None, False),
        (lambda path: rewritten(path, 0), False),  # no other stamp: what nobody can see
        (lambda path: rewritten(path, 1), True),
        (lambda path: rewritten(path, -1), True),
        (lambda path: rewritten(path, 0, "bb"), True),
        (replaced, True),
    ],
)
def test_a_digest_is_found_again_by_size_time_and_inode(
    tmp_path: Path, change: object, is_seen: bool
) -> None:
    path, digests = a_file(tmp_path), FileDigests()
    before = digests.of(path)
    assert callable(change)
    change(path)
    assert (digests.of(path) != before) is is_seen


def test_of_what_was_changed_just_now_nothing_is_kept(tmp_path: Path) -> None:
    path, digests = a_file(tmp_path, changed_ns=time.time_ns() + 10**9), FileDigests()
    before = digests.of(path)
    rewritten(path, 0)
    assert digests.of(path) != before


@pytest.mark.parametrize(("size", "is_kept"), [(1, False), (LARGE_BYTES, True)])
def test_digests_of_large_files_outlive_the_process(
    tmp_path: Path, size: int, is_kept: bool
) -> None:
    path, kept = a_file(tmp_path, size=size), tmp_path / "digests.json"
    digests = FileDigests(kept)
    before = digests.of(path)
    digests.save()
    rewritten(path, 0)
    assert (FileDigests(kept).of(path) == before) is is_kept


@pytest.mark.parametrize("damage", ["", "[]", '{"schema":3,"files":{"PATH":[1]}}', "\0"])
def test_a_damaged_cache_is_none(tmp_path: Path, damage: str) -> None:
    path, kept = a_file(tmp_path, size=LARGE_BYTES), tmp_path / "digests.json"
    before = FileDigests().of(path)
    kept.write_text(damage.replace("PATH", str(path)))
    assert FileDigests(kept).of(path) == before


def test_no_folder_is_made_for_a_cache(tmp_path: Path) -> None:
    path = a_file(tmp_path, size=LARGE_BYTES)
    digests = FileDigests(tmp_path / "absent" / "digests.json")
    digests.of(path)
    digests.save()
    assert not (tmp_path / "absent").exists()


def test_what_is_no_file_has_no_digest(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in ("absent", "pipe", ".", "a\0b", "x" * 5000):
        assert FileDigests().found(f"{tmp_path}/{path}") == GONE


def test_a_file_too_large_to_be_read_is_known_by_its_stamp(tmp_path: Path) -> None:
    path, digests = a_file(tmp_path, size=10), FileDigests()
    before = digests.found(str(path), 9)
    rewritten(path, 0)
    assert digests.found(str(path), 9) == before
    rewritten(path, 1)
    assert digests.found(str(path), 9) != before
    assert digests.found(str(path), 10) == digests.of(path)
