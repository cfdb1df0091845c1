"""Segments of decoded images: a file of pixels and its index, with one writer and many readers."""

import contextlib
import fcntl
import mmap
import os
import secrets
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
MARK_EVERY_S = 60.0  # between two marks that a segment is in use
RECORD = struct.Struct("<40sQIIII")  # key, offset, height, width, checksum of pixels, of all that
Pixels = NDArray[np.uint8]  # (H, W, 3)


class PixelPlace(NamedTuple):
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


def unpack_records(
    segment: str, content: bytes, first_row: int = 0
) -> Iterator[tuple[bytes, PixelPlace]]:
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
        # the checksum of a deleted record is wrong, as its key is zeros
        if own == zlib.crc32(content[begin : begin + RECORD.size - 4]):
            yield key, PixelPlace(segment, row, offset, height, width, checksum)


def read_index(folder: Path, segment: str, begin: int = 0) -> bytes:
    """Return the index of a segment from a byte on; nothing where it is gone."""
    with contextlib.suppress(OSError), (folder / f"{segment}{INDEX}").open("rb") as file:
        file.seek(begin)
        return file.read()
    return b""


def delete_record(folder: Path, location: PixelPlace) -> None:
    """Delete the record of an image whose pixels are not what they were."""
    with contextlib.suppress(OSError), (folder / f"{location.segment}{INDEX}").open("r+b") as file:
        file.seek(location.row * RECORD.size)
        file.write(bytes(KEY_BYTES))


class SegmentMap:
    """The memory-mapped pixels of a segment.

    A mapped segment is not removed to free space.

    Raises:
        OSError: the segment is missing or under removal, or there is no address space for it.
        ValueError: the segment is empty.
    """

    def __init__(self, folder: Path, segment: str) -> None:
        descriptor = os.open(folder / f"{segment}{PIXELS}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            # the map keeps a copy of the descriptor, and the lock with it
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_nlink == 0:
                raise FileNotFoundError(f"{segment} was removed")
            # torch requires writable memory; changes are private to this process
            self._memory = mmap.mmap(descriptor, 0, access=mmap.ACCESS_COPY)
        finally:
            os.close(descriptor)
        self._index = folder / f"{segment}{INDEX}"
        self._used_at = 0.0

    def pixels(self, location: PixelPlace) -> Pixels | None:
        """Return an image, a view of the file; None where the file ends before it does."""
        if location.end > len(self._memory):
            return None
        shape = location.height, location.width, CHANNELS
        return np.ndarray(shape, np.uint8, self._memory, location.offset)

    def mark_used(self) -> None:
        """Note that it is in use, for those who look for the least recently used."""
        if time.monotonic() - self._used_at > MARK_EVERY_S:
            self._used_at = time.monotonic()
            with contextlib.suppress(OSError):
                os.utime(self._index)


class SegmentWriter:
    """The one writer of a segment. See `create` and `adopt`."""

    def __init__(self, segment: str, index: int, pixels: int) -> None:
        self.segment = segment
        self._index, self._pixels = index, pixels  # descriptors; the index is locked
        self._capacity = os.fstat(pixels).st_size
        content = os.pread(index, os.fstat(index).st_size, 0)
        self._rows = len(content) // RECORD.size  # half a record, of a full disk, is overwritten
        # behind all that a record ever meant: a process may still use what was damaged or deleted since
        meant = RECORD.iter_unpack(content[: self._rows * RECORD.size])
        self._end = max((PixelPlace("", 0, *fields[1:5]).end for fields in meant), default=0)

    @classmethod
    def create(cls, folder: Path, capacity: int) -> "SegmentWriter | None":
        """Make a segment; None where another process has taken it over already.

        Raises:
            OSError: the disk is full, or the folder cannot be written.
        """
        segment = f"{time.time_ns():016x}{secrets.token_hex(4)}"
        how = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC
        pixels = os.open(folder / f"{segment}{PIXELS}", how, 0o600)
        try:
            os.ftruncate(pixels, capacity)
            index = os.open(folder / f"{segment}{INDEX}", how, 0o600)
        except BaseException:
            os.close(pixels)
            with contextlib.suppress(OSError):
                (folder / f"{segment}{PIXELS}").unlink()
            raise
        return cls._try_lock(segment, index, pixels)

    @classmethod
    def adopt(cls, folder: Path, segment: str, need: int) -> "SegmentWriter | None":
        """Go on with a segment that has no writer and room for `need` bytes; None where it has not."""
        try:
            with contextlib.ExitStack() as opened:
                index = os.open(folder / f"{segment}{INDEX}", os.O_RDWR | os.O_CLOEXEC)
                opened.callback(os.close, index)
                pixels = os.open(folder / f"{segment}{PIXELS}", os.O_RDWR | os.O_CLOEXEC)
                opened.pop_all()
        except OSError:
            return None
        writer = cls._try_lock(segment, index, pixels)
        if writer is not None and not writer.has_room(need):
            writer.close()
            return None
        return writer

    @classmethod
    def _try_lock(cls, segment: str, index: int, pixels: int) -> "SegmentWriter | None":
        with contextlib.suppress(OSError):
            fcntl.flock(index, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(index).st_nlink and os.fstat(pixels).st_nlink:
                return cls(segment, index, pixels)
        os.close(index)
        os.close(pixels)
        return None

    def has_room(self, need: int) -> bool:
        """Return whether an image of this number of bytes fits into the segment."""
        return self._begin() + need <= self._capacity

    def append(self, key: bytes, image: Pixels) -> PixelPlace:
        """Add an image, for which there is room, and return where it lies.

        Raises:
            OSError: the disk is full; nothing was added.
        """
        height, width, channels = image.shape
        if channels != CHANNELS or not image.flags.c_contiguous:
            raise ValueError(f"an image of shape {image.shape} is not a contiguous (H, W, 3) array")
        content = image.data.cast("B")
        location = PixelPlace(
            self.segment, self._rows, self._begin(), height, width, zlib.crc32(content)
        )
        _write(self._pixels, content, location.offset)
        record = RECORD.pack(key, location.offset, height, width, location.checksum, 0)[:-4]
        record += zlib.crc32(record).to_bytes(4, "little")
        _write(self._index, memoryview(record), self._rows * RECORD.size)
        self._rows, self._end = self._rows + 1, location.end
        return location

    def close(self) -> None:
        """Leave the segment to others."""
        os.close(self._index)
        os.close(self._pixels)

    def _begin(self) -> int:
        return -(-self._end // ALIGNMENT) * ALIGNMENT


def _write(descriptor: int, content: memoryview, offset: int) -> None:
    while content:
        written = os.pwrite(descriptor, content, offset)
        content, offset = content[written:], offset + written
