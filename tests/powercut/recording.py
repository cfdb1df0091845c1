"""The compiled recorder of all writes in order, and its records as values."""

import os
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("recorder.c")
_HEAD = struct.Struct("<c3xII4xQqII")  # `struct head` of recorder.c


@dataclass(frozen=True, slots=True)
class Operation:
    """A change of the disk, or a note between two changes.

    Data operations are w (write bytes), t (truncate or extend a file to `offset`) and s (sync a file or folder).
    Names change by c (create a file), m (make a folder), l (link), r (rename) and u (unlink). A note is n.
    """

    what: str
    path: str
    other: str
    inode: int
    offset: int
    data: bytes


class Recorder:
    """The shared library that records, and the file with its records."""

    def __init__(self, folder: Path, below: Path) -> None:
        """Compile it.

        Args:
            folder: an empty one, for the library and the records.
            below: where writes are recorded.

        Raises:
            FileNotFoundError: there is no C compiler.
        """
        self.records, self._below = folder / "records", below
        self._library = folder / "recorder.so"
        subprocess.run(
            ["cc", "-shared", "-fPIC", "-O1", "-o", self._library, SOURCE, "-ldl"], check=True
        )
        self.records.touch()

    def environment(self) -> dict[str, str]:
        """Return what a process needs in its environment to be recorded, and all below it."""
        return {
            "LD_PRELOAD": str(self._library),
            "POWERCUT_BELOW": str(self._below),
            "POWERCUT_LOG": str(self.records),
        }

    def operations(self) -> list[Operation]:
        """Return all records."""
        return list(_operations(self.records.read_bytes()))


def note(text: str) -> None:
    """Note between the records what has just been seen; in a process that is recorded."""
    path = os.fsencode(text)
    descriptor = os.open(os.environ["POWERCUT_LOG"], os.O_WRONLY | os.O_APPEND)
    os.write(descriptor, _HEAD.pack(b"n", len(path), 0, 0, 0, 0, 0) + path)
    os.close(descriptor)


def _operations(records: bytes) -> Iterator[Operation]:
    at = 0
    while at + _HEAD.size <= len(records):
        what, path, other, inode, offset, length, _ = _HEAD.unpack_from(records, at)
        begin = at + _HEAD.size
        middle, end = begin + path, begin + path + other
        at = end + length
        yield Operation(
            what.decode(),
            os.fsdecode(records[begin:middle]),
            os.fsdecode(records[middle:end]),
            inode,
            offset,
            records[end:at],
        )
