"""Files that are complete or absent, their digests, and the end of a sleep."""

import errno
import os
import resource
import signal
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.provenance.file_digests import (
    CHUNK_BYTES,
    LARGE_BYTES,
    MISSING_DIGEST,
    CacheFile,
    FileDigests,
)
from launcher.queue.home.paths import Home
from launcher.system import files
from launcher.system.files import (
    FileVersion,
    append_whole,
    file_stamp,
    read_json,
    write_atomic,
    write_json,
    write_when_possible,
    write_whole,
)
from launcher.system.wakeup_pipe import WakeupPipe
from tests.build import DEADLINE_S


def test_reader_sees_only_the_old_or_the_new_record(tmp_path: Path) -> None:
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


def test_full_disk_keeps_the_old_record_and_no_other_file(tmp_path: Path) -> None:
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


def test_name_may_be_as_long_as_the_file_system_allows(tmp_path: Path) -> None:
    path = tmp_path / ("ж" * 127)
    write_atomic(path, "whole")
    assert path.read_text() == "whole"


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_atomic(pipe, "whole")
    assert os.read(reader, 100) == b"whole"
    os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert [*tmp_path.iterdir()] == [pipe]


def test_record_is_private_on_request(tmp_path: Path) -> None:
    write_json(tmp_path / "record", {"schema": 1}, mode=0o600)
    assert stat.S_IMODE((tmp_path / "record").stat().st_mode) == 0o600


def test_invalid_unicode_survives_a_round_trip(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    write_json(tmp_path / "record", {"image": name, "ok": "café"})
    assert read_json(tmp_path / "record") == {"image": name, "ok": "café"}


@pytest.mark.parametrize("content", ["", '{"a": 1', "[1]", "null", "\x00\x00\x00", b"\xff\xfe{"])
def test_truncated_or_invalid_record_counts_as_absent(tmp_path: Path, content: str | bytes) -> None:
    write_atomic(tmp_path / "record", content)
    assert read_json(tmp_path / "record") is None


def test_missing_record_is_absent(tmp_path: Path) -> None:
    assert read_json(tmp_path / "record") is None


def test_all_bytes_are_written_even_if_the_kernel_takes_only_a_part_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:7]))
    content = "0123456789" * 10
    write_atomic(tmp_path / "atomic", content)
    write_whole(tmp_path / "whole", content)
    append_whole(tmp_path / "whole", content.encode())
    assert (tmp_path / "atomic").read_text() == content
    assert (tmp_path / "whole").read_text() == 2 * content


def test_stamp_changes_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    assert file_stamp(str(path)) is None
    assert file_stamp("a name\0of no file") is None
    path.write_text("one")
    first = file_stamp(str(path))
    assert first == file_stamp(str(path))
    path.write_text("other")
    assert file_stamp(str(path)) != first


def test_stamp_of_a_folder_does_not_depend_on_its_content(tmp_path: Path) -> None:
    before = file_stamp(str(tmp_path))
    (tmp_path / "new").touch()
    assert file_stamp(str(tmp_path)) == before is not None


class Disk:
    """A disk that returns the given errors, then accepts all writes."""

    def __init__(self, *answers: tuple[int, bool]) -> None:
        self.answers = list(answers)  # the number of an error, and whether the disk is away then
        self.away, self.tries = False, 0
        self.warnings: list[str] = []

    def write(self) -> str:
        self.tries += 1
        if self.answers:
            number, self.away = self.answers.pop(0)
            raise OSError(number, os.strerror(number))
        return "written"

    def take(self, *, over_after: int = 1000) -> str:
        return write_when_possible(
            self.write,
            is_away=lambda: self.away,
            is_over=lambda: self.tries >= over_after,
            warn=self.warnings.append,
        )


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "DISK_FULL_PAUSE_S", 0.0)


@pytest.mark.parametrize(
    "answers",
    [
        [(errno.ENOSPC, False), (errno.EDQUOT, False), (errno.EIO, False)],
        [(errno.ENOENT, True), (errno.EACCES, True)],  # below an empty mount point
        [(errno.ESTALE, True), (errno.ENOENT, False)],  # it came back between error and look
        [(errno.ENOENT, True), (errno.ENOENT, False), (errno.ENOSPC, False), (errno.ENOENT, False)],
    ],
)
def test_retry_waits_until_the_disk_accepts_the_write(
    hurried: None, answers: list[tuple[int, bool]]
) -> None:
    disk = Disk(*answers)
    assert disk.take() == "written"
    assert disk.warnings == [os.strerror(answers[0][0])]


@pytest.mark.parametrize(
    ("answers", "tries"),
    [
        ([(errno.EACCES, False)], 1),
        ([(errno.ENOENT, False), (errno.ENOENT, False)], 2),  # its own program deleted the folder
        ([(errno.ENOSPC, False), (errno.EROFS, False)], 2),
    ],
)
def test_permanent_error_is_raised(
    hurried: None, answers: list[tuple[int, bool]], tries: int
) -> None:
    disk = Disk(*answers)
    with pytest.raises(OSError, match=r"\["):
        disk.take()
    assert disk.tries == tries


def test_retry_ends_once_the_write_is_not_needed(hurried: None) -> None:
    disk = Disk(*[(errno.ENOSPC, False)] * 9)
    with pytest.raises(OSError, match="No space left"):
        disk.take(over_after=3)
    assert disk.tries == 3


def test_disk_that_stays_away_counts_as_deleted(
    hurried: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "AWAY_TIMEOUT_S", 0.0)
    with pytest.raises(FileNotFoundError):
        Disk((errno.ENOENT, True)).take()
    assert Disk(*[(errno.ESTALE, True)] * 3).take() == "written"  # it does not answer: it is there


# --- file digests


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
        (
            lambda path: rewritten(path, 0),
            False,
        ),  # the stamp is the same, so the change is not detectable
        (lambda path: rewritten(path, 1), True),
        (lambda path: rewritten(path, -1), True),
        (lambda path: rewritten(path, 0, "bb"), True),
        (replaced, True),
    ],
)
def test_digest_is_cached_by_size_time_and_inode(
    tmp_path: Path, change: object, is_seen: bool
) -> None:
    path, digests = a_file(tmp_path), FileDigests()
    before = digests.digest_file(path)
    assert callable(change)
    change(path)
    assert (digests.digest_file(path) != before) is is_seen


def test_digest_of_a_recently_changed_file_is_not_cached(tmp_path: Path) -> None:
    path, digests = a_file(tmp_path, changed_ns=time.time_ns() + 10**9), FileDigests()
    before = digests.digest_file(path)
    rewritten(path, 0)
    assert digests.digest_file(path) != before


@pytest.mark.parametrize(("size", "is_kept"), [(1, False), (LARGE_BYTES, True)])
def test_digests_of_large_files_outlive_the_process(
    tmp_path: Path, size: int, is_kept: bool
) -> None:
    path, kept = a_file(tmp_path, size=size), tmp_path / "digests.json"
    digests = FileDigests(kept)
    before = digests.digest_file(path)
    digests.save()
    rewritten(path, 0)
    assert (FileDigests(kept).digest_file(path) == before) is is_kept


@pytest.mark.parametrize("damage", ["", "[]", '{"schema":3,"files":{"PATH":[1]}}', "\0"])
def test_damaged_cache_is_ignored(tmp_path: Path, damage: str) -> None:
    path, kept = a_file(tmp_path, size=LARGE_BYTES), tmp_path / "digests.json"
    before = FileDigests().digest_file(path)
    kept.write_text(damage.replace("PATH", str(path)))
    assert FileDigests(kept).digest_file(path) == before


def test_concurrent_saves_keep_the_entries_of_all_processes(tmp_path: Path) -> None:
    kept = tmp_path / "kept.json"
    first, second = (CacheFile(kept, {"part": 2}) for _ in range(2))
    for each, key in ((first, "a"), (second, "b"), (first, "c")):
        each.get("part", key, str)
        each.add("part", key, key)
    first.save()
    second.save()
    third = CacheFile(kept, {"part": 2})
    assert [third.get("part", key, str) for key in "abc"] == [None, "b", "c"]  # the newest two


def test_no_folder_is_created_for_a_cache(tmp_path: Path) -> None:
    path = a_file(tmp_path, size=LARGE_BYTES)
    digests = FileDigests(tmp_path / "absent" / "digests.json")
    digests.digest_file(path)
    digests.save()
    assert not (tmp_path / "absent").exists()


def test_non_file_has_no_digest(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in ("absent", "pipe", ".", "a\0b", "x" * 5000):
        assert FileDigests().digest_or_missing(f"{tmp_path}/{path}") == MISSING_DIGEST


def test_file_too_large_to_read_is_identified_by_its_stamp(tmp_path: Path) -> None:
    path, digests = a_file(tmp_path, size=10), FileDigests()
    before = digests.digest_or_missing(str(path), 9)
    rewritten(path, 0)
    assert digests.digest_or_missing(str(path), 9) == before
    rewritten(path, 1)
    assert digests.digest_or_missing(str(path), 9) != before
    assert digests.digest_or_missing(str(path), 10) == digests.digest_file(path)


def test_file_that_changes_during_reading_has_no_digest(tmp_path: Path) -> None:
    path = a_file(tmp_path, size=CHUNK_BYTES + 1)
    seen: list[tuple[str, int, int]] = []

    def change(name: str, read: int, size: int) -> None:
        seen.append((name, read, size))
        if len(seen) == 1:
            rewritten(path, 10**9)

    version = FileDigests(on_progress=change).read_file_version(str(path))
    assert version == FileVersion(*(file_stamp(str(path)) or (0, 0)))
    assert seen[0] == (str(path), CHUNK_BYTES, CHUNK_BYTES + 1)
    again = FileDigests(on_progress=change).read_file_version(str(path))
    assert again is not None
    assert again.digest == FileDigests().digest_file(path)


def test_non_file_has_a_version_without_a_digest_or_none(tmp_path: Path) -> None:
    path = a_file(tmp_path)
    (tmp_path / "link").symlink_to(path)
    (tmp_path / "dangling").symlink_to("nowhere")
    versions = {
        name: FileDigests().read_file_version(f"{tmp_path}/{name}") for name in ("link", "dangling")
    }
    assert versions == {"link": FileDigests().read_file_version(str(path)), "dangling": None}
    assert FileDigests().read_file_version(str(tmp_path)) == FileVersion(0, 0)


# --- A scheduler's sleep, and its end


NUMBER = signal.SIGUSR1


@pytest.fixture(params=[True, False], ids=["named", "unnamed"])
def sleeper(home: Home, request: pytest.FixtureRequest) -> Iterator[WakeupPipe]:
    """Return a sleeper that a signal wakes. The handler of the signal does nothing."""
    sleeper = WakeupPipe(home.wake_pipe if request.param else None)
    before = signal.signal(NUMBER, lambda *_: None), signal.set_wakeup_fd(-1)
    sleeper.wake_on_signals()
    yield sleeper
    signal.set_wakeup_fd(before[1])
    signal.signal(NUMBER, before[0])


def test_signal_before_the_call_ends_the_sleep(sleeper: WakeupPipe) -> None:
    # as one that comes just before a sleep begins, it interrupts nothing: another thread gets it
    thread = threading.Thread(target=lambda: signal.pthread_kill(threading.get_ident(), NUMBER))
    thread.start()
    sleeper.poll_until((), DEADLINE_S)
    thread.join()
    assert sleeper.ready_descriptors, "only the time ended it"
