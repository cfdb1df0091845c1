"""Small files that must be whole or absent: written to a temporary name, synced, renamed."""

import contextlib
import errno
import json
import os
import stat
import time
from collections.abc import Callable, Container, Iterator, Mapping
from math import inf
from pathlib import Path
from typing import NamedTuple, TypeVar

DISK_FULL_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT})
ABSENT_ERRORS = frozenset({errno.ENOENT, errno.ENOTDIR})
# a disk or server that does not answer
TIMEOUT_ERRORS = frozenset(
    {
        *(errno.ESTALE, errno.EIO, errno.EREMOTEIO, errno.ETIMEDOUT),
        *(errno.ENOTCONN, errno.EHOSTDOWN, errno.EHOSTUNREACH),
    }
)
PROBE_BYTES = 4096  # a file that cannot grow by one block is on a full disk
LOG_RESERVE_BYTES = 1 << 20  # allocated behind the end of the log of a running program
DISK_FULL_PAUSE_S = 1.0  # seconds before a failed write is tried again
# until a file system that is not mounted counts as gone, and a pilot without folder exits
AWAY_TIMEOUT_S = 60.0

WriteResult = TypeVar("WriteResult")
FileStamp = tuple[int, int]  # size in bytes, modification time in ns; (0, 0) for a folder
PLAIN_FOLDER_STAMP: FileStamp = (0, 0)  # stamp of a folder whose content does not count

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


class FileVersion(NamedTuple):
    """A file as a job left it: two versions with one digest have the same content."""

    size: int  # bytes; those of all files of a folder that a program makes, 0 for other folders
    # modification time; for a folder that a program makes, see `folder_contents.stamp_of`
    changed_ns: int
    digest: str = ""  # digest of the content; "" if unknown

    @property
    def stamp(self) -> FileStamp:
        """Size and time."""
        return self.size, self.changed_ns

    def to_json(self) -> list[int | str]:
        """Return the version as JSON; `read_version` reads it."""
        return [self.size, self.changed_ns, *([self.digest] if self.digest else [])]


def read_version(record: object) -> FileVersion | None:
    """Return the version that a record holds, None if it cannot be understood."""
    match record:
        case [int(size), int(changed_ns)]:
            return FileVersion(size, changed_ns)
        case [int(size), int(changed_ns), str(digest)]:
            return FileVersion(size, changed_ns, digest)
    return None


@contextlib.contextmanager
def open_descriptor(path: Path | str, flags: int, mode: int = 0o777) -> Iterator[int]:
    """Open a file for a block, without the buffers of a file object.

    Raises:
        OSError: it cannot be opened.
    """
    descriptor = os.open(path, flags | os.O_CLOEXEC, mode)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def write_atomic(
    path: Path, content: bytes | str, *, mode: int = 0o644, durable: bool = True
) -> None:
    """Write a file atomically: readers and crashes see the old content or the new one.

    A device or a pipe, such as /dev/null, is written to and never replaced.

    Args:
        path: the file.
        content: all of it.
        mode: mode of a new file.
        durable: synced to the disk. If False, it is faster, for files that are not needed after a power cut.

    Raises:
        OSError: the disk is full or the folder cannot be written; `path` is then untouched.
    """
    # characters that are not valid Unicode, such as a file name's bytes, are escaped as in JSON
    data = content.encode(errors="backslashreplace") if isinstance(content, str) else content
    if _is_stream(path):
        with open_descriptor(path, os.O_WRONLY) as descriptor:
            write_all(descriptor, data)
        return
    folder = os.path.dirname(path) or "."  # noqa: PTH120  # this is done for every attempt; a Path costs 10 µs
    temporary = f"{folder}/.{os.urandom(8).hex()}.tmp"  # short: `path` may use all 255
    try:
        with open_descriptor(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode) as descriptor:
            write_all(descriptor, data)
            if durable:
                os.fsync(descriptor)
        os.replace(temporary, path)  # noqa: PTH105  # as above
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)  # noqa: PTH108  # as above
        if isinstance(error, OSError) and error.filename is None:
            error.filename = os.fspath(path)  # so that the error of a full disk names the file
        raise
    if durable:
        sync(folder)


def _is_stream(path: Path) -> bool:
    """Return whether a path is that of a device or a pipe."""
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116  # as above
    except OSError:
        return False
    return stat.S_ISCHR(mode) or stat.S_ISFIFO(mode)


def write_json(
    path: Path, record: Mapping[str, Json], *, mode: int = 0o644, durable: bool = True
) -> None:
    """Write `record` atomically as one JSON object."""
    text = json.dumps(record, ensure_ascii=False) + "\n"
    write_atomic(path, text, mode=mode, durable=durable)


def write_json_keeping_time(path: Path, record: Mapping[str, Json]) -> None:
    """Write a private record, not synced; the time of its folder stays.

    The time of the folder of an attempt is that of its start.

    Raises:
        OSError: the disk is full, or the folder was deleted.
    """
    folder = path.parent
    status = folder.stat()
    write_json(path, record, mode=0o600, durable=False)
    os.utime(folder, ns=(status.st_atime_ns, status.st_mtime_ns))


def write_whole(path: Path | str, text: str) -> None:
    """Write a private file that no process reads before it is announced; not synced, and not atomic."""
    with open_descriptor(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600) as descriptor:
        write_all(descriptor, text.encode(errors="backslashreplace"))


def append_whole(path: Path | str, data: bytes) -> None:
    """Append to a file that is there, all or nothing; not synced.

    Raises:
        FileNotFoundError: it is not there.
        OSError: the disk is full; the file is as it was.
    """
    with open_descriptor(path, os.O_WRONLY | os.O_APPEND) as descriptor:
        before = os.fstat(descriptor).st_size
        try:
            write_all(descriptor, data)
        except OSError:
            os.ftruncate(descriptor, before)
            raise


def write_all(descriptor: int, data: bytes) -> None:
    """Write all bytes at the current position of a file or a pipe.

    Raises:
        OSError: the disk is full; a part of them may be written.
    """
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def describe_full_disk(folder: Path) -> str:
    """Return that the disk of a folder has no room for a file, as a clause; empty if it has some."""
    try:
        status = os.statvfs(folder)
    except OSError:
        return ""
    if status.f_files and not status.f_favail:
        return f"no more files fit on the disk of {folder} (0 inodes free)"
    return "" if status.f_bavail else f"no space is left on the disk of {folder}"


def is_disk_full(file: Path) -> bool:
    """Return whether a log cannot grow, because its disk or quota is full; its content is not changed.

    Its reserve does not count, and is freed.
    """
    try:
        with open_descriptor(file, os.O_WRONLY) as descriptor:
            size = os.fstat(descriptor).st_size
            try:
                os.posix_fallocate(descriptor, size + LOG_RESERVE_BYTES, PROBE_BYTES)
            except OSError as error:
                return error.errno in DISK_FULL_ERRORS
            finally:
                os.ftruncate(descriptor, size)
    except OSError:
        return False
    return False


def write_when_possible(
    write: Callable[[], WriteResult],
    *,
    is_away: Callable[[], bool],
    is_over: Callable[[], bool],
    transient_errors: Container[int] = DISK_FULL_ERRORS | TIMEOUT_ERRORS,
    warn: Callable[[str], None] = lambda _: None,
) -> WriteResult:
    """Write content that must not be lost: try again while the disk is full, does not answer, or is away.

    Args:
        write: is called until it succeeds; the remains of an earlier call must not make it fail.
        is_away: returns whether the file system is missing. The wait for that ends after `AWAY_TIMEOUT_S`,
            because it may have been deleted.
        is_over: returns whether the content is no longer needed.
        transient_errors: numbers of the errors after which it tries again without a limit.
        warn: called once with the reason of the wait.

    Raises:
        OSError: another error, or it is over, or was away for too long.
    """
    warned, again, away_until = False, False, inf
    while True:
        try:
            return write()
        except OSError as error:
            away, now = is_away(), time.monotonic()
            if error.errno in ABSENT_ERRORS and not away and not again:
                again = True  # the folder may have come back since the error
                continue
            waits = error.errno in transient_errors
            away_until = min(away_until, now + AWAY_TIMEOUT_S) if away and not waits else inf
            if is_over() or now >= away_until or not (away or waits):
                raise
            if not warned:
                warn(error.strerror or str(error))
            warned, again = True, False
            time.sleep(DISK_FULL_PAUSE_S)


def read_json(path: Path | str) -> dict[str, Json] | None:
    """Read a JSON object. Returns None if the file is missing or incomplete."""
    try:
        return read_record(read_bytes(path))
    except (FileNotFoundError, ValueError):  # ValueError: no file can have such a name
        return None


def read_record(text: bytes | str) -> dict[str, Json] | None:
    """Return the JSON object that a text holds, or None if it holds none or was cut off."""
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def read_bytes(path: Path | str) -> bytes:
    """Return the content of a small file, in half the time that a file object takes.

    Raises:
        OSError: there is none, or it cannot be read.
    """
    with open_descriptor(path, os.O_RDONLY) as descriptor:
        return read_all(descriptor)


def read_all(descriptor: int) -> bytes:
    """Return the content of a file or a pipe from its current position on.

    Raises:
        OSError: it cannot be read.
    """
    parts = []
    while part := os.read(descriptor, 1 << 16):
        parts.append(part)
    return b"".join(parts)


def sync(path: Path | str) -> None:
    """Sync the content of a file, or the names in a folder, so that they survive a power cut."""
    with open_descriptor(path, os.O_RDONLY) as descriptor:
        os.fsync(descriptor)


def device_and_inode(path: Path) -> tuple[int, int] | None:
    """Return device and inode of the file or folder at a path; None if there is none."""
    try:
        there = path.stat()
    except OSError:
        return None
    return there.st_dev, there.st_ino


def file_stamp(path: str) -> FileStamp | None:
    """Return a stamp by which a change of the file can be noticed later; None if there is no file."""
    try:
        status = Path(path).stat()
    except (OSError, ValueError):  # ValueError: no file can have such a name
        return None
    return PLAIN_FOLDER_STAMP if Path(path).is_dir() else (status.st_size, status.st_mtime_ns)


def read_file_end(path: Path, most_bytes: int) -> tuple[bytes, float]:
    """Return the last bytes of a file and the time of its last change; b"" where there is none."""
    try:
        with open_descriptor(path, os.O_RDONLY | os.O_NONBLOCK) as descriptor:
            status = os.fstat(descriptor)
            start = max(0, status.st_size - most_bytes)
            return os.pread(descriptor, most_bytes, start), status.st_mtime
    except OSError:
        return b"", 0.0
