"""A disk with a cache. A power cut may lose each write that is not synced. It is pure.

A sync of a file saves its content, but not its names. A sync of the folder saves those. This is all that
POSIX guarantees. Real file systems guarantee more.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.powercut.recording import Operation

Keeps = Callable[[], bool]  # whether one more change that was not synced has reached the disk


@dataclass(slots=True, eq=False)
class _File:
    data: bytearray = field(default_factory=bytearray)  # as it is on the disk
    cached: list[Operation] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class _Folder:
    names: dict[str, "_File | _Folder"] = field(default_factory=dict)  # as it is on the disk
    seen: dict[str, "_File | _Folder"] = field(default_factory=dict)  # as processes see it
    cached: list[dict[str, "_File | _Folder | None"]] = field(default_factory=list)


class Disk:
    """The content of one folder, as processes see it and as it is on the disk."""

    def __init__(self, root: str, *, syncs: bool = True) -> None:
        """Begin with an empty folder, in which names are safe; without `syncs` a sync does nothing."""
        self._root, self._syncs = root, syncs
        self._top = _Folder()
        self._files: dict[int, _File | _Folder] = {}

    def apply(self, change: Operation) -> None:
        """Let a process do one thing more."""
        match change.what:
            case "c" | "m":
                made = _File() if change.what == "c" else _Folder()
                self._files[change.inode] = made
                self._change(change.path, made)
            case "w" | "t":
                file = self._files.get(change.inode)
                if isinstance(file, _File):
                    file.cached.append(change)
            case "s":
                if self._syncs and change.inode in self._files:
                    self._sync(self._files[change.inode])
            case "u":
                self._change(change.path, None)
            case "l":
                self._change(change.other, self._at(change.path))
            case "r":
                moved = self._at(change.path)
                self._change(change.other, moved)
                self._change(change.path, None)

    def after_a_cut(self, keeps: Keeps) -> "Cut":
        """Return what a power cut leaves now."""
        return _left(self._top, keeps, {})

    def _sync(self, file: _File | _Folder) -> None:
        if isinstance(file, _File):
            file.data = _content(file, lambda: True)
            file.cached.clear()
            return
        file.names = dict(file.seen)
        file.cached.clear()

    def _change(self, path: str, there: "_File | _Folder | None") -> None:
        above, _, name = path.rpartition("/")
        folder = self._at(above)
        if not isinstance(folder, _Folder):
            return
        _set(folder.seen, name, there)
        if folder is self._top:
            _set(folder.names, name, there)
        else:
            folder.cached.append({name: there})

    def _at(self, path: str) -> "_File | _Folder | None":
        there: _File | _Folder | None = self._top
        for name in path.removeprefix(self._root).split("/"):
            if name and isinstance(there, _Folder):
                there = there.seen.get(name)
        return there


Cut = dict[str, "bytes | Cut"]


def _left(folder: _Folder, keeps: Keeps, files: dict[int, bytes]) -> Cut:
    names = dict(folder.names)
    for change in folder.cached:
        if keeps():
            for name, there in change.items():
                _set(names, name, there)
    left: Cut = {}
    for name, there in names.items():
        if isinstance(there, _Folder):
            left[name] = _left(there, keeps, files)
            continue
        if id(there) not in files:  # one that has two names is the same under both
            files[id(there)] = bytes(_content(there, keeps))
        left[name] = files[id(there)]
    return left


def _content(file: _File, keeps: Keeps) -> bytearray:
    data = bytearray(file.data)
    for change in file.cached:
        if not keeps():
            continue
        if change.what == "t":
            data = data[: change.offset].ljust(change.offset, b"\0")
            continue
        end = change.offset + len(change.data)
        data = data.ljust(end, b"\0")
        data[change.offset : end] = change.data
    return data


def _set(names: dict[str, "_File | _Folder"], name: str, there: "_File | _Folder | None") -> None:
    if there is None:
        names.pop(name, None)
    else:
        names[name] = there


def write_out(left: Cut, folder: Path) -> None:
    """Create a folder with the files that remain after a cut."""
    folder.mkdir(mode=0o700)
    for name, there in left.items():
        if isinstance(there, dict):
            write_out(there, folder / name)
        else:
            (folder / name).write_bytes(there)
