"""One process computes a view's features while the others wait and then read.

The lock is the kernel's (flock): it falls with the process that holds it, however that ends. Its file
says who holds it and how far that process is; its mtime is when the view was last used.
"""

import contextlib
import errno
import fcntl
import json
import logging
import os
import platform
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

ENDING = ".lock"
POLL_S = 0.1
LOG_EVERY_S = 10.0

log = logging.getLogger(__name__)


def path_of(root: Path, stem: str) -> Path:
    """Return the path of a view's lock."""
    return root / f"{stem}{ENDING}"


class StoppedError(Exception):
    """The work shall end; nothing of it is lost."""


class BusyError(Exception):
    """Another process holds the lock."""


class Note(NamedTuple):
    """Who holds a lock, and how far that process is."""

    pid: int = 0
    host: str = "?"
    done: int = 0  # images
    total: int = 0


class CreationLock:
    """The exclusive right to write shards of one view; made by `held`."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def report(self, done: int, total: int) -> None:
        """Say to those who wait how many images are done."""
        note = Note(os.getpid(), platform.node(), done, total)._asdict()
        with contextlib.suppress(OSError):  # on a full disk, they wait without it
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, json.dumps(note).encode(), 0)


@contextlib.contextmanager
def held(
    path: Path, stop: threading.Event, progress: Callable[[int, int], None]
) -> Iterator[CreationLock]:
    """Hold the lock of a view, once whoever holds it has ended.

    Args:
        path: of the lock.
        stop: ends the waiting.
        progress: called now and then with how many images of how many the other process has done.

    Raises:
        StoppedError: `stop` was set while another process held it.
        OSError: the folder cannot be written, or its file system has no locks.
    """
    with _holding(_waited(path, stop, progress)) as lock:
        yield lock


@contextlib.contextmanager
def held_at_once(path: Path) -> Iterator[CreationLock]:
    """Hold the lock of a view if no process holds it.

    Raises:
        BusyError: another process holds it.
        OSError: see `held`.
    """
    descriptor = _taken(path)
    if descriptor is None:
        raise BusyError(str(path))
    with _holding(descriptor) as lock:
        yield lock


@contextlib.contextmanager
def _holding(descriptor: int) -> Iterator[CreationLock]:
    try:
        lock = CreationLock(descriptor)
        lock.report(0, 0)
        yield lock
    finally:
        # loading processes that were forked meanwhile have it, too: closing alone would leave it held
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def _waited(path: Path, stop: threading.Event, progress: Callable[[int, int], None]) -> int:
    logged_at = -LOG_EVERY_S
    while (descriptor := _taken(path)) is None:
        note = _note(path)
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


def _taken(path: Path) -> int | None:
    """Return the descriptor of a lock that is held from now on; None: another process holds it."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if error.errno in {errno.EWOULDBLOCK, errno.EACCES}:
                return None
            raise
        if _lies_at(descriptor, path):
            return descriptor
        os.close(descriptor)  # it was removed, with the view, before it was taken


def _lies_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _note(path: Path) -> Note:
    try:
        return Note(**json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):  # it is being written
        return Note()
