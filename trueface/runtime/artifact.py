"""Artifacts that are created once and reused: identity, path, lock and size limit of the cache.

An artifact is complete or absent. It records its `identity`, so that a reader that finds another artifact
at the same path can report the difference. The process that creates an artifact holds its lock or fills a
folder under another name; other processes wait for it. Entries of the cache can be created again: if a
cache folder is missing, full or not trusted, work continues without it. An adapter of each kind writes
the bytes.

Start reading at `Artifact` for folders, or at `hold_lock` for files that several processes create.
"""

import contextlib
import ctypes
import errno
import fcntl
import json
import logging
import os
import platform
import secrets
import shutil
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import platformdirs

from trueface.runtime.errors import DataError, UsageError
from trueface.runtime.files import Json, parse_bytes, read_json, write_json

CACHE = "TRUEFACE_CACHE"  # environment variable: another folder than the user's cache
LOCK = ".lock"
RACY_NS = 2_000_000_000  # the coarsest clock of a file system, FAT's, has ticks of two seconds
POLL_S = 0.1
LOG_EVERY_S = 10.0

SUFFIX = "staged"
_MOST_NAME = 200  # characters of 255; the rest is for the dots, digits and suffix

# constants of Linux's renameat2
_HERE = -100  # AT_FDCWD: paths start at the working folder
_EXCHANGE = 2  # RENAME_EXCHANGE
# the kernel, the C library or the file system has no such call
_NO_EXCHANGE = frozenset({errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP})

log = logging.getLogger(__name__)


class Artifact(NamedTuple):
    """A folder that is made once of what its mark says, and found again by it.

    Another artifact at the same path is rejected, never replaced: it may be a user's work.
    """

    kind: str  # in messages: "drawn set"
    folder: Path
    mark: str  # name of the file in it that records its identity
    identity: Mapping[str, Json]

    def is_complete(
        self, files: Iterable[str], other: Callable[[str, Mapping[str, Json]], str]
    ) -> bool:
        """Return whether the artifact exists with all its files. Reject another artifact at its path.

        Args:
            files: below the place; none may be empty, as after a power cut.
            other: from the first key that differs, and the stored mark, to "holds … of other …".

        Raises:
            DataError: the place is a file, a foreign folder, or holds an artifact of another identity.
        """
        stored = self.read_mark(self.mark)
        if stored is None:
            self.refuse_foreign()
            return False
        self.refuse_other(stored, other)
        return all(_is_whole(self.folder / file) for file in files)

    def read_mark(self, mark: str) -> Mapping[str, Json] | None:
        """Return the content of the mark at the path, or None if there is no mark.

        Raises:
            DataError: the place is a file.
        """
        if not self.folder.exists():
            return None
        if not self.folder.is_dir():
            raise DataError(f"{self.folder} is a file. Give a folder for the {self.kind}.")
        return read_json(self.folder / mark)

    def refuse_foreign(self) -> None:
        """Refuse a folder that holds something without a mark.

        Raises:
            DataError: it does.
        """
        if self.folder.exists() and any(self.folder.iterdir()):
            raise DataError(
                f"{self.folder} is not an empty folder. Choose another one for the {self.kind}."
            )

    def refuse_other(
        self, stored_identity: Mapping[str, Json], other: Callable[[str, Mapping[str, Json]], str]
    ) -> None:
        """Refuse an artifact of another identity; see `is_complete`.

        Raises:
            DataError: it is of another one.
        """
        for key, value in self.identity.items():
            if stored_identity.get(key) != value:
                raise DataError(
                    f"{self.folder} contains {other(key, stored_identity)}. Remove it, or choose another folder."
                )

    @contextmanager
    def lock_place(self, waiting: Callable[[int, int], None] | None = None) -> Iterator[None]:
        """Hold the place; wait while another process of this machine holds it.

        No lock is held if none can be created next to the path, as on a disk that is read-only or has no locks.

        Args:
            waiting: called with 0 and 0 while another process holds the place. An exception of it ends the waiting.
        """
        path = self.folder.with_name(f".{self.folder.name[:_MOST_NAME]}{LOCK}")
        descriptor = _wait_for_place(path, self.folder, waiting or (lambda *_: None))
        if descriptor is None:
            yield
            return
        with _holding(descriptor):
            try:
                yield
            finally:
                with contextlib.suppress(OSError):
                    path.unlink()

    @contextmanager
    def create_folder(self, facts: dict[str, Json]) -> Iterator[Path]:
        """Yield a folder to fill; afterwards write its mark and rename it to the final path.

        Args:
            facts: content of the mark: the identity and facts of the artifact.

        Raises:
            DataError: it cannot be written.
        """
        try:
            with staging_folder(self.folder) as folder:
                yield folder
                write_json(folder / self.mark, facts)
                os.sync()  # one call for all files: a renamed folder is complete, even after a power cut
                replace_folder(folder, self.folder)
        except OSError as error:
            raise DataError(f"cannot write the {self.kind} {self.folder}: {error}") from error


def _wait_for_place(path: Path, target: Path, waiting: Callable[[int, int], None]) -> int | None:
    """Return the descriptor of the lock of a place, once no other process holds it.

    None if no lock can be made there. An exception of `waiting` is never one of the lock.
    """
    logged_at = -LOG_EVERY_S
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = _acquire_lock(path, is_shared=True)
        except OSError:
            return None
        if descriptor is not None:
            return descriptor
        if time.monotonic() - logged_at > LOG_EVERY_S:
            logged_at, note = time.monotonic(), _read_holder(path)
            who = f"process {note.pid} on {note.host}" if note.pid else "another process"
            log.warning("waiting for %s, which writes %s", who, target)
        waiting(0, 0)
        time.sleep(POLL_S)


def difference(
    requested_identity: Mapping[str, Json], stored_identity: Mapping[str, Json]
) -> tuple[str, ...]:
    """Return why something is made again, in the words of each part: "torch 2.1 instead of 2.0".

    Args:
        requested_identity: identity of the requested artifact.
        stored_identity: identity of the existing artifact.
    """
    return tuple(
        f"{key} {_shorten_json(value)} instead of {_shorten_json(stored_identity.get(key))}"
        for key, value in requested_identity.items()
        if value != stored_identity.get(key)
    )


def _shorten_json(value: Json) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 40 else f"{text[:16]}…"


def _is_whole(file: Path) -> bool:
    try:
        return file.stat().st_size > 0
    except OSError:
        return False


class FileMark(NamedTuple):
    """A file's status. While it is unchanged, the content is unchanged, unless it is `is_racy`."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int  # cannot be set back, unlike the mtime

    @classmethod
    def from_path(cls, path: str | Path) -> "FileMark":
        """Return the status of a file, links followed.

        Raises:
            OSError: there is none, or it is a pipe or a device.
        """
        status = os.stat(path)  # noqa: PTH116  # of 200,000 files, without a path of each
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        return cls(
            status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
        )

    def is_racy(self, now_ns: int) -> bool:
        """Return whether a change could leave the same status, as of `now_ns`."""
        return max(self.mtime_ns, self.ctime_ns) + RACY_NS > now_ns


@contextmanager
def staging_folder(target: Path) -> Iterator[Path]:
    """Yield a new folder next to `target`. It is removed at the end, unless it was renamed.

    A killed process leaves a folder whose name begins with a dot. The next process that writes to the same
    path removes it. Folders of running processes are locked and stay.

    Raises:
        OSError: it cannot be made.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(target)
    folder, held = _make_locked_folder(target)
    try:
        yield folder
    finally:
        os.close(held)
        shutil.rmtree(folder, ignore_errors=True)


def _make_locked_folder(target: Path) -> tuple[Path, int]:
    """Make a new folder and lock it; return it with the descriptor that holds the lock."""
    while True:
        name = f".{target.name[:_MOST_NAME]}.{secrets.token_hex(6)}.{SUFFIX}"
        folder = target.parent / name
        folder.mkdir()
        held = -1
        # before it is locked, another process may take it for stale: then once more
        with contextlib.suppress(FileNotFoundError, BlockingIOError):
            held = os.open(folder, os.O_RDONLY)
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if folder.is_dir():
                return folder, held
        if held >= 0:
            os.close(held)


def replace_folder(new_folder: Path, target: Path) -> None:
    """Rename a folder to `target`; a folder that is there goes away, at no moment is there none.

    Where the file system cannot exchange two names, there is none for a moment.

    Raises:
        OSError: it cannot be renamed. The old folder is still in place.
    """
    if not target.exists():
        new_folder.rename(target)
    elif not _exchange_names(new_folder, target):
        old = new_folder.with_name(f"{new_folder.name}.old")
        target.rename(old)
        try:
            new_folder.rename(target)
        except OSError:
            old.rename(target)
            raise
        shutil.rmtree(old, ignore_errors=True)
    _sync(target.parent)


def _exchange_names(first: Path, second: Path) -> bool:
    """Exchange two names in one step; return False where that cannot be done here."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:  # glibc before 2.28
        return False
    paths = os.fsencode(first), os.fsencode(second)
    if renameat2(_HERE, paths[0], _HERE, paths[1], _EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _NO_EXCHANGE:
        return False
    raise OSError(number, os.strerror(number), str(second))


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_stale(target: Path) -> None:
    """Remove the staging folders of killed processes for the same path."""
    for folder in target.parent.glob(f".{_escape_glob(target.name[:_MOST_NAME])}.*.{SUFFIX}"):
        with contextlib.suppress(OSError):
            held = os.open(folder, os.O_RDONLY)
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(held)


def _escape_glob(name: str) -> str:
    return "".join(f"[{character}]" if character in "*?[" else character for character in name)


class StoppedError(Exception):
    """The work is to stop; nothing of it is lost."""


class BusyError(Exception):
    """Another process holds the lock."""


class LockHolder(NamedTuple):
    """The process that holds a lock, and its progress."""

    pid: int = 0
    host: str = "?"
    done: int = 0  # images, or other parts
    total: int = 0


class CreationLock:
    """The exclusive right to make one thing; made by `hold_lock`.

    The lock is the kernel's (flock): it falls with the process that holds it, however that ends. Its
    file says who holds it and how far that process is; its mtime is when the thing was last used.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def report(self, count: int, total: int) -> None:
        """Say to those who wait how many images are done."""
        note = LockHolder(os.getpid(), platform.node(), count, total)._asdict()
        with contextlib.suppress(OSError):  # on a full disk, they wait without it
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, json.dumps(note).encode(), 0)


@contextmanager
def hold_lock(
    path: Path, stop: threading.Event, progress: Callable[[int, int], None]
) -> Iterator[CreationLock]:
    """Hold a lock as soon as its current holder has ended.

    Args:
        path: of the lock.
        stop: ends the waiting.
        progress: called now and then with how many images of how many the other process has done.

    Raises:
        StoppedError: `stop` was set while another process held it.
        OSError: the folder cannot be written, or its file system has no locks.
    """
    with _holding(_wait_for_lock(path, stop, progress)) as lock:
        yield lock


@contextmanager
def hold_lock_if_free(path: Path) -> Iterator[CreationLock]:
    """Hold a lock if no process holds it.

    Raises:
        BusyError: another process holds it.
        OSError: see `hold_lock`.
    """
    descriptor = _acquire_lock(path)
    if descriptor is None:
        raise BusyError(str(path))
    with _holding(descriptor) as lock:
        yield lock


@contextmanager
def hold_exclusively(path: Path) -> Iterator[None]:
    """Hold a lock for a short time. Waits for its current holder.

    Raises:
        OSError: see `hold_lock`.
    """
    descriptor = _acquire_lock(path, waits=True)
    assert descriptor is not None  # it was waited for
    with _holding(descriptor):
        yield


@contextmanager
def _holding(descriptor: int) -> Iterator[CreationLock]:
    try:
        lock = CreationLock(descriptor)
        lock.report(0, 0)
        yield lock
    finally:
        # loading processes that were forked meanwhile have it, too: closing alone would leave it held
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def _wait_for_lock(path: Path, stop: threading.Event, progress: Callable[[int, int], None]) -> int:
    logged_at = -LOG_EVERY_S
    while (descriptor := _acquire_lock(path)) is None:
        note = _read_holder(path)
        if note.total:
            progress(note.done, note.total)
        if time.monotonic() - logged_at > LOG_EVERY_S:
            logged_at = time.monotonic()
            log.info(
                "state=waiting for features that another process computes pid=%d host=%s "
                "images=%d of=%d",
                note.pid, note.host, note.done, note.total,
            )  # fmt: skip
        if stop.wait(POLL_S):
            raise StoppedError(str(path))
    return descriptor


def _acquire_lock(path: Path, *, waits: bool = False, is_shared: bool = False) -> int | None:
    """Acquire a lock and return its descriptor, or None if another process holds it."""
    while True:
        descriptor = _opened_lock(path, is_shared=is_shared)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
        except OSError as error:
            os.close(descriptor)
            if error.errno in {errno.EWOULDBLOCK, errno.EACCES}:
                return None
            raise
        if _lies_at(descriptor, path):
            return descriptor
        os.close(
            descriptor
        )  # the lock file was removed with its artifact before this process acquired it


def _opened_lock(path: Path, *, is_shared: bool) -> int:
    """Open a lock file and create it if needed. A lock file of another user may be read-only."""
    mode = 0o666 if is_shared else 0o600
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, mode)
    except PermissionError:
        if not is_shared:
            raise
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def _lies_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _read_holder(path: Path) -> LockHolder:
    try:
        return LockHolder(**json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):  # it is being written
        return LockHolder()


class CacheEntry(NamedTuple):
    """A file or folder in a cache that is removed as a unit."""

    path: Path
    used_at: float  # s since the epoch
    bytes: int
    files: int = 1


def cache_folder() -> Path | None:
    """Return the cache folder of the lab, or None if there is no home folder."""
    if given := os.environ.get(CACHE):
        return Path(given).absolute()
    folder = platformdirs.user_cache_path("trueface", appauthor=False)
    return folder if folder.is_absolute() else None


def make_private(folder: Path) -> None:
    """Create a folder that only its owner can write, if it does not exist yet.

    Raises:
        PermissionError: another user owns it or can write to it, and so could change its content.
        OSError: it cannot be made.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.stat()
    if status.st_uid != os.geteuid():
        raise PermissionError(f"{folder} belongs to another user (uid {status.st_uid})")
    if status.st_mode & 0o022:
        raise PermissionError(f"{folder} can be written by other users: chmod 700 {folder}")


def limit_bytes(variable: str, environ: Mapping[str, str], default: int) -> int:
    """Return the size limit of a cache in bytes, from an environment variable such as 20GiB.

    Raises:
        UsageError: the value is not an amount of memory.
    """
    text = environ.get(variable, "")
    if not text:
        return default
    try:
        return int(parse_bytes(text))
    except UsageError as error:
        raise UsageError(f"{variable}: {error}") from error


def free_bytes(folder: Path) -> int:
    """Return the free bytes of a folder's disk, or 0 if unknown. The folder need not exist."""
    with contextlib.suppress(OSError):
        there = next(target for target in (folder, *folder.parents) if target.exists())
        return shutil.disk_usage(there).free
    return 0


def make_room(
    entries: Iterable[CacheEntry], need: int, limit: int, remove: Callable[[CacheEntry], bool]
) -> bool:
    """Remove the least recently used entries until `need` more bytes fit into the limit.

    Args:
        entries: all that the cache holds.
        need: bytes that are to be added.
        limit: bytes that it may hold.
        remove: removes an entry; returns False if the entry is in use and stays.

    Returns:
        Whether they fit. Nothing is removed if they cannot fit at all.
    """
    if need > limit:
        return False
    oldest_first = sorted(entries, key=lambda entry: entry.used_at)
    total = sum(entry.bytes for entry in oldest_first)
    for entry in oldest_first:
        if total + need <= limit:
            break
        if remove(entry):
            total -= entry.bytes
    return total + need <= limit
