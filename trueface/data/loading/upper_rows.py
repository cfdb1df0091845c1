"""The upper rows of a JPEG or PNG file, as a file of their own that takes less time to decode."""

import struct
import zlib
from typing import NamedTuple

CELL = 16  # rows; the highest that a cell is where colour has half the size
WORTH = 0.9  # fraction of the height: below more rows than that, stopping gains nothing
SEQUENTIAL = frozenset({0xC0, 0xC1})  # Huffman-coded frames that are not progressive
TABLES = frozenset({0xC4, 0xDB, 0xDD, 0xFE}) | frozenset(range(0xE0, 0xF0))  # and comments
SIGNATURE = b"\x89PNG\r\n\x1a\n"
HEADER = 33  # bytes: the signature, and the chunk that gives the size


class JpegFrame(NamedTuple):
    """The position of the height in a file, and its value."""

    at: int
    height: int


def lower_jpeg(content: bytes, rows: int) -> bytes | None:
    """Return a file with the upper part, slightly higher than `rows`, or None for the whole.

    Chroma upsampling reads beyond a block. The lowest rows may differ from those of the whole
    image, but none of the upper `rows`.
    """
    frame = _frame(content)
    if frame is None:
        return None
    kept = -(-max(rows, 1) // CELL) * CELL + CELL
    if kept > WORTH * frame.height:
        return None
    return content[: frame.at] + struct.pack(">H", kept) + content[frame.at + 2 :]


def _frame(content: bytes) -> JpegFrame | None:
    """Return the frame of a sequential file whose components come in one scan."""
    frame, components, at = None, 0, 2
    while at + 10 <= len(content):
        mark, marker, length = struct.unpack_from(">BBH", content, at)
        if mark != 0xFF:
            return None
        if marker in SEQUENTIAL:
            frame = JpegFrame(at + 5, struct.unpack_from(">H", content, at + 5)[0])
            components = content[at + 9]
        elif marker == 0xDA:  # the scan; its first byte is the number of components
            return frame if content[at + 4] == components else None
        elif marker not in TABLES:
            return None
        at += 2 + length
    return None


def png_size(content: bytes) -> tuple[int, int] | None:
    """Return width and height from the header, or None if the file is not a PNG."""
    if content[:8] != SIGNATURE or content[12:16] != b"IHDR" or len(content) < HEADER:
        return None
    width, height = struct.unpack_from(">II", content, 16)
    return width, height


def lower_png(content: bytes, rows: int) -> bytes | None:
    """Return a file with the upper rows, or None for the whole.

    The whole is required for files that are interlaced, animated, or damaged anywhere, also below.

    Args:
        content: of a PNG.
        rows: number of needed rows, at least one.
    """
    _, height, _, _, _, _, interlaced = struct.unpack_from(">IIBBBBB", content, 16)
    if interlaced or rows > WORTH * height or not _sound(content):
        return None
    header = content[12:20] + struct.pack(">I", max(1, rows)) + content[24:29]
    checksum = struct.pack(">I", zlib.crc32(header))
    return content[:12] + header + checksum + content[HEADER:]


def _sound(content: bytes) -> bool:
    """Return whether every chunk is whole, down to the last, and the image is one picture."""
    view, at = memoryview(content), 8
    while at + 12 <= len(view):
        length = int.from_bytes(view[at : at + 4], "big")
        kind, end = bytes(view[at + 4 : at + 8]), at + 12 + length
        if kind == b"acTL" or end > len(view):
            return False
        if zlib.crc32(view[at + 4 : end - 4]) != int.from_bytes(view[end - 4 : end], "big"):
            return False
        if kind == b"IEND":
            return True
        at = end
    return False
