"""Adds decoded images to a segment, which belongs to the writer as long as its process lives."""

import contextlib
import fcntl
import os
import secrets
import time
import zlib
from pathlib import Path

from trueface.data.loading.segments import (
    ALIGNMENT,
    CHANNELS,
    INDEX,
    PIXELS,
    RECORD,
    Pixels,
    Place,
    end_of,
    packed,
)


class SegmentWriter:
    """The one writer of a segment. See `new` and `adopt`."""

    def __init__(self, segment: str, index: int, pixels: int) -> None:
        self.segment = segment
        self._index, self._pixels = index, pixels  # descriptors; the index is locked
        self._capacity = os.fstat(pixels).st_size
        content = os.pread(index, os.fstat(index).st_size, 0)
        self._rows = len(content) // RECORD.size  # half a record, of a full disk, is overwritten
        self._end = end_of(content)

    @classmethod
    def new(cls, folder: Path, capacity: int) -> "SegmentWriter | None":
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
        return cls._locked(segment, index, pixels)

    @classmethod
    def adopt(cls, folder: Path, segment: str, need: int) -> "SegmentWriter | None":
        """Go on with a segment that has no writer and room for `need` bytes; None where it has not."""
        try:
            index = os.open(folder / f"{segment}{INDEX}", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            pixels = os.open(folder / f"{segment}{PIXELS}", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            os.close(index)
            return None
        writer = cls._locked(segment, index, pixels)
        if writer is not None and not writer.has_room(need):
            writer.close()
            return None
        return writer

    @classmethod
    def _locked(cls, segment: str, index: int, pixels: int) -> "SegmentWriter | None":
        try:
            fcntl.flock(index, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(index).st_nlink and os.fstat(pixels).st_nlink:
                return cls(segment, index, pixels)
        except OSError:
            pass
        os.close(index)
        os.close(pixels)
        return None

    def has_room(self, need: int) -> bool:
        """Tell whether an image of so many bytes fits in."""
        return self._begin() + need <= self._capacity

    def append(self, key: bytes, image: Pixels) -> Place:
        """Add an image, for which there is room, and return where it lies.

        Raises:
            OSError: the disk is full; nothing was added.
        """
        height, width, channels = image.shape
        if channels != CHANNELS or not image.flags.c_contiguous:
            raise ValueError(f"an image of shape {image.shape} is not (H, W, 3) in one piece")
        content = image.data.cast("B")
        place = Place(self.segment, self._rows, self._begin(), height, width, zlib.crc32(content))
        _write(self._pixels, content, place.offset)
        _write(self._index, memoryview(packed(key, place)), self._rows * RECORD.size)
        self._rows, self._end = self._rows + 1, place.end
        return place

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
