import os
import resource
import stat
import threading
from pathlib import Path

import pytest

from launcher.system.files import read_json, stamp, write_atomic, write_json


def test_a_reader_sees_the_old_record_or_the_new_one_and_nothing_between(tmp_path: Path) -> None:
    path = tmp_path / "record"
    contents = [letter * 100_000 for letter in "ab"]
    write_atomic(path, contents[0])
    seen: set[str] = set()
    finished = threading.Event()

    def read() -> None:
        while not finished.is_set():
            seen.add(path.read_text())

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(60):
        write_atomic(path, contents[turn % 2])
    finished.set()
    reader.join()
    assert seen <= set(contents)


def test_a_full_disk_leaves_the_old_record_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "record"
    write_atomic(path, "old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError, match="too large") as caught:
            write_atomic(path, b"n" * 2000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.filename == str(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_name_may_be_as_long_as_the_file_system_allows(tmp_path: Path) -> None:
    path = tmp_path / ("ж" * 127)
    write_atomic(path, "whole")
    assert path.read_text() == "whole"


def test_a_record_is_private_where_that_is_asked_for(tmp_path: Path) -> None:
    write_json(tmp_path / "record", {"schema": 1}, mode=0o600)
    assert stat.S_IMODE((tmp_path / "record").stat().st_mode) == 0o600


def test_what_is_no_unicode_comes_back_as_it_was(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    write_json(tmp_path / "record", {"image": name, "ok": "café"})
    assert read_json(tmp_path / "record") == {"image": name, "ok": "café"}


@pytest.mark.parametrize("content", ["", '{"a": 1', "[1]", "null", "\x00\x00\x00", b"\xff\xfe{"])
def test_a_record_that_was_cut_off_or_is_none_counts_as_absent(
    tmp_path: Path, content: str | bytes
) -> None:
    write_atomic(tmp_path / "record", content)
    assert read_json(tmp_path / "record") is None


def test_a_record_that_is_not_there_is_absent(tmp_path: Path) -> None:
    assert read_json(tmp_path / "record") is None


def test_a_stamp_tells_a_changed_file_from_the_same_one(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    assert stamp(str(path)) is None
    assert stamp("a name\0of no file") is None
    path.write_text("one")
    first = stamp(str(path))
    assert first == stamp(str(path))
    path.write_text("other")
    assert stamp(str(path)) != first


def test_a_folder_has_a_stamp_that_its_content_does_not_change(tmp_path: Path) -> None:
    before = stamp(str(tmp_path))
    (tmp_path / "new").touch()
    assert stamp(str(tmp_path)) == before is not None
