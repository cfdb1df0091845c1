"""Decoded images in a file, and the list of what it holds: written by one process, read by all.

<name>.pixels   images one after the other, each (H, W, 3) uint8; sparse, of its final size at once
<name>.index    one record an image, in the order in which they came

An image is there when its record is, and the record is written last. A process that is killed
leaves pixels without a record, which the next writer overwrites. After a power cut a record may
lie there without its pixels: its checksum tells.
"""

import contextlib
import fcntl
import mmap
import os
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

PIXELS, INDEX = ".pixels", ".index"
CHANNELS = 3
ALIGNMENT = 64  # bytes: a line of the processor's cache
KEY_BYTES = 40
RECORD = struct.Struct("<40sQIIII")  # key, offset, height, width, checksum of pixels, of all that

Pixels = NDArray[np.uint8]  # (H, W, 3)


class Place(NamedTuple):
    """Where an image lies; a NamedTuple, as there may be hundreds of thousands."""

    segment: str  # its name
    row: int  # in its index
    offset: int  # bytes
    height: int
    width: int
    checksum: int  # CRC-32 of the pixels

    @property
    def end(self) -> int:
        """The first byte behind it."""
        return self.offset + self.height * self.width * CHANNELS


def packed(key: bytes, place: Place) -> bytes:
    """Return the record of an image."""
    body = RECORD.pack(key, place.offset, place.height, place.width, place.checksum, 0)[:-4]
    return body + zlib.crc32(body).to_bytes(4, "little")


def unpacked(segment: str, content: bytes, first_row: int = 0) -> Iterator[tuple[bytes, Place]]:
    """Yield the images of whole records, in their order; damaged and deleted ones are left out.

    Args:
        segment: its name.
        content: of its index, from a record's beginning.
        first_row: which record that is.
    """
    whole = len(content) - len(content) % RECORD.size
    for row, fields in enumerate(RECORD.iter_unpack(content[:whole]), first_row):
        key, offset, height, width, checksum, own = fields
        begin = (row - first_row) * RECORD.size
        # that of a deleted one is wrong, as its key is zeros
        if own == zlib.crc32(content[begin : begin + RECORD.size - 4]):
            yield key, Place(segment, row, offset, height, width, checksum)


def read_index(folder: Path, segment: str, begin: int = 0) -> bytes:
    """Return the index of a segment from a byte on; nothing where it is gone."""
    with contextlib.suppress(OSError), (folder / f"{segment}{INDEX}").open("rb") as file:
        file.seek(begin)
        return file.read()
    return b""


def end_of(content: bytes) -> int:
    """Return the first byte of a segment that no record of its index has ever meant.

    Damaged and deleted records count: a process that read one before may still use its pixels.
    """
    whole = len(content) - len(content) % RECORD.size
    return max(
        (Place("", 0, *fields[1:5]).end for fields in RECORD.iter_unpack(content[:whole])),
        default=0,
    )


def forget(folder: Path, place: Place) -> None:
    """Delete the record of an image whose pixels are not what they were."""
    with contextlib.suppress(OSError), (folder / f"{place.segment}{INDEX}").open("r+b") as file:
        file.seek(place.row * RECORD.size)
        file.write(bytes(KEY_BYTES))


def forget_all(folder: Path, segment: str) -> None:
    """Delete the index of a segment whose pixels are gone."""
    with contextlib.suppress(OSError):
        (folder / f"{segment}{INDEX}").unlink()


class SegmentMap:
    """A segment's pixels in memory, as the system reads them from the disk.

    It stays whole while this exists: what is held by a map is not removed to make room.

    Raises:
        OSError: it is gone, about to be removed, or there is no address space for it.
        ValueError: it is empty.
    """

    def __init__(self, folder: Path, segment: str) -> None:
        descriptor = os.open(folder / f"{segment}{PIXELS}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            # the map keeps a copy of the descriptor, and the lock with it
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_nlink == 0:
                raise FileNotFoundError(f"{segment} was removed")
            # torch wants memory that could be written; what is written stays in this process
            self._memory = mmap.mmap(descriptor, 0, access=mmap.ACCESS_COPY)
        finally:
            os.close(descriptor)
        self._index = folder / f"{segment}{INDEX}"
        self._used_at = 0.0

    def pixels(self, place: Place) -> Pixels | None:
        """Return an image, a view of the file; None where the file ends before it does."""
        if place.end > len(self._memory):
            return None
        count = place.height * place.width * CHANNELS
        flat = np.frombuffer(self._memory, np.uint8, count, place.offset)
        return flat.reshape(place.height, place.width, CHANNELS)

    def mark_used(self, every_s: float = 60.0) -> None:
        """Note that it is in use, for those who look for the least recently used."""
        if time.monotonic() - self._used_at > every_s:
            self._used_at = time.monotonic()
            with contextlib.suppress(OSError):
                os.utime(self._index)
