"""Pictures that a run and its jobs left: found in their folders, and opened to be sent.

No link is followed below such a folder, so nothing outside of it can be read through it.
"""

import os
import stat
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

TYPES: Mapping[str, str] = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".gif": "image/gif",
    ".svg": "image/svg+xml",
}
MOST_BYTES = 32 << 20  # of a file that is sent
RUN_FOLDER = "run"  # the name of a run's own folder in addresses
MOST_PICTURES = 120  # of a run
MOST_OF_A_JOB = 6  # outside of the run's folder; a data set may have 100,000
MOST_OF_A_FOLDER = 12
MOST_ENTRIES = 20_000  # that are looked at
DEEPEST = 6  # folders below each other
_FOLDER = os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY
_FILE = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # a FIFO may have no writer


class Picture(NamedTuple):
    """A picture by its place: the name of a folder, and the path below it."""

    folder: str
    path: str
    size: int  # bytes
    version: int  # another number when the file is another

    @property
    def job(self) -> int | None:
        """The job whose folder it is; None: the run's own."""
        _, _, rest = self.folder.partition("-")
        return int(rest.partition("-")[0]) if rest else None

    @property
    def too_large(self) -> bool:
        """Tell whether it is too large to be sent."""
        return self.size > MOST_BYTES


class Gallery(NamedTuple):
    """The pictures of a run."""

    pictures: tuple[Picture, ...] = ()
    left_out: int = 0  # that were seen beside them
    complete: bool = True  # all folders were looked through


@dataclass(slots=True)
class _Search:
    """How far a search is."""

    pictures: list[Picture] = field(default_factory=list)
    left_out: int = 0
    entries: int = 0

    @property
    def tired(self) -> bool:
        return self.entries >= MOST_ENTRIES

    def room(self, folder: str) -> int:
        """Return how many more pictures of a folder are listed."""
        if folder == RUN_FOLDER:
            return MOST_PICTURES - len(self.pictures)
        taken = sum(picture.folder == folder for picture in self.pictures)
        return min(MOST_PICTURES - len(self.pictures), MOST_OF_A_JOB - taken)


def find_pictures(folders: Mapping[str, Path]) -> Gallery:
    """Return the pictures that lie in folders, in each those near its top first.

    Args:
        folders: by the names that addresses have for them; one that is not there has none. One that
            is a picture itself stands for that alone.
    """
    search = _Search()
    for name, folder in folders.items():
        if type_of(folder.name):
            _take_in(search, name, folder)
        waiting = deque([(str(folder), "", 0)])
        while waiting and not search.tired and search.room(name) > 0:
            place, below, depth = waiting.popleft()
            inner = _look_into(search, name, place, below)
            if depth < DEEPEST:
                waiting += [(f"{place}/{each}", f"{below}{each}/", depth + 1) for each in inner]
    return Gallery(
        pictures=tuple(search.pictures), left_out=search.left_out, complete=not search.tired
    )


def _look_into(search: _Search, folder: str, place: str, below: str) -> list[str]:
    """Take in the pictures of a folder; return the names of the folders in it, in order."""
    inner: list[str] = []
    files: list[tuple[str, os.stat_result]] = []
    search.entries += 1
    try:
        with os.scandir(place) as entries:
            for entry in entries:
                search.entries += 1
                if search.tired:
                    break
                if entry.name.startswith(".") or not _is_text(entry.name):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    inner.append(entry.name)
                elif type_of(entry.name) and entry.is_file(follow_symlinks=False):
                    files.append((entry.name, entry.stat(follow_symlinks=False)))
    except OSError:  # gone meanwhile, or not ours to read
        return []
    files.sort(key=lambda file: file[0])
    room = min(MOST_OF_A_FOLDER, search.room(folder))
    search.left_out += max(0, len(files) - room)
    search.pictures += [
        picture_of(folder, f"{below}{name}", status) for name, status in files[:room]
    ]
    return sorted(inner)


def _take_in(search: _Search, name: str, file: Path) -> None:
    """Take in a picture that a job names among its outputs."""
    try:
        status = file.lstat()
    except OSError:
        return
    if stat.S_ISREG(status.st_mode) and _is_text(file.name) and search.room(name) > 0:
        search.pictures.append(picture_of(name, file.name, status))


def picture_of(folder: str, path: str, status: os.stat_result) -> Picture:
    """Return a picture, or another file, by its place."""
    return Picture(folder=folder, path=path, size=status.st_size, version=status.st_mtime_ns)


def type_of(path: str) -> str:
    """Return the media type of a picture by its name; '' of what is no picture."""
    return TYPES.get(PurePosixPath(path).suffix.lower(), "")


def _is_text(name: str) -> bool:
    """Tell whether an address can hold a name: it may be bytes that are no UTF-8."""
    return name.isprintable()


@contextmanager
def opened(folder: Path, path: str) -> Iterator[tuple[BinaryIO, os.stat_result]]:
    """Open a file below a folder, without following any link there.

    Args:
        folder: itself reached as the system does; a picture stands for that alone.
        path: below it, with slashes.

    Raises:
        OSError: there is no such plain file.
        ValueError: the path leads out of the folder, or is none.
    """
    *above, name = parts_of(path)
    if type_of(folder.name) and path == folder.name:
        folder = folder.parent
    place = os.open(folder, _FOLDER)
    try:
        for part in above:
            inner = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=place)
            os.close(place)
            place = inner
        file = os.open(name, _FILE, dir_fd=place)
    finally:
        os.close(place)
    status = os.fstat(file)
    if not stat.S_ISREG(status.st_mode):
        os.close(file)
        raise FileNotFoundError(f"{path} is no plain file")
    with os.fdopen(file, "rb") as stream:
        yield stream, status


def parts_of(path: str) -> list[str]:
    """Return the names in a path below a folder.

    Raises:
        ValueError: it leads out of the folder, or is none.
    """
    parts = path.split("/")
    if any(part in {"", ".", ".."} or "\0" in part for part in parts):
        raise ValueError(f"{path!r} is no path below a folder")
    return parts
