"""Lines of log files of any size: from a byte on, or the last ones. The holes of files are skipped."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from launcher.system.lazy_regex import compile_lazily

BLOCK_BYTES = 1 << 16
MOST_BYTES = 16 << 20  # a log may be 10 GB long, and have no line end in it
LINE_END = compile_lazily(rb"\r\n|\n|\r")  # a progress bar never writes a newline
_NEWLINES = compile_lazily(rb"\n")
_SHOWN_LINE_ENDS = compile_lazily(rb"\n|\r(?!\n)")  # those of LINE_END; of "\r\n" the second byte
_LAST_NEWLINE = compile_lazily(rb"\n\Z")
_LAST_END = compile_lazily(rb"(?:\r\n|\n|\r)\Z")


class FilePart(NamedTuple):
    """Some of a file's bytes."""

    data: bytes
    begin_offset: int  # place in the file at which the lines begin
    size: int  # size of the whole file

    @property
    def end_offset(self) -> int:
        """Where in the file they end."""
        return self.begin_offset + len(self.data)


def read_file_part(
    path: Path, *, begin: int | None = None, end: int | None = None, most_bytes: int
) -> FilePart | None:
    """Return whole lines of a file from a byte on, or up to one; without either, its last ones.

    What is read does not depend on how long the file is, which may grow. A line that is longer is cut.

    Args:
        path: the file.
        begin: where the first line begins.
        end: where the last one ends.
        most_bytes: that are read.

    Returns:
        None if the file does not exist.
    """
    try:
        size = path.stat().st_size
        last = size if end is None else min(end, size)
        first = max(0, last - most_bytes) if begin is None else min(begin, size)
        count, data = min(most_bytes, last - first), b""
        if count:
            with path.open("rb", buffering=0) as file:
                if begin is not None:
                    first, end_of_data = next_data(file.fileno(), first)
                    count = max(0, min(most_bytes, last - first, end_of_data - first))
                file.seek(first)
                data = file.read(count)
    except OSError:
        return None
    if begin is not None:
        whole = data[: data.rfind(b"\n") + 1] if first + count < size else b""
        return FilePart(whole or data, first, size)
    cut = LINE_END.search(data) if first else None
    if cut is None or cut.end() == len(data):
        return FilePart(data, first, size)
    return FilePart(data[cut.end() :], first + cut.end(), size)


def next_data(file: int, offset: int) -> tuple[int, int]:
    """Return where the next data of a file begins from an offset on, and where it ends.

    The middle of a long log is a hole while its program runs.
    """
    try:
        begin = os.lseek(file, offset, os.SEEK_DATA)
        return begin, os.lseek(file, begin, os.SEEK_HOLE)
    except OSError:  # the log ends there
        return offset, offset


def data_chunks(file: BinaryIO, most_bytes: int) -> Iterator[bytes]:
    """Yield the bytes of an unbuffered file from its position on, without its holes."""
    offset = file.tell()
    while True:
        offset, end = next_data(file.fileno(), offset)
        file.seek(offset)
        chunk = file.read(min(most_bytes, end - offset))
        if not chunk:
            return
        offset += len(chunk)
        yield chunk


def tail_offset(file: BinaryIO, lines: int, *, as_shown: bool = False) -> int:
    """Return where the last `lines` lines begin, or the last 16 MiB if those have fewer lines.

    Args:
        file: the file.
        lines: how many lines.
        as_shown: count lines as the screens show them, which also end them at a carriage return.
    """
    position = end = file.seek(0, 2)
    lowest = max(0, end - MOST_BYTES)
    count, following = 0, b""
    while position > lowest:
        size = min(BLOCK_BYTES, position - lowest)
        position -= size
        file.seek(position)
        block = file.read(size)
        if position + size == end:  # this end of a line begins no other line
            block = (_LAST_END if as_shown else _LAST_NEWLINE).sub(b"", block)
        data = block + following
        inside = block.count(b"\n")
        if as_shown:
            inside += block.count(b"\r") - data.count(b"\r\n")
        if count + inside < lines:
            count += inside
            following = b"\n" if block.startswith(b"\n") else b""
            continue
        matches = (_SHOWN_LINE_ENDS if as_shown else _NEWLINES).finditer(data)
        ends = [match.end() for match in matches if match.start() < len(block)]
        return position + ends[count - lines]
    return lowest


def last_lines(log: Path, lines: int, most_bytes: int = 1 << 16) -> list[str]:
    """Return the last lines of a log as screens show them, cut to a number of bytes; empty without a log."""
    try:
        with log.open("rb") as file:
            end = file.seek(0, 2)
            start = max(tail_offset(file, lines, as_shown=True), end - most_bytes)
            file.seek(start)
            data = file.read(end - start)
    except OSError:
        return []
    shown = LINE_END.split(_LAST_END.sub(b"", data)) if data else []
    return [line.decode(errors="replace") for line in shown]
