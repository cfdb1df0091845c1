"""The end of a log, found without reading the rest of it."""

from pathlib import Path
from typing import BinaryIO

BLOCK_BYTES = 1 << 16
MOST_BYTES = 16 << 20  # a log may be 10 GB long, and have no line end in it


def tail_offset(file: BinaryIO, lines: int) -> int:
    """Return where the last `lines` lines begin, or the last 16 MiB where those are fewer."""
    position = end = file.seek(0, 2)
    lowest = max(0, end - MOST_BYTES)
    found = 0
    while position > lowest:
        size = min(BLOCK_BYTES, position - lowest)
        position -= size
        file.seek(position)
        block = file.read(size)
        if position + size == end:
            block = block.removesuffix(b"\n")  # ends the last line, begins none
        inside = block.count(b"\n")
        if found + inside < lines:
            found += inside
            continue
        cut = len(block)
        for _ in range(lines - found):
            cut = block.rfind(b"\n", 0, cut)
        return position + cut + 1
    return lowest


def last_lines(log: Path, lines: int, most_bytes: int = 1 << 16) -> list[str]:
    """Return the last lines of a log, cut to so many bytes; none where there is no log."""
    try:
        with log.open("rb") as file:
            end = file.seek(0, 2)
            start = max(tail_offset(file, lines), end - most_bytes)
            file.seek(start)
            return file.read(end - start).decode(errors="replace").splitlines()
    except OSError:
        return []
