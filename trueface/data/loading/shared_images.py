"""Decoded images that all jobs of a machine share. The first that needs one decodes it.

`<cache>/decoded/lock`                       Held while space is freed.
`<cache>/decoded/<decoding>/`                Images with the same decoding.
`<cache>/decoded/<decoding>/claims`          Locked byte by byte by the process that decodes an image.
`<cache>/decoded/<decoding>/<name>.pixels`   Consecutive images, each (H, W, 3) uint8. Sparse, with its final size.
`<cache>/decoded/<decoding>/<name>.index`    One record per image, in the order of writing.

An image exists if its record exists, and the record is written last. A killed process leaves pixels
without a record, which the next writer overwrites. After a power failure a record may exist without
its pixels, which its checksum detects. A segment belongs to its writer while that process lives.
All processes read it. All decodings of a machine share one limit. Segments are in `pixel_segments`,
their folder and the limit in `segment_folder`.

An image is identified by device, inode, size and times of its file, so a replaced file is another
image. While a process decodes, others that need the same image continue with the next ones of their
batch, and return later. Jobs that start together, with the same images in the same order, therefore
share the work instead of waiting for each other.

After any error the caller decodes the image itself.
"""

import contextlib
import fcntl
import logging
import os
import platform
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor

from trueface.data.loading.decoding import Scaling, decode
from trueface.data.loading.pixel_segments import (
    INDEX,
    RECORD,
    PixelPlace,
    Pixels,
    SegmentMap,
    SegmentWriter,
    delete_record,
    read_index,
    unpack_records,
)
from trueface.data.loading.segment_folder import SegmentFolder, usual_limit
from trueface.runtime.artifact import (
    FileMark,
    cache_folder,
    make_private,
)
from trueface.runtime.digests import sha256_hex
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
        """Return the pixels of images, (3, H, W) uint8 each, or the reason of a failure.

        None means that an image is not cached: there is no space, or its file is too new to be
        distinguished from its next version.

        Args:
            paths: of the images.
            leave: set if the result is no longer needed. It is then incomplete.
        """
        if self._pid != os.getpid():
            self._begin_as_a_fork()
        keys = [self._key(path) for path in paths]
        results: dict[bytes, Fetched] = {}
        missing: dict[bytes, Path] = {}
        with self._lock:
            if any(key is not None and key not in self._places for key in keys):
                self._read_new_records()
            for key, path in zip(keys, paths, strict=True):
                if key is not None and (pixels := self._read_stored(key)) is not None:
                    results[key] = pixels
                elif key is not None and key not in self._too_large:
                    missing[key] = path
        self._make(missing, results, leave or threading.Event())
        return [None if key is None else results.get(key) for key in keys]

    def _make(
        self, missing: dict[bytes, Path], results: dict[bytes, Fetched], leave: threading.Event
    ) -> None:
        """Decode what no other process decodes; wait for the others."""
        patient_until = time.monotonic() + self._patience_s
        while missing and not self._is_full and not leave.is_set():
            missing_before = len(missing)
            for key, path in list(missing.items()):
                with self._claim_decoding(key, leave) as is_ours:
                    if is_ours:
                        results[key] = self._decode_and_store(key, path)
                        del missing[key]
            if len(missing) < missing_before:
                patient_until = time.monotonic() + self._patience_s
            elif time.monotonic() > patient_until:
                break
            else:
                time.sleep(LOOK_EVERY_S)

    def _decode_and_store(self, key: bytes, path: Path) -> Fetched:
        """Return an image that no other process decodes now, and store it if it is missing."""
        with self._lock:
            self._read_new_records()
            if (pixels := self._read_stored(key)) is not None:
                return pixels
        try:
            pixels = self._decoder(path, scaling=self._scaling)
        except BadImageError as error:
            return error
        if self._key(path) == key:  # else it was replaced meanwhile, and this may be either
            with self._lock:
                self._store(key, pixels.permute(1, 2, 0).contiguous().numpy())
                return self._read_stored(key) if key in self._whole else pixels
        return pixels

    def _read_stored(self, key: bytes) -> Tensor | None:
        location = self._places.get(key)
        if location is None:
            return None
        segment = self._map(location.segment)
        pixels = None if segment is None else segment.pixels(location)
        if segment is not None and pixels is not None:
            if key in self._whole or zlib.crc32(pixels.data) == location.checksum:
                self._whole.add(key)
                segment.mark_used()
                return torch.from_numpy(pixels).permute(2, 0, 1)
            log.warning(
                "decoded=%s/%s row=%d state=damaged, decoding again",
                self._folder.path, location.segment, location.row,
            )  # fmt: skip
        del self._places[key]
        if segment is not None:
            delete_record(self._folder.path, location)
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
        """Add an image if there is space. Otherwise this process adds nothing more."""
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

    def _read_new_records(self) -> None:
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
            self._places.update(unpack_records(segment, content, begin // RECORD.size))
            self._read[segment] = begin + len(content) - len(content) % RECORD.size

    def _key(self, path: Path) -> bytes | None:
        """Return the key of the current content of a file, or None if a change could be missed."""
        now = self._clock()
        try:
            mark = FileMark.from_path(path)
        except OSError:
            return None
        return None if mark.is_racy(now) else KEY.pack(*mark)

    @contextlib.contextmanager
    def _claim_decoding(self, key: bytes, leave: threading.Event) -> Iterator[bool]:
        """Decode an image for all in this block. False if another process does, or none is needed."""
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
    """Return the decoded images of this user's cache. None, with a warning, if it is unusable.

    Args:
        scaling: see `decoding.decode`.

    Raises:
        UsageError: TRUEFACE_DECODED_LIMIT is not a memory size.
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
    return sha256_hex(repr(parts))[:16]
