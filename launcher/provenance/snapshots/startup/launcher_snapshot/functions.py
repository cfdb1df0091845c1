"""Functions of `io` and `os` that read files from the copy, and note which files of the project a job writes.

They are bound methods. Unlike functions, these do not become methods of a class that has them as attributes, as
pathlib of Python 3.10 has.
"""

from __future__ import annotations

import os
import posix
from _io import open as _open
from _io import open_code as _open_code
from stat import S_ISLNK

TYPE_CHECKING = False  # the module typing takes several milliseconds to load
if TYPE_CHECKING:
    from typing import Any

    from .held_files import HeldFiles

_READ_MODES = frozenset({"r", "rb", "br", "rt", "tr", "U", "rU"})
_WRITE_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

_stat, _lstat, _readlink, _os_open = posix.stat, posix.lstat, posix.readlink, posix.open


class Functions:
    """Functions of a module that are replaced; a pickled one becomes that of the module again."""

    module = ""

    def __init__(self, files: HeldFiles) -> None:
        self._files = files

    def __reduce__(self) -> Any:
        return __import__, (self.module,)

    def __deepcopy__(self, _memo: object) -> Functions:
        return self


class IoFunctions(Functions):
    module = "io"

    def open(
        self,
        file: Any,
        mode: str = "r",
        buffering: int = -1,
        encoding: Any = None,
        errors: Any = None,
        newline: Any = None,
        closefd: bool = True,
        opener: Any = None,
    ) -> Any:
        if file.__class__ is not int:
            path = file if file.__class__ is str else _text(file)
            if path is not None:
                if mode in _READ_MODES:
                    copy = self._files.find_to_read(path)
                    if copy is not None:
                        if (
                            opener is None or opener.__name__ == "_opener"
                        ):  # pathlib's own before Python 3.10
                            return _open(
                                path,
                                mode,
                                buffering,
                                encoding,
                                errors,
                                newline,
                                closefd,
                                _Opener(copy),
                            )
                    elif path.endswith(".py"):
                        self._files.note_loaded(path)
                else:
                    self._files.add_written(path, replaces="w" in mode, reads="+" in mode)
        return _open(file, mode, buffering, encoding, errors, newline, closefd, opener)

    def open_code(self, path: str) -> Any:
        copy = self._files.find(path)
        if copy is None:
            # a .pyc is the compiled form of a module, which is noted itself
            if not path.endswith(".pyc"):
                self._files.note_loaded(path)
            return _open_code(path)
        return _open(path, "rb", opener=_Opener(copy))


class _Opener:
    """Opens the copy of a file, so that the opened file has the original name."""

    def __init__(self, copy: str) -> None:
        self._copy = copy

    def __call__(self, _path: str, flags: int) -> int:
        return _os_open(self._copy, flags | os.O_CLOEXEC)


class OsFunctions(Functions):
    module = "os"

    def stat(
        self, path: Any, *, dir_fd: int | None = None, follow_symlinks: bool = True
    ) -> os.stat_result:
        now = _stat(path, dir_fd=dir_fd, follow_symlinks=follow_symlinks)
        return now if dir_fd is not None else self._held_status(path, now)

    def lstat(self, path: Any, *, dir_fd: int | None = None) -> os.stat_result:
        now = _lstat(path, dir_fd=dir_fd)
        return now if dir_fd is not None else self._held_status(path, now)

    def _held_status(self, path: Any, now: os.stat_result) -> os.stat_result:
        """Return the status of the copy of a file, so that caches of compiled code know whose text they have."""
        if path.__class__ is int or S_ISLNK(now.st_mode):
            return now
        text = _text(path)
        copy = None if text is None else self._files.find(text)
        return now if copy is None else _stat(copy)

    def open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if flags & _WRITE_FLAGS:
            self._add_written(
                path, dir_fd, replaces=bool(flags & os.O_TRUNC), reads=bool(flags & os.O_RDWR)
            )
        return _os_open(path, flags, mode, dir_fd=dir_fd)

    def rename(
        self, src: Any, dst: Any, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None
    ) -> None:
        self._add_written(src, src_dir_fd, replaces=False, with_folder=True)
        self._add_written(dst, dst_dir_fd, with_folder=True)
        posix.rename(src, dst, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    def replace(
        self, src: Any, dst: Any, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None
    ) -> None:
        self._add_written(src, src_dir_fd, replaces=False, with_folder=True)
        self._add_written(dst, dst_dir_fd, with_folder=True)
        posix.replace(src, dst, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    def remove(self, path: Any, *, dir_fd: int | None = None) -> None:
        self._add_written(path, dir_fd)
        posix.remove(path, dir_fd=dir_fd)

    def unlink(self, path: Any, *, dir_fd: int | None = None) -> None:
        self._add_written(path, dir_fd)
        posix.unlink(path, dir_fd=dir_fd)

    def truncate(self, path: Any, length: int) -> None:
        self._add_written(path, None)
        posix.truncate(path, length)

    def link(
        self,
        src: Any,
        dst: Any,
        *,
        src_dir_fd: int | None = None,
        dst_dir_fd: int | None = None,
        follow_symlinks: bool = True,
    ) -> None:
        self._add_written(dst, dst_dir_fd)
        posix.link(
            src, dst, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd, follow_symlinks=follow_symlinks
        )

    def symlink(
        self, src: Any, dst: Any, target_is_directory: bool = False, *, dir_fd: int | None = None
    ) -> None:
        self._add_written(dst, dir_fd)
        posix.symlink(src, dst, target_is_directory, dir_fd=dir_fd)

    def _add_written(
        self,
        path: Any,
        dir_fd: int | None,
        *,
        replaces: bool = True,
        reads: bool = False,
        with_folder: bool = False,
    ) -> None:
        text = None if path.__class__ is int else _text(path)
        if text is not None and dir_fd is not None and text[:1] != "/":
            try:
                text = f"{_readlink(f'/proc/self/fd/{dir_fd}')}/{text}"
            except OSError:
                return
        self._files.add_written(text, replaces=replaces, reads=reads, with_folder=with_folder)


def _text(path: Any) -> str | None:
    """Return a path as a text; None for a descriptor and for other objects."""
    if path.__class__ is str:
        return path
    try:
        return os.fsdecode(path)
    except TypeError:
        return None
