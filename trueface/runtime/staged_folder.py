"""New folders that appear whole: filled under another name beside their place, then renamed.

A process that was killed leaves a folder whose name begins with a point, which the next one that
writes to the same place removes; those of processes that run are locked.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SUFFIX = "staged"
_MOST_NAME = 200  # characters of 255; the rest is for the dots, digits and suffix

# of Linux's renameat2
_HERE = -100  # AT_FDCWD: paths start at the working folder
_EXCHANGE = 2  # RENAME_EXCHANGE
# the kernel, the C library or the file system has no such call
_NO_EXCHANGE = frozenset({errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP})


@contextmanager
def staged(place: Path) -> Iterator[Path]:
    """Give a new folder beside `place`; it is removed at the end, unless it was renamed.

    Raises:
        OSError: it cannot be made.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(place)
    folder, held = _locked(place)
    try:
        yield folder
    finally:
        os.close(held)
        shutil.rmtree(folder, ignore_errors=True)


def _locked(place: Path) -> tuple[Path, int]:
    """Make a new folder and lock it; return it with the descriptor that holds the lock."""
    while True:
        name = f".{place.name[:_MOST_NAME]}.{secrets.token_hex(6)}.{SUFFIX}"
        folder = place.parent / name
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


def put_in_place(new: Path, place: Path) -> None:
    """Rename a folder to `place`; a folder that is there goes away, at no moment is there none.

    Where the file system cannot exchange two names, there is none for a moment.

    Raises:
        OSError: it cannot be renamed; what was there is still there.
    """
    if not place.exists():
        new.rename(place)
    elif not _exchanged(new, place):
        old = new.with_name(f"{new.name}.old")
        place.rename(old)
        try:
            new.rename(place)
        except OSError:
            old.rename(place)
            raise
        shutil.rmtree(old, ignore_errors=True)
    _sync(place.parent)


def _exchanged(first: Path, second: Path) -> bool:
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


def _remove_stale(place: Path) -> None:
    """Remove what killed processes left beside the same place."""
    for folder in place.parent.glob(f".{_escaped(place.name[:_MOST_NAME])}.*.{SUFFIX}"):
        with contextlib.suppress(OSError):
            held = os.open(folder, os.O_RDONLY)
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(held)


def _escaped(name: str) -> str:
    return "".join(f"[{character}]" if character in "*?[" else character for character in name)
