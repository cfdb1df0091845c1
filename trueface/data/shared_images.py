"""Decoded images that all jobs of a machine share: the first that wants one decodes it for all.

<cache>/decoded/lock                       held while room is made
<cache>/decoded/<decoding>/                images that were decoded alike
<cache>/decoded/<decoding>/claims          locked byte by byte by whoever decodes an image now
<cache>/decoded/<decoding>/<name>.pixels   images one after the other, each (H, W, 3) uint8; sparse, of its final size at once
<cache>/decoded/<decoding>/<name>.index    one record an image, in the order in which they came

An image is there when its record is, and the record is written last. A process that is killed
leaves pixels without a record, which the next writer overwrites. After a power cut a record may
lie there without its pixels: its checksum tells. A segment belongs to its writer as long as that
process lives; all read it. All decodings of a machine share one limit.

An image is named by its file's device, inode, size and times, so one that was replaced is another
image. While a process decodes, the others that want the same image go on with the next ones of
their batch, and come back. So jobs that begin together, with the same images in the same order,
share the work instead of watching each other.

Whatever goes wrong here, the caller decodes by itself.
"""

import contextlib
import fcntl
import hashlib
import logging
import mmap
import os
import platform
import secrets
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trueface.data.decoding import Scaling, decode
from trueface.runtime.artifact import (
    CacheEntry,
    FileMark,
    cache_folder,
    exclusive,
    free_bytes,
    limit_bytes,
    make_private,
    make_room,
)
from trueface.runtime.errors import BadImageError
from trueface.runtime.files import format_bytes

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


def unpacked(
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
        # that of a deleted one is wrong, as its key is zeros
        if own == zlib.crc32(content[begin : begin + RECORD.size - 4]):
            yield key, PixelPlace(segment, row, offset, height, width, checksum)


def read_index(folder: Path, segment: str, begin: int = 0) -> bytes:
    """Return the index of a segment from a byte on; nothing where it is gone."""
    with contextlib.suppress(OSError), (folder / f"{segment}{INDEX}").open("rb") as file:
        file.seek(begin)
        return file.read()
    return b""


def forget(folder: Path, place: PixelPlace) -> None:
    """Delete the record of an image whose pixels are not what they were."""
    with contextlib.suppress(OSError), (folder / f"{place.segment}{INDEX}").open("r+b") as file:
        file.seek(place.row * RECORD.size)
        file.write(bytes(KEY_BYTES))


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

    def pixels(self, place: PixelPlace) -> Pixels | None:
        """Return an image, a view of the file; None where the file ends before it does."""
        if place.end > len(self._memory):
            return None
        shape = place.height, place.width, CHANNELS
        return np.ndarray(shape, np.uint8, self._memory, place.offset)

    def mark_used(self) -> None:
        """Note that it is in use, for those who look for the least recently used."""
        if time.monotonic() - self._used_at > MARK_EVERY_S:
            self._used_at = time.monotonic()
            with contextlib.suppress(OSError):
                os.utime(self._index)


class SegmentWriter:
    """The one writer of a segment. See `new` and `adopt`."""

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
            with contextlib.ExitStack() as opened:
                index = os.open(folder / f"{segment}{INDEX}", os.O_RDWR | os.O_CLOEXEC)
                opened.callback(os.close, index)
                pixels = os.open(folder / f"{segment}{PIXELS}", os.O_RDWR | os.O_CLOEXEC)
                opened.pop_all()
        except OSError:
            return None
        writer = cls._locked(segment, index, pixels)
        if writer is not None and not writer.has_room(need):
            writer.close()
            return None
        return writer

    @classmethod
    def _locked(cls, segment: str, index: int, pixels: int) -> "SegmentWriter | None":
        with contextlib.suppress(OSError):
            fcntl.flock(index, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(index).st_nlink and os.fstat(pixels).st_nlink:
                return cls(segment, index, pixels)
        os.close(index)
        os.close(pixels)
        return None

    def has_room(self, need: int) -> bool:
        """Tell whether an image of so many bytes fits in."""
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
        place = PixelPlace(
            self.segment, self._rows, self._begin(), height, width, zlib.crc32(content)
        )
        _write(self._pixels, content, place.offset)
        record = RECORD.pack(key, place.offset, height, width, place.checksum, 0)[:-4]
        record += zlib.crc32(record).to_bytes(4, "little")
        _write(self._index, memoryview(record), self._rows * RECORD.size)
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


LIMIT = "TRUEFACE_DECODED_LIMIT"  # environment variable
OF_DISK, OF_MEMORY = 4, 2  # the limit where none is set: a quarter of the one, half of the other
SEGMENTS = 64  # that the limit is divided into: each that is read takes a file descriptor
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
        """Return a writer with room for an image of `need` bytes; None: the limit is reached.

        Raises:
            OSError: the disk is full, or the folder cannot be written.
        """
        if need > self.capacity:
            return None
        for segment in sorted(self.index_sizes()):
            if writer := SegmentWriter.adopt(self.path, segment, need):
                return writer
        with exclusive(self.top / "lock"):
            if not make_room(_entries(self.top), self.capacity, self.limit, _remove):
                return None
            return SegmentWriter.new(self.path, self.capacity)

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
    """Return how many bytes of decoded images there may be below `top`.

    Where TRUEFACE_DECODED_LIMIT sets none: a quarter of what the disk has for them, and no more
    than half of the main memory, as what does not stay in memory is hardly sooner read than decoded.

    Raises:
        UsageError: the variable holds no amount of memory.
    """
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    held = sum(entry.bytes for entry in _entries(top, written=True))
    disk = free_bytes(top) + held
    return limit_bytes(LIMIT, os.environ, min(disk // OF_DISK, memory // OF_MEMORY))


def _entries(top: Path, *, written: bool = False) -> Iterator[CacheEntry]:
    """Yield the segments of all decodings; bytes are those reserved, or those written so far."""
    for pixels in top.glob(f"*/*{PIXELS}"):
        with contextlib.suppress(OSError):
            status = pixels.stat()
            used_at = status.st_mtime
            with contextlib.suppress(OSError):
                used_at = pixels.with_suffix(INDEX).stat().st_mtime
            size = status.st_blocks * 512 if written else status.st_size
            yield CacheEntry(pixels, used_at, size)


def _remove(entry: CacheEntry) -> bool:
    """Remove a segment that nobody writes or has mapped."""
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


SCHEMA = 1
PATIENCE_S = 5.0  # it may have been put to sleep
LOOK_EVERY_S = 0.001  # while waiting for it
KEY = struct.Struct("<2Q3q")  # device, inode, size, mtime, ctime

Fetched = Tensor | BadImageError | None  # None: the caller decodes it

log = logging.getLogger(__name__)


class SharedImages:
    """Decoded images of one decoding, for this process and those that it forks.

    Args:
        folder: where they lie; its path must exist.
        scaling: see `decoding.decode`.
        clock: the time in ns.
        decoder: from a path to pixels, (3, H, W) uint8.
        patience_s: how long to wait for a process that decodes an image.
    """

    def __init__(
        self,
        folder: SegmentFolder,
        *,
        scaling: Scaling | None = None,
        clock: Callable[[], int] = time.time_ns,
        decoder: Callable[..., Tensor] = decode,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._folder, self._scaling, self._patience_s = folder, scaling, patience_s
        self._clock, self._decoder = clock, decoder
        self._places: dict[bytes, PixelPlace] = {}
        self._read: dict[str, int] = {}  # bytes of each index
        self._maps: dict[str, SegmentMap | None] = {}  # None: it is gone
        self._whole: set[bytes] = set()  # images whose checksum was right
        self._too_large: set[bytes] = set()  # images that no segment takes
        self._writer: SegmentWriter | None = None
        self._is_full = False
        self._claims = os.open(folder.path / "claims", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        self._pid, self._lock = os.getpid(), threading.Lock()

    def fetch(self, paths: Sequence[Path], leave: threading.Event | None = None) -> list[Fetched]:
        """Return the pixels of images, (3, H, W) uint8 each, or why there are none.

        None stands for an image that is not held here, as there is no room or its file is too
        young to be told from its next version.

        Args:
            paths: of the images.
            leave: set when the result is not wanted any more; it is then incomplete.
        """
        if self._pid != os.getpid():
            self._begin_as_a_fork()
        keys = [self._key(path) for path in paths]
        results: dict[bytes, Fetched] = {}
        wanted: dict[bytes, Path] = {}
        with self._lock:
            if any(key is not None and key not in self._places for key in keys):
                self._look_for_more()
            for key, path in zip(keys, paths, strict=True):
                if key is not None and (pixels := self._stored(key)) is not None:
                    results[key] = pixels
                elif key is not None and key not in self._too_large:
                    wanted[key] = path
        self._make(wanted, results, leave or threading.Event())
        return [None if key is None else results.get(key) for key in keys]

    def _make(
        self, wanted: dict[bytes, Path], results: dict[bytes, Fetched], leave: threading.Event
    ) -> None:
        """Decode what no other process decodes; wait for the others."""
        patient_until = time.monotonic() + self._patience_s
        while wanted and not self._is_full and not leave.is_set():
            before = len(wanted)
            for key, path in list(wanted.items()):
                with self._claimed(key, leave) as is_ours:
                    if is_ours:
                        results[key] = self._made(key, path)
                        del wanted[key]
            if len(wanted) < before:
                patient_until = time.monotonic() + self._patience_s
            elif time.monotonic() > patient_until:
                break
            else:
                time.sleep(LOOK_EVERY_S)

    def _made(self, key: bytes, path: Path) -> Fetched:
        """Return an image that nobody else decodes now, and store it if nobody has."""
        with self._lock:
            self._look_for_more()
            if (pixels := self._stored(key)) is not None:
                return pixels
        try:
            pixels = self._decoder(path, scaling=self._scaling)
        except BadImageError as error:
            return error
        if self._key(path) == key:  # else it was replaced meanwhile, and this may be either
            with self._lock:
                self._store(key, pixels.permute(1, 2, 0).contiguous().numpy())
                return self._stored(key) if key in self._whole else pixels
        return pixels

    def _stored(self, key: bytes) -> Tensor | None:
        place = self._places.get(key)
        if place is None:
            return None
        segment = self._map(place.segment)
        pixels = None if segment is None else segment.pixels(place)
        if segment is not None and pixels is not None:
            if key in self._whole or zlib.crc32(pixels.data) == place.checksum:
                self._whole.add(key)
                segment.mark_used()
                return torch.from_numpy(pixels).permute(2, 0, 1)
            log.warning(
                "decoded=%s/%s row=%d state=damaged, decoding again",
                self._folder.path, place.segment, place.row,
            )  # fmt: skip
        del self._places[key]
        if segment is not None:
            forget(self._folder.path, place)
        return None

    def _map(self, segment: str) -> SegmentMap | None:
        if segment not in self._maps:
            try:
                self._maps[segment] = SegmentMap(self._folder.path, segment)
            except (OSError, ValueError) as error:
                log.info("decoded=%s state=not used reason=%s", segment, error)
                self._maps[segment] = None
                if isinstance(error, FileNotFoundError | ValueError):  # its pixels are gone
                    with contextlib.suppress(OSError):
                        (self._folder.path / f"{segment}{INDEX}").unlink()
        return self._maps[segment]

    def _store(self, key: bytes, image: Pixels) -> None:
        """Add an image where there is room; else nothing more is added by this process."""
        if image.nbytes > self._folder.capacity:
            self._too_large.add(key)
            return
        level, reason = logging.INFO, f"the limit of {format_bytes(self._folder.limit)} is reached"
        try:
            if self._writer is not None and not self._writer.has_room(image.nbytes):
                self._writer.close()
                self._writer = None
            if self._writer is None:
                self._writer = self._folder.writer(image.nbytes)
            if self._writer is not None:
                self._places[key] = self._writer.append(key, image)
                self._whole.add(key)
                return
        except OSError as error:
            level, reason = logging.WARNING, str(error)
        self._is_full = True
        worker = torch.utils.data.get_worker_info()
        if worker is None or worker.id == 0:  # one line, not one a process
            log.log(
                level, "decoded=%s state=full, no more images are added reason=%s",
                self._folder.path, reason,
            )  # fmt: skip

    def _look_for_more(self) -> None:
        """Take in what other processes have added."""
        try:
            sizes = self._folder.index_sizes()
        except OSError:
            return
        for segment, size in sizes.items():
            begin = self._read.get(segment, 0)
            if size - begin < RECORD.size:
                continue
            content = read_index(self._folder.path, segment, begin)
            self._places.update(unpacked(segment, content, begin // RECORD.size))
            self._read[segment] = begin + len(content) - len(content) % RECORD.size

    def _key(self, path: Path) -> bytes | None:
        """Return the name of what a file holds now; None where none tells it from what comes next."""
        now = self._clock()
        try:
            mark = FileMark.of(path)
        except OSError:
            return None
        return None if mark.is_racy(now) else KEY.pack(*mark)

    @contextlib.contextmanager
    def _claimed(self, key: bytes, leave: threading.Event) -> Iterator[bool]:
        """Decode an image for all in this block; False: another process does, or none is wanted."""
        is_ours, place = False, zlib.crc32(key)
        if not (self._is_full or leave.is_set()):
            with contextlib.suppress(OSError):
                fcntl.lockf(self._claims, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
                is_ours = True
        try:
            yield is_ours
        finally:
            if is_ours:
                with contextlib.suppress(OSError):
                    fcntl.lockf(self._claims, fcntl.LOCK_UN, 1, place)

    def _begin_as_a_fork(self) -> None:
        """Leave the writer to the parent, and a lock that one of its threads may have held."""
        self._pid, self._lock = os.getpid(), threading.Lock()
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def open_shared_images(scaling: Scaling | None) -> SharedImages | None:
    """Return the decoded images of this user's cache; None, with a warning, where it cannot be used.

    Args:
        scaling: see `decoding.decode`.

    Raises:
        UsageError: TRUEFACE_DECODED_LIMIT is no amount of memory.
    """
    cache = cache_folder()
    if cache is None:
        log.warning("decoded=none reason=there is no home folder; set TRUEFACE_CACHE to a folder")
        return None
    top = cache / "decoded"
    folder = SegmentFolder(top=top, decoding=_decoding(scaling), limit=usual_limit(top))
    try:
        make_private(top)
        make_private(folder.path)
        return SharedImages(folder, scaling=scaling)
    except OSError as error:
        log.warning("decoded=%s state=not used reason=%s", top, error)
        return None


def _decoding(scaling: Scaling | None) -> str:
    """Return the name of what pixels depend on besides the file."""
    # another version may round otherwise; inodes mean nothing on a machine that has the same home
    parts = [SCHEMA, scaling, version("pillow"), version("simplejpeg"), platform.node()]
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
