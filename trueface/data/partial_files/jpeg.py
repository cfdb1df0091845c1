"""JPEG files of which only the upper rows are needed.

A sequential JPEG is decoded in rows of cells from the top: a file that is made lower by its header
ends the decoder there. What comes after it is never looked at, so this is for files that were
decoded whole before, and found good.
"""

import struct
from typing import NamedTuple

CELL = 16  # rows; the highest that a cell is where colour has half the size
WORTH = 0.9  # of the height: below more rows than that, stopping gains nothing
SEQUENTIAL = frozenset({0xC0, 0xC1})  # Huffman-coded frames that are not progressive
TABLES = frozenset({0xC4, 0xDB, 0xDD, 0xFE}) | frozenset(range(0xE0, 0xF0))  # and comments


class Frame(NamedTuple):
    """The position of the height in a file, and its value."""

    at: int
    height: int


def lower(content: bytes, rows: int) -> bytes | None:
    """Return a file's upper part as a file, a little higher than `rows`; None: take the whole.

    Upsampling of colour looks beyond a cell: the lowest rows may differ from those of the whole,
    but none of the upper `rows`.
    """
    frame = _frame(content)
    if frame is None:
        return None
    kept = -(-max(rows, 1) // CELL) * CELL + CELL
    if kept > WORTH * frame.height:
        return None
    return content[: frame.at] + struct.pack(">H", kept) + content[frame.at + 2 :]


def _frame(content: bytes) -> Frame | None:
    """Return the frame of a sequential file whose components come in one scan."""
    frame, components, at = None, 0, 2
    while at + 10 <= len(content):
        mark, marker, length = struct.unpack_from(">BBH", content, at)
        if mark != 0xFF:
            return None
        if marker in SEQUENTIAL:
            frame = Frame(at + 5, struct.unpack_from(">H", content, at + 5)[0])
            components = content[at + 9]
        elif marker == 0xDA:  # the scan; its first byte is the number of components
            return frame if content[at + 4] == components else None
        elif marker not in TABLES:
            return None
        at += 2 + length
    return None
