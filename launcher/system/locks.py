"""Locks on files, which end with the process that holds them."""

import errno
import fcntl
import os
import struct
from pathlib import Path

from launcher.system.errors import MachineError
from launcher.system.files import open_descriptor
from launcher.system.waiting import wait_until

_FLOCK = "hhqqi"  # struct flock of Linux on 64 bits: type, whence, start, length, pid
_HELD = {errno.EACCES, errno.EAGAIN}  # the answers for a lock of another process: fcntl(2)
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
SHORT_LOCK_S = 1.0  # longest time for locks that others hold for milliseconds
LOCK_POLL_S = 0.01


def lock_file(path: Path, wait_s: float = 0.0) -> int | None:
    """Take the exclusive lock on `path` until the returned descriptor or the process ends.

    A record lock is not inherited by a fork, so a child never keeps its parent's lock alive.
    Returns None when another process holds it for longer than `wait_s`. Never open the same path again while holding it:
    closing any descriptor of a file releases the process's locks on it.

    Raises:
        MachineError: the file system has no locks.
    """

    def lock() -> int | None:  # opened each time, because the file may be deleted meanwhile
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if lock_descriptor(descriptor):
                return descriptor
        except OSError as error:
            os.close(descriptor)
            raise _no_locks_error(path, error) from error
        os.close(descriptor)
        return None

    return wait_until(lock, wait_s, LOCK_POLL_S)


def lock_descriptor(descriptor: int) -> bool:
    """Take the exclusive lock on an open file, as `lock_file` does; return False if another process holds it.

    Raises:
        OSError: the file system has no locks.
    """
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD:
            return False
        raise
    return True


def mark_in_use(folder: Path) -> int | None:
    """Show to all, in other containers too, that a folder is in use, until we and all forks of us end.

    While it is shown, systemd-tmpfiles deletes nothing in the folder (tmpfiles.d(5), on aging).
    Returns None if the file system has no such locks, or this one is held for long.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None

    def mark() -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:  # another process checks whether the folder is in use, or cleans up
            return False
        return True

    try:
        if wait_until(mark, SHORT_LOCK_S, LOCK_POLL_S):
            return descriptor
    except OSError:  # no locks
        pass
    os.close(descriptor)
    return None


def is_in_use(folder: Path) -> bool:
    """Return whether a process holds a folder by `mark_in_use`; such a process may not call this."""
    try:
        with open_descriptor(folder, os.O_RDONLY | os.O_DIRECTORY) as descriptor:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return isinstance(error, BlockingIOError)
    return False


def lock_holder(path: Path) -> int | None:
    """Return the pid that holds the lock on `path`, without touching the lock.

    Raises:
        MachineError: the file system has no locks.
    """
    asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    try:
        with open_descriptor(path, os.O_RDONLY) as descriptor:
            answer = fcntl.fcntl(descriptor, fcntl.F_GETLK, asked)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in _NO_LOCKS:
            raise _no_locks_error(path, error) from error
        raise
    kind, _, _, _, pid = struct.unpack(_FLOCK, answer)
    return None if kind == fcntl.F_UNLCK else pid


def _no_locks_error(path: Path, error: OSError) -> MachineError:
    return MachineError(
        f"cannot lock {path}: {error.strerror}. Its file system does not support file locks. "
        "Set LAUNCHER_HOME to a folder on a local disk."
    )
