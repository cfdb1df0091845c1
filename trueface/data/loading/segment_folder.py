"""The folder of the segments of one decoding, and its limit in bytes."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from trueface.data.loading.pixel_segments import INDEX, PIXELS, SegmentWriter
from trueface.runtime.artifact import (
    CacheEntry,
    free_bytes,
    hold_exclusively,
    limit_bytes,
    make_room,
)

LIMIT = "TRUEFACE_DECODED_LIMIT"  # environment variable
OF_DISK, OF_MEMORY = 4, 2  # the limit where none is set: a quarter of the one, half of the other
SEGMENTS = 64  # parts of the limit: each part that is read takes a file descriptor
LEAST, MOST = 1 << 26, 1 << 30  # bytes of a segment, where the limit allows


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentFolder:
    """The segments of one decoding, in a limit that holds for all."""

    top: Path
    decoding: str
    limit: int  # bytes

    @property
    def path(self) -> Path:
        """Where the segments of this decoding lie."""
        return self.top / self.decoding

    @property
    def capacity(self) -> int:
        """Bytes of a new segment."""
        return min(max(self.limit // SEGMENTS, min(LEAST, self.limit // 4)), MOST)

    def writer(self, need: int) -> SegmentWriter | None:
        """Return a writer with space for an image of `need` bytes, or None at the limit.

        Raises:
            OSError: the disk is full, or the folder cannot be written.
        """
        if need > self.capacity:
            return None
        for segment in sorted(self.index_sizes()):
            if writer := SegmentWriter.adopt(self.path, segment, need):
                return writer
        with hold_exclusively(self.top / "lock"):
            if not make_room(_entries(self.top), self.capacity, self.limit, _remove):
                return None
            return SegmentWriter.create(self.path, self.capacity)

    def index_sizes(self) -> dict[str, int]:
        """Return how many bytes the index of each segment has.

        Raises:
            OSError: the folder is gone.
        """
        sizes: dict[str, int] = {}
        with os.scandir(self.path) as entries:
            for entry in entries:
                if entry.name.endswith(INDEX):
                    with contextlib.suppress(FileNotFoundError):
                        sizes[entry.name.removesuffix(INDEX)] = entry.stat().st_size
        return sizes


def usual_limit(top: Path) -> int:
    """Return the limit of decoded images below `top`, in bytes.

    Without TRUEFACE_DECODED_LIMIT it is a quarter of the disk space available for them, and at most
    half of the main memory. Reading images that are not in memory is hardly faster than decoding
    them.

    Raises:
        UsageError: the value of the variable is not a memory size.
    """
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    held = sum(entry.bytes for entry in _entries(top, on_disk=True))
    disk = free_bytes(top) + held
    return limit_bytes(LIMIT, os.environ, min(disk // OF_DISK, memory // OF_MEMORY))


def _entries(top: Path, *, on_disk: bool = False) -> Iterator[CacheEntry]:
    """Yield the segments of all decodings. Sizes are reserved bytes, or with `on_disk` the bytes on disk."""
    for pixels in top.glob(f"*/*{PIXELS}"):
        with contextlib.suppress(OSError):
            status = pixels.stat()
            used_at = status.st_mtime
            with contextlib.suppress(OSError):
                used_at = pixels.with_suffix(INDEX).stat().st_mtime
            size = status.st_blocks * 512 if on_disk else status.st_size
            yield CacheEntry(pixels, used_at, size)


def _remove(entry: CacheEntry) -> bool:
    """Remove a segment that no process writes or has mapped."""
    index = entry.path.with_suffix(INDEX)
    with contextlib.ExitStack() as locks:
        for path in (index, entry.path):
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:  # left by a process that was killed
                continue
            except OSError:
                return False
            locks.callback(os.close, descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return False
        for path in (index, entry.path):
            path.unlink(missing_ok=True)
    return True
