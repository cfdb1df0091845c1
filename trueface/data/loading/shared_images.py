"""Decoded images that all jobs of a machine share: the first that wants one decodes it for all.

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
import os
import platform
import struct
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor

from trueface.data.decoding import decode
from trueface.data.loading.segments import (
    RECORD,
    Pixels,
    Place,
    SegmentFolder,
    SegmentMap,
    SegmentWriter,
    forget,
    forget_all,
    read_index,
    unpacked,
    usual_limit,
)
from trueface.runtime.artifact import FileMark, cache_folder, make_private
from trueface.runtime.errors import BadImageError
from trueface.runtime.files import format_bytes

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
        scale_to: see `decoding.decode`.
        clock: the time in ns.
        decoder: from a path to pixels, (3, H, W) uint8.
        patience_s: how long to wait for a process that decodes an image.
    """

    def __init__(
        self,
        folder: SegmentFolder,
        *,
        scale_to: int | None = None,
        clock: Callable[[], int] = time.time_ns,
        decoder: Callable[..., Tensor] = decode,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._folder, self._scale_to, self._patience_s = folder, scale_to, patience_s
        self._clock, self._decoder = clock, decoder
        self._places: dict[bytes, Place] = {}
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
                if not leave.is_set() and self._claim(key):
                    try:
                        results[key] = self._made(key, path)
                    finally:
                        self._release(key)
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
            pixels = self._decoder(path, scale_to=self._scale_to)
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
        if segment is None:
            del self._places[key]
            return None
        pixels = segment.pixels(place)
        if pixels is None or not self._is_whole(key, place, pixels):
            del self._places[key]
            forget(self._folder.path, place)
            return None
        segment.mark_used()
        return torch.from_numpy(pixels).permute(2, 0, 1)

    def _is_whole(self, key: bytes, place: Place, pixels: Pixels) -> bool:
        if key not in self._whole:
            if zlib.crc32(pixels.data) != place.checksum:
                log.warning(
                    "decoded=%s/%s row=%d state=damaged, decoded again",
                    self._folder.path, place.segment, place.row,
                )  # fmt: skip
                return False
            self._whole.add(key)
        return True

    def _map(self, segment: str) -> SegmentMap | None:
        if segment not in self._maps:
            try:
                self._maps[segment] = SegmentMap(self._folder.path, segment)
            except (OSError, ValueError) as error:
                log.info("decoded=%s state=not used reason=%s", segment, error)
                self._maps[segment] = None
                if isinstance(error, FileNotFoundError | ValueError):
                    forget_all(self._folder.path, segment)
        return self._maps[segment]

    def _store(self, key: bytes, image: Pixels) -> None:
        """Add an image where there is room; else nothing more is added by this process."""
        if image.nbytes > self._folder.capacity:
            self._too_large.add(key)
            return
        try:
            if self._writer is not None and not self._writer.has_room(image.nbytes):
                self._writer.close()
                self._writer = None
            if self._writer is None:
                self._writer = self._folder.writer(image.nbytes)
            if self._writer is None:
                self._give_up(logging.INFO, f"no room below {format_bytes(self._folder.limit)}")
                return
            place = self._writer.append(key, image)
        except OSError as error:
            self._give_up(logging.WARNING, str(error))
            return
        self._places[key] = place
        self._whole.add(key)

    def _give_up(self, level: int, reason: str) -> None:
        self._is_full = True
        worker = torch.utils.data.get_worker_info()
        if worker is None or worker.id == 0:  # one line, not one a process
            log.log(
                level, "decoded=%s state=no more images are added reason=%s",
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

    def _claim(self, key: bytes) -> bool:
        """Begin to decode an image for all; False: another process does, or there is no room."""
        if self._is_full:
            return False
        try:
            fcntl.lockf(self._claims, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, zlib.crc32(key))
        except OSError:
            return False
        return True

    def _release(self, key: bytes) -> None:
        with contextlib.suppress(OSError):
            fcntl.lockf(self._claims, fcntl.LOCK_UN, 1, zlib.crc32(key))

    def _begin_as_a_fork(self) -> None:
        """Leave the writer to the parent, and a lock that one of its threads may have held."""
        self._pid, self._lock = os.getpid(), threading.Lock()
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def open_shared_images(scale_to: int | None) -> SharedImages | None:
    """Return the decoded images of this user's cache; None, with a warning, where it cannot be used.

    Args:
        scale_to: see `decoding.decode`; None: the whole image.

    Raises:
        UsageError: TRUEFACE_DECODED_LIMIT is no amount of memory.
    """
    cache = cache_folder()
    if cache is None:
        log.warning("decoded=none reason=there is no home; set TRUEFACE_CACHE to a folder")
        return None
    top = cache / "decoded"
    folder = SegmentFolder(top=top, decoding=_decoding(scale_to), limit=usual_limit(top))
    try:
        make_private(top)
        make_private(folder.path)
        return SharedImages(folder, scale_to=scale_to)
    except OSError as error:
        log.warning("decoded=%s state=not used reason=%s", top, error)
        return None


def _decoding(scale_to: int | None) -> str:
    """Return the name of what pixels depend on besides the file."""
    # another version may round otherwise; inodes mean nothing on a machine that has the same home
    parts = [SCHEMA, scale_to, version("pillow"), version("simplejpeg"), platform.node()]
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
