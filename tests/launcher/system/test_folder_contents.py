"""The digest and the stamp of a folder: what changes them, what does not, and which files they read."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from launcher.provenance.file_digests import LARGE_FOLDER, FileDigests, HashingStopped
from launcher.provenance.folder_contents import FOLDER_END, folder_stamp, list_folder
from launcher.system.files import PLAIN_FOLDER_STAMP, FileVersion
from tests.launcher.users import NOBODY, as_user, root_only, said_by, shared_folder

OLD_NS = 10**18  # a file that does not change any more


def fill(folder: Path) -> Path:
    (folder / "a" / "empty").mkdir(parents=True)
    for name in ("last.pt", "a/log", "a/.hidden"):
        (folder / name).write_text(name)
        os.utime(folder / name, ns=(OLD_NS, OLD_NS))
    (folder / "link").symlink_to("last.pt")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return fill(tmp_path / "out")


def version(folder: Path) -> FileVersion:
    found = FileDigests().read_file_version(f"{folder}/")
    assert found is not None
    assert found.digest
    return found


def rewrite(path: Path, text: str) -> None:
    """Change a file, and keep its size and time as far as the text allows."""
    path.write_text(text)
    os.utime(path, ns=(OLD_NS, OLD_NS))


def make_socket(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(folder)  # the address of a socket is short
        try:
            listener.bind("s")
        finally:
            os.chdir(here)


def relink(folder: Path, target: str) -> None:
    (folder / "link").unlink()
    (folder / "link").symlink_to(target)


def put_file(path: Path, text: str) -> None:
    if path.is_symlink():
        path.unlink()
    else:
        path.rmdir()
    path.write_text(text)


def copy_back(folder: Path) -> None:
    """Put a copy with other inodes in the place of a folder."""
    copy = folder.with_name("copy")
    shutil.copytree(folder, copy, symlinks=True)
    shutil.rmtree(folder)
    copy.rename(folder)


CHANGES: list[tuple[str, Callable[[Path], object]]] = [
    ("content", lambda folder: (folder / "a/log").write_text("a-log")),
    ("new file", lambda folder: (folder / "a/new").touch()),
    ("deleted file", lambda folder: (folder / "a/log").unlink()),
    ("renamed file", lambda folder: (folder / "a/log").rename(folder / "a/lag")),
    ("moved file", lambda folder: (folder / "a/log").rename(folder / "log")),
    ("empty folder", lambda folder: (folder / "a/empty").rmdir()),
    ("new folder", lambda folder: (folder / "b").mkdir()),
    ("file for a folder", lambda folder: put_file(folder / "a/empty", "")),
    ("other link", lambda folder: relink(folder, "a/log")),
    ("file for a link", lambda folder: put_file(folder / "link", "last.pt")),
    ("pipe", lambda folder: os.mkfifo(folder / "pipe")),
    ("socket", make_socket),
    ("dangling link", lambda folder: (folder / "away").symlink_to("/nowhere")),
]


@pytest.mark.parametrize(("what", "change"), CHANGES, ids=[what for what, _ in CHANGES])
def test_change_below_a_folder_changes_its_digest(
    folder: Path, what: str, change: Callable[[Path], object]
) -> None:
    before = version(folder)
    change(folder)
    now = version(folder)
    assert now.digest != before.digest
    assert now.stamp != before.stamp
    assert not FileDigests().is_unchanged(str(folder), before, PLAIN_FOLDER_STAMP)


@pytest.mark.parametrize(
    ("change", "keeps_stamp"),
    [
        (lambda _: None, True),
        (lambda folder: os.utime(folder / "a"), True),  # as a temporary file in it does
        (lambda folder: os.utime(folder / "a/log"), False),
        (lambda folder: (folder / "a/log").chmod(0o600), True),
        (copy_back, False),
    ],
)
def test_same_content_has_the_same_digest(
    folder: Path, change: Callable[[Path], object], keeps_stamp: bool
) -> None:
    before = version(folder)
    change(folder)
    now = version(folder)
    assert now.digest == before.digest
    assert (now.stamp == before.stamp) is keeps_stamp
    assert FileDigests().is_unchanged(str(folder), before, PLAIN_FOLDER_STAMP)


def test_content_outside_of_the_folder_does_not_count(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (folder / "out").symlink_to(tmp_path / "outside")
    before = version(folder)
    (tmp_path / "outside" / "new").write_text("more")
    assert version(folder) == before


def test_record_of_a_folder_without_content_stays_valid(folder: Path) -> None:
    before = FileVersion(*PLAIN_FOLDER_STAMP)
    (folder / "new").touch()
    assert FileDigests().is_unchanged(str(folder), before, PLAIN_FOLDER_STAMP)


def test_folder_that_became_a_file_is_changed(folder: Path) -> None:
    before = version(folder)
    shutil.rmtree(folder)
    assert not FileDigests().is_unchanged(str(folder), before, None)
    folder.write_text("x")
    assert not FileDigests().is_unchanged(str(folder), before, (1, 1))
    os.truncate(folder, 0)
    os.utime(folder, ns=(0, 0))  # the stamp of an empty file of 1970 is that of a folder
    assert not FileDigests().is_unchanged(str(folder), before, (0, 0))


@pytest.mark.parametrize("name", ["absent/", "file/", "fi\0le/"])
def test_what_is_no_folder_has_no_version(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    assert FileDigests().read_file_version(f"{tmp_path}/{name}") is None
    assert FileDigests().digest_or_missing(f"{tmp_path}/{name}") == ""


def test_unchanged_large_folder_is_not_read_again(folder: Path, tmp_path: Path) -> None:
    for number in range(LARGE_FOLDER):
        rewrite(folder / f"{number}", "x")
    cache = tmp_path / "digests.json"
    digests = FileDigests(cache)
    found = digests.digest_or_missing(f"{folder}/")
    digests.save()

    class Unreadable(FileDigests):
        def digest_file(self, path: Path | str) -> str:
            raise AssertionError(path)

    assert Unreadable(cache).digest_or_missing(f"{folder}{FOLDER_END}") == found
    (folder / "0").write_text("other")
    with pytest.raises(AssertionError):
        Unreadable(cache).digest_or_missing(f"{folder}/")


def test_folder_just_written_is_read_again(folder: Path) -> None:
    """Its files may change once more without another time."""
    digests = FileDigests()
    (folder / "new").write_text("1")
    at = (folder / "new").stat().st_mtime_ns
    first = digests.digest_or_missing(f"{folder}/")
    (folder / "new").write_text("2")
    os.utime(folder / "new", ns=(at, at))
    assert digests.digest_or_missing(f"{folder}/") != first


def test_deeply_nested_folders_are_listed() -> None:
    here, folder = Path.cwd(), Path(tempfile.mkdtemp())  # pytest could not delete it
    try:
        os.chdir(folder)
        for _ in range(1200):  # more than Python nests calls of functions
            Path("a").mkdir()
            os.chdir("a")
        os.chdir(here)
        assert len(list_folder(str(folder))) == 1200
        assert version(folder)
    finally:
        os.chdir(here)
        subprocess.run(["rm", "-r", folder], check=True)


def test_reading_a_large_folder_reports_progress_and_can_be_stopped(tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []

    def stop(path: str, read: int, size: int) -> None:
        seen.append((path, read, size))
        raise HashingStopped

    for name in ("a", "b", "c"):
        (tmp_path / name).write_bytes(bytes(4 << 20))
    with pytest.raises(HashingStopped):
        FileDigests(on_progress=stop).digest_or_missing(f"{tmp_path}/")
    assert seen == [(str(tmp_path), 12 << 20, 12 << 20)]


@root_only
def test_unreadable_files_count_by_size_and_time() -> None:
    with shared_folder() as shared:
        folder = fill(shared / "out")
        for path in (folder, folder / "a", folder / "a/empty"):
            path.chmod(0o755)
        (folder / "a/log").chmod(0)

        def look() -> str:
            return said_by(as_user(NOBODY, lambda: version(folder).digest))

        first = look()
        rewrite(folder / "a/log", "another content")
        (folder / "a/log").chmod(0)
        second = look()
        (folder / "a").chmod(0)
        third = look()
        os.utime(folder / "a", ns=(OLD_NS, OLD_NS))
        assert len({first, second, third, look()}) == 4
        assert all(len(digest) == 16 for digest in (first, second, third))
        folder.chmod(0)
        assert said_by(as_user(NOBODY, lambda: folder_stamp(str(folder)))) == "None"
