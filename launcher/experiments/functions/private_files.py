"""Files that only their owner can have written."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from launcher.system.errors import MachineError
from launcher.system.files import sync

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a named pipe must not block
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


@contextmanager
def write_private(path: Path) -> Iterator[BinaryIO]:
    """Yield a new file to write, which is synced at the end. It is removed if the writing fails.

    Nobody reads it before its job is queued, or is done: it needs no rename, which costs one more sync.

    Raises:
        FileExistsError: there is one of this name.
        OSError: the disk is full, or the folder cannot be written.
    """
    descriptor = os.open(path, _NEW, 0o600)
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123  # a descriptor, not a path
            yield file
            file.flush()
            os.fsync(descriptor)
        sync(path.parent)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


@contextmanager
def open_private(path: Path) -> Iterator[BinaryIO]:
    """Open a file that only its owner can have written, in a folder with the same property.

    Raises:
        MachineError: it is another user's, or others may write it or its folder.
        FileNotFoundError: the file does not exist.
        OSError: it cannot be read.
    """
    folder = os.open(path.parent, _FOLDER)
    try:
        _refuse_shared(os.fstat(folder), path.parent)
        descriptor = os.open(path.name, _FILE, dir_fd=folder)
    finally:
        os.close(folder)
    with open(descriptor, "rb") as file:  # noqa: PTH123  # likewise
        there = os.fstat(descriptor)
        if not stat.S_ISREG(there.st_mode):
            raise MachineError(f"{path} is not a regular file")
        _refuse_shared(there, path)
        yield file


def make_private_folder(folder: Path) -> None:
    """Make a folder for such files, unless it is there.

    Raises:
        MachineError: it is another user's, or others may write it.
        OSError: it cannot be made.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _refuse_shared(folder.stat(), folder)


def _refuse_shared(file_stat: os.stat_result, path: Path) -> None:
    if file_stat.st_uid != os.geteuid():
        raise MachineError(
            f"{path} belongs to user {file_stat.st_uid}. A pickle of another user is not loaded, because it "
            "could run code as you."
        )
    if file_stat.st_mode & _OTHERS_WRITE:
        raise MachineError(
            f"other users may write {path} (mode {stat.S_IMODE(file_stat.st_mode):o}), so its pickle is not "
            f"loaded. If they have not changed it: chmod go-w {path}"
        )
