"""The files over which scheduler and pilot talk: one writer appends lines, and each reader goes on where it stopped.

Every message may be read twice, as a scheduler that starts anew reads from the beginning; none may be missed. A line
that is not understood is skipped: a newer launcher may have written it. Each file has one writer, who appends, and is
read from where it was left. NFS promises only that who opens a file after another has closed it sees what was written.
So every append opens, writes and closes, and every look opens, reads and closes; new names are avoided, as a node may
miss them for 30 s.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from launcher.backends.pilot_messages import LONGEST_LINE_BYTES

_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC
_BLOCK = 1 << 20


class MessageWriter:
    """The one writer of a file of messages."""

    def __init__(self, path: Path) -> None:
        """Write to a file that is there already."""
        self._path = path
        self._torn = False  # the last line may be there in part

    def append(self, *lines: bytes) -> None:
        """Append whole lines.

        Raises:
            OSError: the disk is full, or the file is gone; what was written in part is closed by the next append.
        """
        data = b"\n" * self._torn + b"".join(lines)
        descriptor = os.open(self._path, _APPEND)
        try:
            view = memoryview(data)
            while view:
                size = os.write(descriptor, view[: 64 * LONGEST_LINE_BYTES])
                self._torn = True
                view = view[size:]
        finally:
            os.close(descriptor)  # a full quota may be reported only here
        self._torn = False


class MessageReader:
    """A reader of a file of messages, at its place."""

    def __init__(self, path: Path, offset: int = 0) -> None:
        """Begin at an offset in bytes."""
        self._path, self.offset = path, offset

    def lines(self) -> Iterator[bytes]:
        """Give the lines that have come since the last call, without their ends; what is cut off waits.

        Raises:
            OSError: the file cannot be read now.
        """
        descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            data = os.pread(descriptor, _BLOCK, self.offset)
        finally:
            os.close(descriptor)
        whole, end, rest = data.rpartition(b"\n")
        if not end and len(rest) == _BLOCK:  # no line is so long: skip it
            self.offset += _BLOCK
        if not end:
            return
        self.offset += len(whole) + 1
        yield from (line for line in whole.split(b"\n") if line)
