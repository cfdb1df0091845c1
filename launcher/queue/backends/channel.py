"""Message files of scheduler and pilot: one writer appends lines, and each reader continues where it stopped.

Every message may be read twice, as a restarted scheduler reads from the beginning. No message may be missed. A line
that cannot be parsed is skipped: a newer launcher may have written it. Each file has one writer, which appends.
Readers continue at their last offset. NFS guarantees only that a file opened after the writer closed it shows the
written data. Therefore every append opens, writes and closes, and every poll opens, reads and closes. New file names
are avoided, as a node may not see them for 30 s.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from launcher.queue.backends.pilot_messages import LONGEST_LINE_BYTES

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
            OSError: the disk is full, or the file is gone. The next append terminates a partly written line.
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
        """Yield the lines that arrived since the last call, without line ends. An incomplete line waits for its rest.

        Raises:
            OSError: the file cannot be read now.
        """
        descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            data = os.pread(descriptor, _BLOCK, self.offset)
        finally:
            os.close(descriptor)
        whole, end, rest = data.rpartition(b"\n")
        if not end and len(rest) == _BLOCK:  # longer than any valid line: skip it
            self.offset += _BLOCK
        if not end:
            return
        self.offset += len(whole) + 1
        yield from (line for line in whole.split(b"\n") if line)
