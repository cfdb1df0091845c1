"""The files of a copy, by their original paths, and which of them a job reads as they are now."""

from __future__ import annotations

import os
import posix
import sys
from _io import open as _open
from os.path import normpath

from .notes import (
    ABSENT,
    CHANGED,
    CURRENT,
    EDITED,
    ENDED,
    KEPT,
    LOADED,
    PROGRAM,
    Notes,
    append_text,
    coarse_now,
    read_text,
)

TYPE_CHECKING = False  # the module typing takes several milliseconds to load
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

INDEX = "index"  # in the folder of a snapshot: its files, for `HeldFiles`
_SOURCES = (".py", ".pyw", ".pyi", ".ipynb")  # only people change them without Python's functions
# a shell script may make them, and people change them
_SETTINGS = (".yaml", ".yml", ".json", ".toml", ".ini", ".cfg", ".conf", ".gin", ".sh", ".bash")
# people write these, too; a file without an ending counts as one of them
_TEXTS = (
    *(".txt", ".md", ".rst", ".tex", ".html", ".xml", ".j2", ".jinja", ".jinja2", ".tmpl", ".sql"),
    *(".c", ".cc", ".cpp", ".cu", ".cuh", ".h", ".hpp", ".pyx", ".pxd", ".rs", ".go", ".java"),
    *(
        ".r",
        ".jl",
        ".pl",
        ".rb",
        ".lua",
        ".js",
        ".ts",
        ".m",
        ".f90",
        ".properties",
        ".env",
        ".lock",
    ),
)
_NO_DATA = (*_SOURCES, *_SETTINGS, *_TEXTS)
_CHUNK = 1 << 20  # bytes that are compared at once
_MOST_FOLDERS = 4096  # folders whose places are kept in memory
_MOST_LINKS = 40  # links of a path, as in Linux
_PACKAGES = ("/site-packages/", "/dist-packages/")
_CACHES = ("/.cache/", "/.triton/", "/torchinductor_")  # in paths of code that libraries generate
_LIBRARY = os.__file__.rpartition("/")[0]
_OWN = __file__.partition("/provenance/snapshots/startup/")[0]  # launcher itself

_getcwd, _stat, _readlink = posix.getcwd, posix.stat, posix.readlink


def write_index(
    folder: str, header: Sequence[str], names: Iterable[str], links: Mapping[str, str]
) -> None:
    """Write the files of a snapshot for `HeldFiles`.

    Args:
        folder: Folder of the snapshot.
        header: Folder of the project, name of the copy, time of its making, and name of the list of written files. The
            time is in nanoseconds of the coarse clock. The list is beside the folder.
        names: Names of the copied files, relative to the top.
        links: Name → target, of links.
    """
    parts = (header, names, (text for link in links.items() for text in link))
    with _open(f"{folder}/{INDEX}", "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write("\0\0".join("\0".join(part) for part in parts))


class HeldFiles:
    """The files of a copy, by their original paths."""

    def __init__(self, folder: str, notes: Notes) -> None:
        """Read the index.

        Args:
            folder: Folder of the snapshot.
            notes: Those of the attempt.

        Raises:
            OSError: The snapshot is not there.
        """
        self.notes = notes
        with _open(f"{folder}/{INDEX}", encoding="utf-8", errors="surrogateescape") as file:
            header, names, links = file.read().split("\0\0")
        self.top, project, made, written = header.split("\0")
        self.copy = f"{folder}/{project}"
        self._since = max(int(made), notes.queued)  # files written later are read as they are now
        self._list = f"{folder.rpartition('/')[0]}/{written}"
        self.names: frozenset[str] = frozenset(names.split("\0")) if names else frozenset()
        pairs = links.split("\0") if links else []
        self.links = dict(zip(pairs[::2], pairs[1::2]))
        self.folders = {""}
        for name in (*self.names, *self.links):
            while (name := name.rpartition("/")[0]) and name not in self.folders:
                self.folders.add(name)
        self._tops = tuple(dict.fromkeys((self.top, real_path(self.top))))
        self._places: dict[
            str, str | None
        ] = {}  # text of a folder → its name and a slash; None: outside
        self._written, self._list_size = set(notes.texts(CURRENT)), -1
        self._listed: dict[str, int] = {}  # name → time of its newest line in the list
        self._last_queueing = 0
        self._read: set[str] = set()  # files of the copy that this process has opened
        self._outside: list[str] = []  # packages of other projects that are noted
        self._judged: dict[str, tuple[tuple[int, ...], bool]] = {}

    # --- names

    def name_of(self, path: str) -> str | None:
        """Return the name of a file relative to the top, through the links of the copy; None if it is outside."""
        if path[:1] != "/":
            path = f"{_getcwd()}/{path}"
        folder, _, base = path.rpartition("/")
        place = self._places.get(folder, "/")
        if place == "/":  # not known yet
            place = self._place(folder)
        return None if place is None else place + base

    def _place(self, folder: str) -> str | None:
        if len(self._places) > _MOST_FOLDERS:
            self._places.clear()
        name = self.folder_name(folder or "/")
        place = None if name is None else f"{name}/" if name else ""
        self._places[folder] = place
        return place

    def folder_name(self, folder: str) -> str | None:
        """Return the name of a folder relative to the top, '' for the top itself; None if it is outside."""
        if folder[:1] != "/":
            folder = f"{_getcwd()}/{folder}"
        folder = real_path(folder) if "/.." in folder else normpath(folder)
        for path in (folder, ""):
            path = path or real_path(folder)
            for top in self._tops:
                if path == top:
                    return ""
                if path.startswith(f"{top}/"):
                    name = self._resolve(path[len(top) + 1 :])
                    if name in self.folders or path is not folder:
                        return name
        return None

    def _resolve(self, name: str) -> str:
        """Return a name with the links of the copy replaced by their targets."""
        for _ in range(_MOST_LINKS if self.links else 0):
            above, parts = "", name.split("/")
            for number, part in enumerate(parts, 1):
                above = f"{above}/{part}" if above else part
                if above in self.links:
                    target = f"{above.rpartition('/')[0]}/{self.links[above]}"
                    name = normpath("/".join((target, *parts[number:]))).lstrip("/")
                    break
            else:
                return name
        return name

    def find(self, path: str) -> str | None:
        """Return the path in the copy of a file that is read from there; None if it is read where it is."""
        name = self._held_name(path)
        return None if name is None or self.is_current(name) else f"{self.copy}/{name}"

    def _held_name(self, path: str) -> str | None:
        name = self.name_of(path)
        if name is None or name in self.names:
            return name
        name = self._resolve(name)
        return name if name in self.names else None

    def real_original(self, path: str) -> str:
        """Return the path of a file of the project without links, which are those of the copy."""
        return f"{self._tops[-1]}/{self._resolve(self.name_of(path) or '')}"

    def find_to_read(self, path: str) -> str | None:
        """Return what `find` returns, for a program that opens the file."""
        name = self._held_name(path)
        if name is None:
            return None
        if self.is_current(name):
            if name not in self._written:
                self.notes.add(EDITED, name)
            return None
        copy = f"{self.copy}/{name}"
        self._read.add(copy)
        return copy

    # --- which files are read as they are now

    def is_current(self, name: str) -> bool:
        """Return whether a file is read as it is now, not from the copy.

        It is if a Python process of a job with a snapshot of this project has written, replaced or deleted it since
        the job was queued. Programs in other languages leave no trace. A file that has changed since the attempt
        started counts as written by one of them, unless people edit such files. So a source is read from the copy.
        A file of settings is, too, if the job runs only Python. The same holds for files that are deleted. Data is never
        read from the copy if it has changed, because a library of C may write it over the file.
        """
        self._read_list()
        if name in self._written:
            return True
        try:
            status = _stat(f"{self.top}/{name}")
        except OSError:
            return self._is_deleted(name)
        is_earlier = status.st_ctime_ns < self.notes.started
        if is_earlier and not _is_data(name):
            return False
        stamp = status.st_ctime_ns, status.st_mtime_ns, status.st_size, status.st_ino
        known = self._judged.get(name)
        if known is None or known[0] != stamp:
            judge = self._differs if is_earlier else self._is_written
            known = self._judged[name] = stamp, judge(name, status)
            if known[1] and not is_earlier:
                self.notes.add(CHANGED, name)
                # a later attempt knows the file even if the supervisor dies
                self._add_written(name)
        return known[1]

    def _is_deleted(self, name: str) -> bool:
        """Return whether a file that is not there has been deleted by another program of the job."""
        if name.lower().endswith(_SOURCES) or not self.notes.texts(PROGRAM):
            return False
        if any(f"{name}/".startswith(f"{absent}/") for absent in self.notes.texts(ABSENT)):
            return False
        folder = name
        while folder:
            folder = folder.rpartition("/")[0]
            try:
                changed = _stat(f"{self.top}/{folder}").st_ctime_ns
            except OSError:  # the file is deleted, too
                continue
            if changed < self.notes.started:
                return False
            self.notes.add(CHANGED, name)
            self._add_written(name)
            return True
        return False

    def _differs(self, name: str, status: os.stat_result) -> bool:
        copy, path = f"{self.copy}/{name}", f"{self.top}/{name}"
        copied = _stat(copy)
        if copied.st_size != status.st_size:
            return True
        if copied.st_mtime_ns == status.st_mtime_ns:
            return False
        try:
            with _open(copy, "rb") as old, _open(path, "rb") as new:
                while text := old.read(_CHUNK):
                    if text != new.read(_CHUNK):
                        return True
        except OSError:
            return True
        return False

    def _is_written(self, name: str, status: os.stat_result) -> bool:
        lower = name.lower()
        if lower.endswith(_SOURCES):
            return False
        copied = _stat(f"{self.copy}/{name}")
        if (copied.st_mtime_ns, copied.st_size) == (status.st_mtime_ns, status.st_size):
            return False  # only the mode or name of the file has changed
        return not lower.endswith(_SETTINGS) or bool(self.notes.texts(PROGRAM))

    def _read_list(self) -> None:
        try:
            size = _stat(self._list).st_size
        except OSError:
            return
        if size != self._list_size:
            self._list_size = size
            for line in read_text(self._list).split("\n"):
                at, _, name = line.partition("\t")
                if not at.isdigit():
                    continue
                if not name:  # a queueing: see `note_queueing`
                    self._last_queueing = int(at)
                    continue
                self._listed[name] = int(at)
                if int(at) >= self._since:
                    self._written.add(name)

    def add_written(
        self,
        path: str | None,
        *,
        replaces: bool,
        reads: bool = False,
        with_folder: bool = False,
    ) -> None:
        """Note that this process writes, replaces or deletes a file or folder of the copy.

        Args:
            path: Its path; None if it is unknown.
            replaces: The earlier content will be gone.
            reads: The process may read its present content first.
            with_folder: If it is a folder, its files are moved, too. Otherwise the call only makes a file in it.
        """
        name = None if path is None else self.name_of(path)
        if name is None:
            return
        name = self._resolve(name)
        if name in self.names:
            if replaces:
                self._keep_unseen(name)
            elif reads:
                self._note_edited(name)
            self._add_written(name)
        elif with_folder and name in self.folders:
            for each in self.names:
                if each.startswith(f"{name}/"):
                    self._add_written(each)

    def _add_written(self, name: str) -> None:
        """Note a written file, if jobs that were queued since the newest note do not know of it."""
        self._read_list()
        self._written.add(name)
        if self._listed.get(name, -1) <= self._last_queueing:
            self._listed[name] = coarse_now()
            append_text(self._list, f"{self._listed[name]}\t{name}\n")

    def _note_edited(self, name: str) -> None:
        """Note a file that is opened to read and write, if it has changed since the queueing."""
        is_current = self.is_current(name)
        if name in self._written:
            return
        try:
            if is_current or self._differs(name, _stat(f"{self.top}/{name}")):
                self.notes.add(EDITED, name)
        except OSError:  # the file is not there
            pass

    def _keep_unseen(self, name: str) -> None:
        """Keep a file that this process has read in the copy and replaces now, if it has changed since.

        Others may have added lines to it that the process has not seen, and would lose.
        """
        copy, path = f"{self.copy}/{name}", f"{self.top}/{name}"
        if copy not in self._read or self.is_current(name):
            return
        try:
            now, copied = _stat(path), _stat(copy)
            if (now.st_mtime_ns, now.st_size) == (copied.st_mtime_ns, copied.st_size):
                return
            kept = self.notes.keep(path, name)
        except OSError:
            return
        self.notes.add(KEPT, f"{name}, before as {kept}")

    def note_changes(self) -> None:
        """Note the files that other programs have written since the start of the attempt, for later attempts."""
        for name in self.names:
            if self.is_current(name) and self._has_changed(name):
                self._add_written(name)
        self.notes.add(ENDED, "")

    def _has_changed(self, name: str) -> bool:
        """Return whether a file has changed since the attempt started and since the last queueing."""
        try:
            changed = _stat(f"{self.top}/{name}").st_ctime_ns
        except OSError:
            return True
        return changed >= max(self.notes.started, self._last_queueing)

    def note_loaded(self, path: str) -> None:
        """Note that code is loaded that is not from the copy, unless it is installed or the job has made it."""
        name = self.name_of(path)
        if name is None:
            self._note_outside(path)
            return
        if any(each in f"/{name}" for each in _PACKAGES):
            return
        if name not in self._written and not f"{self.top}/{name}".startswith(f"{sys.prefix}/"):
            self.notes.add(LOADED, name)

    def _note_outside(self, path: str) -> None:
        """Note code of another project; the modules of a package are noted once."""
        path = normpath(path if path[:1] == "/" else f"{_getcwd()}/{path}")
        known = sys.prefix, sys.base_prefix, _LIBRARY, _OWN, self.copy, *self._outside
        if path.startswith(tuple(f"{folder}/" for folder in known)):
            return
        if any(each in path for each in (*_PACKAGES, *_CACHES)):
            return
        try:
            is_new = _stat(path).st_ctime_ns >= self.notes.started
        except OSError:
            return
        if not is_new:
            folder, _, base = path.rpartition("/")
            if base == "__init__.py":
                self._outside.append(folder)
            self.notes.add(LOADED, path)


def _is_data(name: str) -> bool:
    """Return whether a file is neither code nor a text that people write."""
    stem, _, _ = name.rpartition("/")[2].rpartition(".")
    return bool(stem) and not name.lower().endswith(_NO_DATA)


def real_path(path: str) -> str:
    """Return a path without links, by the functions that do not follow the snapshot."""
    if path[:1] != "/":
        path = f"{_getcwd()}/{path}"
    todo, found, links = path.split("/")[::-1], "", 0
    while todo:
        part = todo.pop()
        if part in {"", "."}:
            continue
        if part == "..":
            found = found.rpartition("/")[0]
            continue
        place = f"{found}/{part}"
        try:
            target = _readlink(place)
        except OSError:  # no link
            found = place
            continue
        links += 1
        if links > _MOST_LINKS:
            return path
        todo += target.split("/")[::-1]
        if target[:1] == "/":
            found = ""
    return found or "/"
