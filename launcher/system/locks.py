"""Locks on files, which end with the process that holds them."""

import errno
import fcntl
import os
import struct
import time
from pathlib import Path

from launcher.errors import MachineError
from launcher.system.files import open_descriptor

_FLOCK = "hhqqi"  # struct flock of Linux on 64 bits: type, whence, start, length, pid
_HELD = {errno.EACCES, errno.EAGAIN}  # the answers for a lock of another process: fcntl(2)
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
LOCK_TRIES = 100  # for locks that others hold for milliseconds


def lock_file(path: Path) -> int | None:
    """Take the exclusive lock on `path` until the returned descriptor or the process ends.

    A record lock is not inherited by a fork, so a child never keeps its parent's lock alive.
    Returns None when another process holds it. Never open the same path again while holding it:
    closing any descriptor of a file releases the process's locks on it.

    Raises:
        MachineError: the file system has no locks.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if error.errno in _HELD:
            return None
        raise _no_locks_error(path, error) from error
    return descriptor


def mark_in_use(folder: Path) -> int | None:
    """Show to all, in other containers too, that a folder is in use, until we and all forks of us end.

    While it is shown, systemd-tmpfiles deletes nothing in the folder (tmpfiles.d(5), on aging).
    Returns None where the file system has no such locks, or this one is held for long.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    for _ in range(LOCK_TRIES):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:  # another process checks whether it is inhabited, or cleans up
            time.sleep(0.01)
        except OSError:
            break
        else:
            return descriptor
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
