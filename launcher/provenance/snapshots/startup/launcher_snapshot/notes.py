"""What an attempt with a snapshot notes in its folder: a line for each thing that could not be held, written at once."""

from __future__ import annotations

import os
import posix
import sys
import time
from _io import open as _open

TYPE_CHECKING = False  # the module typing takes several milliseconds to load
if TYPE_CHECKING:
    from collections.abc import Sequence

VARIABLE = "LAUNCHER_SNAPSHOT"  # the folder of the snapshot, or `OFF`
COMMIT_VARIABLE = "LAUNCHER_COMMIT"  # the commit of the queueing
OFF = "off"
PYTHON_PATH = "PYTHONPATH"
NOTES = "snapshot"  # in the folder of an attempt
# first words of the lines of `NOTES`
STARTED = "start"  # nanoseconds of the kernel's coarse clock, which stamps files
QUEUED = "queued"  # when the job was queued, in nanoseconds of the same clock
ABSENT = "absent"  # a copied file that was not there at the start
ENDED = "end"  # the changes of the attempt are known
CURRENT = "current"  # a file that the job reads as it is now: a declared input or output
PROGRAM = "program"  # a program other than Python runs, which may write any file
LOADED = "loaded"  # code of the project that is not from the copy
CHILD = "child"  # a Python that does not follow the snapshot
CHANGED = "changed"  # a file that changed while the job ran, and was read as it is now
EDITED = "edited"  # a file that had changed since the queueing, and was read as it is now
KEPT = "kept"  # a file that had changed unseen when the job replaced it, and where it is kept
_KEPT_FOLDER = "replaced"  # in the folder of the attempt
_COARSE_CLOCK = 5  # CLOCK_REALTIME_COARSE of Linux
_MOST_NOTES = 1 << 16  # bytes of `NOTES`; a job may start children without end
_MOST_WORDS = 200  # characters of a command in a note

_os_open = posix.open


def coarse_now() -> int:
    """Return the time by which the kernel stamps files, in nanoseconds since 1970."""
    return time.clock_gettime_ns(_COARSE_CLOCK)


class Notes:
    """The notes of an attempt about its snapshot; each line is written at once."""

    def __init__(self, attempt: str) -> None:
        """Read them.

        Args:
            attempt: Folder of the attempt; '' if there is none, and nothing is noted.
        """
        self._path = f"{attempt}/{NOTES}" if attempt else ""
        self._seen = set(self.read())
        self.started = self._time(STARTED, sys.maxsize)
        self.queued = self._time(QUEUED, 0)

    def _time(self, kind: str, missing_time: int) -> int:
        text = next((text for found, text in self._seen if found == kind), "")
        return int(text) if text.isdigit() else missing_time

    def read(self) -> list[tuple[str, str]]:
        """Return all lines: kind and text."""
        return read_notes(self._path)

    def add(self, kind: str, text: str) -> None:
        """Write a line, unless this process or one before it has."""
        line = kind, text.replace("\n", " ").replace("\t", " ")
        if line in self._seen or not self._path:
            return
        self._seen.add(line)
        append_text(self._path, f"{kind}\t{line[1]}\n", _MOST_NOTES)

    def keep(self, path: str, name: str) -> str:
        """Copy a file of the project into the folder of the attempt, and return its path there.

        Raises:
            OSError: The folder is missing, or the disk is full.
        """
        place = f"{self._path.rpartition('/')[0]}/{_KEPT_FOLDER}/{name}"
        os.makedirs(place.rpartition("/")[0], exist_ok=True)
        with _open(path, "rb") as file, _open(place, "wb") as kept:
            kept.write(file.read())
        return place

    def texts(self, kind: str) -> list[str]:
        """Return the texts of all lines of a kind, those of other processes included."""
        return [text for found, text in self.read() if found == kind]


def read_notes(path: str) -> list[tuple[str, str]]:
    """Return kind and text of each line in a file of notes; an empty list if it is missing."""
    lines = [line.partition("\t") for line in read_text(path).split("\n")[:-1]]
    return [(kind, text) for kind, tab, text in lines if tab]


def read_text(path: str) -> str:
    """Return the content of a file; '' if it cannot be read."""
    try:
        with _open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""


def append_text(path: str, text: str, most: int = sys.maxsize) -> None:
    """Append a text in one piece; without room on the disk nothing is written, and the program continues."""
    try:
        descriptor = _os_open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if posix.fstat(descriptor).st_size < most:
                posix.write(descriptor, text.encode("utf-8", "surrogateescape"))
        finally:
            posix.close(descriptor)
    except OSError:
        pass


def describe_command(words: Sequence[str]) -> str:
    """Return a command line for a note."""
    text = " ".join(words)
    return text if len(text) <= _MOST_WORDS else f"{text[:_MOST_WORDS]}…"
