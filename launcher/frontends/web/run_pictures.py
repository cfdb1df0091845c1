"""Pictures and other files in the folders of runs: found there, and opened.

No link below such a folder is followed, so files outside of it cannot be read.
"""

import contextlib
import os
import stat
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

from launcher.queue.home.paths import Home
from launcher.queue.store.rows import JobRow

TYPES: Mapping[str, str] = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".gif": "image/gif",
    ".svg": "image/svg+xml",
}
MOST_BYTES = 32 << 20  # bytes of a file that is sent
RUN_FOLDER = "run"  # the name of a run's own folder in addresses
MOST_PICTURES = 120  # pictures of a run
MOST_OF_A_JOB = 6  # outside of the run's folder; a dataset may have 100,000
MOST_OF_A_FOLDER = 12
MOST_ENTRIES = 20_000  # entries that are looked at
DEEPEST = 6  # folders below each other
_FOLDER = os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY
_FILE = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # a FIFO may have no writer


class Picture(NamedTuple):
    """A picture, identified by the name of a folder and the path below it."""

    folder: str
    path: str
    size: int  # bytes
    version: int  # another number when the file is another

    @property
    def job(self) -> int | None:
        """The job whose folder contains it; None for the run's folder."""
        _, _, rest = self.folder.partition("-")
        return int(rest.partition("-")[0]) if rest else None

    @property
    def too_large(self) -> bool:
        """Whether it is too large to be sent."""
        return self.size > MOST_BYTES


class Gallery(NamedTuple):
    """The pictures of a run."""

    pictures: tuple[Picture, ...] = ()
    left_out: int = 0  # pictures that were found but are not shown
    complete: bool = True  # all folders were searched


def find_pictures(folders: Mapping[str, Path]) -> Gallery:
    """Return the pictures in folders; in each folder, those near its top come first.

    Args:
        folders: name in addresses → folder. A missing folder has no pictures. A path that is itself a
            picture gives only that picture.
    """
    pictures: list[Picture] = []
    left_out = entries = 0
    for name, folder in folders.items():
        of_it = MOST_PICTURES if name == RUN_FOLDER else MOST_OF_A_JOB
        most = min(MOST_PICTURES, len(pictures) + of_it)
        if type_of(folder.name) and len(pictures) < most:
            pictures += _output_picture(name, folder)
        waiting = deque([""])
        while waiting and entries < MOST_ENTRIES and len(pictures) < most:
            below = waiting.popleft()
            inner, files, seen = _scan_folder(folder / below, MOST_ENTRIES - entries)
            entries += seen
            room = min(MOST_OF_A_FOLDER, most - len(pictures))
            pictures += [picture_of(name, f"{below}{each}", of) for each, of in files[:room]]
            left_out += max(0, len(files) - room)
            if below.count("/") < DEEPEST:
                waiting += [f"{below}{each}/" for each in inner]
    return Gallery(tuple(pictures), left_out, complete=entries < MOST_ENTRIES)


def _scan_folder(place: Path, most: int) -> tuple[list[str], list[tuple[str, os.stat_result]], int]:
    """Return the sorted folders and pictures in a folder, and the number of entries that were read."""
    inner: list[str] = []
    files: list[tuple[str, os.stat_result]] = []
    seen = 1
    try:
        with os.scandir(place) as entries:
            for entry in entries:
                seen += 1
                if seen >= most:
                    break
                if entry.name.startswith(".") or not _is_text(entry.name):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    inner.append(entry.name)
                elif type_of(entry.name) and entry.is_file(follow_symlinks=False):
                    files.append((entry.name, entry.stat(follow_symlinks=False)))
    except OSError:  # gone meanwhile, or not ours to read
        return [], [], seen
    # a plot that was drawn as SVG and for papers as PNG, too, is one picture
    drawn = {
        name.removesuffix(".svg") + ".png"
        for name, status in files
        if name.endswith(".svg") and status.st_size <= MOST_BYTES
    }
    kept = [file for file in files if file[0] not in drawn]
    return sorted(inner), sorted(kept, key=lambda file: file[0]), seen


def _output_picture(name: str, file: Path) -> Iterator[Picture]:
    """Give a picture that a job names among its outputs."""
    with contextlib.suppress(OSError):
        status = file.lstat()
        if stat.S_ISREG(status.st_mode) and _is_text(file.name):
            yield picture_of(name, file.name, status)


def picture_of(folder: str, path: str, status: os.stat_result) -> Picture:
    """Return a picture, or another file, by its place."""
    return Picture(folder=folder, path=path, size=status.st_size, version=status.st_mtime_ns)


def type_of(path: str) -> str:
    """Return the media type of a picture by its name; '' if it is not a picture."""
    return TYPES.get(PurePosixPath(path).suffix.lower(), "")


def _is_text(name: str) -> bool:
    """Return whether an address can contain a name, which may be bytes that are not UTF-8."""
    return name.isprintable()


@contextmanager
def open_below(folder: Path, path: str) -> Iterator[tuple[BinaryIO, os.stat_result]]:
    """Open a file below a folder, without following any link there.

    Args:
        folder: itself reached as the system does; a picture stands for that alone.
        path: path below the folder, with slashes.

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
        raise FileNotFoundError(f"{path} is not a regular file")
    with os.fdopen(file, "rb") as stream:
        yield stream, status


def parts_of(path: str) -> list[str]:
    """Return the names in a path below a folder.

    Raises:
        ValueError: it leads out of the folder, or is none.
    """
    parts = path.split("/")
    if any(part in {"", ".", ".."} or "\0" in part for part in parts):
        raise ValueError(f"{path!r} is not a path below a folder")
    return parts


def folders_of(home: Home, jobs: Sequence[JobRow]) -> dict[str, Path]:
    """Return the folders in which a run and its jobs leave files, by the names that addresses have for them.

    Args:
        home: whose jobs.
        jobs: jobs of one run.
    """
    run = jobs[0].spec_without_sources.run_folder
    # a name that is a path names no folder of its own
    plain = run.name == jobs[0].run and run.name not in {".", ".."}
    folders = {RUN_FOLDER: run} if plain else {}
    for job in jobs:
        if job.attempts:
            folders[f"attempt-{job.id}"] = job.attempt_in(home).folder
        for place, output in enumerate(map(Path, job.spec_without_sources.outputs)):
            if not output.is_relative_to(run):
                folders[f"output-{job.id}-{place}"] = output
    return folders
