"""PNG files of which only the upper rows are needed.

A PNG is inflated and unfiltered from the top: whoever needs no row below a certain one can stop
there. A file is made lower by its header alone; the decoder then ends by itself.
"""

import struct
import zlib

SIGNATURE = b"\x89PNG\r\n\x1a\n"
HEADER = 33  # bytes: the signature, and the chunk that gives the size
WORTH = 0.9  # of the height: below more rows than that, stopping gains nothing


def size(content: bytes) -> tuple[int, int] | None:
    """Return width and height as the header has them; None: it is no PNG."""
    if content[:8] != SIGNATURE or content[12:16] != b"IHDR" or len(content) < HEADER:
        return None
    width, height = struct.unpack_from(">II", content, 16)
    return width, height


def lower(content: bytes, rows: int) -> bytes | None:
    """Return a file's upper rows as a file; None: take the whole.

    The whole is for files that are interlaced, animated, or damaged anywhere, also below.

    Args:
        content: of a PNG.
        rows: that are needed; one is the least.
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
