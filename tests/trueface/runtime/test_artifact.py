import fcntl
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.build import until
from trueface.runtime.artifact import (
    Artifact,
    BusyError,
    CacheEntry,
    difference,
    free_bytes,
    hold_exclusively,
    hold_lock_if_free,
    limit_bytes,
    make_private,
    make_room,
    replace_folder,
    staging_folder,
)
from trueface.runtime.errors import DataError, JobError, UsageError
from trueface.runtime.files import Json

ENTRIES = [
    CacheEntry(Path(name), used_at, 10) for name, used_at in (("b", 2.0), ("a", 1.0), ("c", 3.0))
]


def fill(folder: Path, text: str) -> None:
    (folder / "a.txt").write_text(text)


def test_folder_replaces_another_and_leaves_no_temporary_files(tmp_path: Path) -> None:
    place = tmp_path / "m"
    for text in ("first", "second"):
        with staging_folder(place) as new:
            fill(new, text)
            replace_folder(new, place)
        assert (place / "a.txt").read_text() == text
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_failed_replacement_keeps_the_old_folder(tmp_path: Path) -> None:
    place = tmp_path / "m"
    place.mkdir()
    fill(place, "first")
    with pytest.raises(ZeroDivisionError), staging_folder(place) as new:
        fill(new, str(1 / 0))
    assert (place / "a.txt").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_leftovers_of_killed_process_are_removed_and_active_folders_stay(
    tmp_path: Path,
) -> None:
    left, held = (tmp_path / f".m.{name}.staged" for name in ("left", "held"))
    for folder in (left, held):
        folder.mkdir()
    descriptor = os.open(held, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with staging_folder(tmp_path / "m"):
        assert (left.exists(), held.exists()) == (False, True)
    os.close(descriptor)


def removed_names(need: int, limit: int, in_use: str = "") -> tuple[bool, str]:
    names = []

    def remove(entry: CacheEntry) -> bool:
        if entry.path.name in in_use:
            return False
        names.append(entry.path.name)
        return True

    fits = make_room(ENTRIES, need, limit, remove)
    return fits, "".join(names)


def test_least_recently_used_entries_are_removed_first_and_only_as_needed() -> None:
    assert removed_names(10, 40) == (True, "")
    assert removed_names(10, 30) == (True, "a")
    assert removed_names(15, 30) == (True, "ab")


def test_entries_in_use_are_not_removed() -> None:
    assert removed_names(10, 30, in_use="a") == (True, "b")
    assert removed_names(10, 30, in_use="abc") == (False, "")


def test_entry_larger_than_the_cache_removes_nothing() -> None:
    assert removed_names(31, 30) == (False, "")


def test_limit_is_read_from_the_environment() -> None:
    assert limit_bytes("LIMIT", {}, 7) == 7
    assert limit_bytes("LIMIT", {"LIMIT": "2GiB"}, 7) == 2 << 30
    assert limit_bytes("LIMIT", {"LIMIT": "0"}, 7) == 0
    with pytest.raises(UsageError, match=r"LIMIT: .*GiB"):
        limit_bytes("LIMIT", {"LIMIT": "much"}, 7)


def test_cache_folder_is_accessible_only_to_its_owner(tmp_path: Path) -> None:
    make_private(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700


def test_folder_writable_by_others_is_not_trusted(tmp_path: Path) -> None:
    tmp_path.chmod(0o770)
    with pytest.raises(PermissionError, match="chmod 700"):
        make_private(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_folder_of_another_user_is_not_trusted(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, -1)
    with pytest.raises(PermissionError, match="another user"):
        make_private(tmp_path)


def test_free_space_of_missing_folder_is_that_of_its_disk(tmp_path: Path) -> None:
    assert free_bytes(tmp_path / "none" / "such") > 0


def make_artifact(place: Path, seed: int = 1) -> Artifact:
    return Artifact("drawn set", place, "mark.json", {"schema": 1, "seed": seed})


def describe_difference(key: str, stored: Mapping[str, Json]) -> str:
    return f"a drawn set of another {key} ({stored[key]})"


def test_artifact_is_created_once_and_reused(tmp_path: Path) -> None:
    artifact = make_artifact(tmp_path / "set")
    assert not artifact.is_complete(["a.txt"], describe_difference)
    with artifact.create_folder({**artifact.identity, "images": 1}) as folder:
        assert not artifact.folder.exists()
        fill(folder, "first")
    assert artifact.is_complete(["a.txt"], describe_difference)
    assert not artifact.is_complete(["a.txt", "b.txt"], describe_difference)
    (artifact.folder / "a.txt").write_text("")  # as after a power cut
    assert not artifact.is_complete(["a.txt"], describe_difference)


def test_failed_artifact_is_absent(tmp_path: Path) -> None:
    message = "cannot write the drawn set .*: full"
    with pytest.raises(DataError, match=message), make_artifact(tmp_path / "set").create_folder({}):
        raise OSError("full")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"": ""}, "is a file. Give a folder for the drawn set"),
        ({"b.txt": "mine"}, "is not an empty folder. Choose another one for the drawn set"),
        (
            {"mark.json": '{"schema": 1, "seed": 2}'},
            r"contains a drawn set of another seed \(2\). Remove it, or choose another folder",
        ),
    ],
)
def test_artifact_with_another_identity_is_rejected(
    tmp_path: Path, content: dict[str, str], message: str
) -> None:
    place = tmp_path / "set"
    for name, text in content.items():
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).write_text(text)
    with pytest.raises(DataError, match=message):
        make_artifact(place).is_complete([], describe_difference)


def test_reason_for_recreation_names_the_difference() -> None:
    stored: dict[str, Json] = {"torch": "2.0", "view": 1, "code": "a" * 64}
    wanted: dict[str, Json] = {"torch": "2.1", "view": 1, "code": "b" * 64}
    assert difference(wanted, stored) == (
        "torch 2.1 instead of 2.0",
        f"code {'b' * 16}… instead of {'a' * 16}…",
    )
    assert difference(stored, stored) == ()


def test_lock_has_one_holder_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with hold_exclusively(path), pytest.raises(BusyError), hold_lock_if_free(path):
        pass
    with hold_lock_if_free(path):
        pass


# --- one process at a time writes a place

WRITER = """
import sys, time
from pathlib import Path
from trueface.runtime.artifact import Artifact

place, begun, go = map(Path, sys.argv[1:])
artifact = Artifact("set", place, "mark.json", {"seed": 1})
with artifact.lock_place(lambda *_: Path(f"{begun}.waits").touch()):
    begun.touch()
    while not go.exists():
        time.sleep(0.01)
    if not artifact.is_complete((), lambda *_: "another set"):
        with artifact.create_folder({"seed": 1}) as folder:
            (folder / "a.txt").write_text(begun.name)
"""


def writer(tmp_path: Path, name: str) -> subprocess.Popen[bytes]:
    words = (tmp_path / "data/set", tmp_path / name, tmp_path / "go")
    return subprocess.Popen([sys.executable, "-c", WRITER, *words])


@pytest.mark.parametrize("killed", [False, True])
def test_process_waits_while_another_writes_the_same_path(tmp_path: Path, killed: bool) -> None:
    """The lock of a killed process is released."""
    first = writer(tmp_path, "first")
    until((tmp_path / "first").exists, "the first one writes")
    second = writer(tmp_path, "second")
    until((tmp_path / "second.waits").exists, "the second one waits")
    assert not (tmp_path / "second").exists()
    if killed:
        first.kill()
        until((tmp_path / "second").exists, "the second one writes")
    (tmp_path / "go").touch()
    assert (first.wait(), second.wait()) == (-signal.SIGKILL if killed else 0, 0)
    made = "second" if killed else "first"
    assert (tmp_path / "data/set/a.txt").read_text() == made
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["set"]


@pytest.mark.parametrize("error", [JobError("stopped"), BrokenPipeError("stopped")])
def test_waiting_for_a_path_can_be_stopped(tmp_path: Path, error: Exception) -> None:
    artifact = Artifact("set", tmp_path / "set", "mark.json", {})

    def stop(*_: int) -> None:
        raise error

    with (
        artifact.lock_place(),
        pytest.raises(type(error), match="stopped"),
        artifact.lock_place(stop),
    ):
        raise AssertionError


@pytest.mark.parametrize("is_readable", [True, False])
def test_waiting_process_logs_the_writer_if_known(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, *, is_readable: bool
) -> None:
    artifact = Artifact("set", tmp_path / "set", "mark.json", {})

    def stop(*_: int) -> None:
        raise JobError("stopped")

    with artifact.lock_place():
        (lock,) = tmp_path.iterdir()
        if not is_readable:
            lock.write_text("")
        with pytest.raises(JobError), artifact.lock_place(stop):
            raise AssertionError
    who = f"process {os.getpid()} on {platform.node()}" if is_readable else "another process"
    assert f"waiting for {who}, which writes {tmp_path}/set" in caplog.text


def test_complete_artifact_is_found_without_lock_support(tmp_path: Path) -> None:
    place = tmp_path / "file" / "set"
    (tmp_path / "file").touch()
    with Artifact("set", place, "mark.json", {}).lock_place():
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
