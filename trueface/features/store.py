"""The feature store: what frozen bodies make of images, shared by the jobs of all runs.

    features/<body>-<identity>-v<view>.lock              who computes; its mtime: the last use
    features/<body>-<identity>-v<view>-<SHA-256>.features  a shard: rows of features, immutable

A row is found by all that it depends on, so nothing is ever stale. A view's first user computes it,
others wait and then read; a later user with more images adds a shard of what is missing.
"""

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from trueface.data.dataset import ImageSet
from trueface.data.loaders import Pass
from trueface.features import folder, shard
from trueface.features.body import FrozenBody
from trueface.features.file_digests import FileDigests
from trueface.features.folder import ENDING, LIMIT, limit_bytes, lock_of, make_room, store_folder
from trueface.features.matrix import FeatureMatrix
from trueface.features.shard import BrokenShardError, Shard
from trueface.features.wanted import Rows, Wanted, add_rows
from trueface.runtime import artifact
from trueface.runtime.artifact import CreationLock, StoppedError, make_private
from trueface.runtime.files import Json
from trueface.runtime.progress import Watch

MOST_SHARDS = 8  # of a view; more are made one
SMALL_BYTES = 32 << 20  # of a shard that is worth making one with others
MOST_LOOKED_AT = 16  # headers of shards; a guess is enough for a log

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]  # images done, images in all
Hold = Callable[[Path], AbstractContextManager[CreationLock]]


class Usage(NamedTuple):
    """What a store holds."""

    views: int
    size_bytes: int


def no_progress(_done: int, _total: int) -> None:
    """Report nothing."""


def bytes_of(images: int, width: int) -> int:
    """Return how many bytes one view of so many images takes at most, of features of this width."""
    return shard.size_bytes(images, width)


def open_store(cache: str = "auto") -> "FeatureStore | None":
    """Return the user's feature store; None, with a warning, where there can be none.

    It lies in `features` in the cache folder (TRUEFACE_CACHE); TRUEFACE_FEATURES_LIMIT bounds it,
    and 0 turns it off.

    Args:
        cache: the setting of a job; "none": without a store.

    Raises:
        UsageError: the limit is no size.
    """
    if cache == "none":
        return None
    root = store_folder()
    if root is None:
        log.warning("features=not stored reason=there is no home, set TRUEFACE_CACHE to a folder")
        return None
    try:
        make_private(root)
        most = limit_bytes(root)
    except OSError as error:
        log.warning("features=not stored folder=%s reason=%s", root, error.strerror or error)
        return None
    return FeatureStore(root, most) if most else None


class FeatureStore:
    """Feature matrices in a folder; see `open_store`.

    Args:
        root: of the store, which nobody else can write.
        limit_bytes: of all shards.
    """

    def __init__(self, root: Path, limit_bytes: int) -> None:
        self._root, self.limit_bytes = root, limit_bytes
        self._digests = FileDigests(root)
        # as the files were when a job first asked: it may ask for hundreds of views
        self._rows: WeakKeyDictionary[ImageSet, Rows] = WeakKeyDictionary()
        self.is_writable = True  # as far as is known

    def matrix(
        self,
        body: FrozenBody,
        feed: Pass,
        view: int,
        *,
        watch: Watch,
        positions: Sequence[int] | None = None,
        progress: Progress = no_progress,
        wait: bool = True,
    ) -> FeatureMatrix:
        """Return the features of readable images of a feed, stored ones and others.

        What is missing is computed and stored, once no other process computes it. Images are read
        in the order of the set; bad ones are noted in it, as in a pass.

        Args:
            body: from pixels to features.
            feed: the images.
            view: number of the transform's view, see `TransformId.view`.
            watch: its stop ends waiting and computing; what was computed by then is stored.
            positions: of the images; None: all.
            progress: called after each batch, and while another process computes.
            wait: for another process that computes the view.

        Raises:
            BusyError: another process computes the view, and `wait` is false.
            StoppedError: the watch said stop.
            DataError: not one image could be read, or the feed stops at bad ones.
        """
        chosen = range(len(feed)) if positions is None else sorted(positions)
        rows = self._rows.setdefault(feed.image_set, {})
        add_rows(rows, feed.image_set, chosen, self._digests)
        wanted = Wanted.of(body, feed, view, chosen, rows)
        shards = self._stored(wanted, mend=False)
        computed: tuple[Shard, ...] = ()
        if wanted.missing_from(shards):
            hold = partial(artifact.held, stop=watch.stop, progress=progress)
            with self._lock(wanted, hold if wait else artifact.held_at_once) as lock:
                shards = self._stored(wanted, mend=lock is not None)
                if missing := wanted.missing_from(shards):
                    if not shards:
                        self._log_difference(wanted)
                    computed = self._computed(wanted, missing, lock, watch, progress)
        self._note_use(wanted)
        return wanted.matrix(shards, computed)

    def usage(self) -> Usage:
        """Return how many views and bytes the store holds."""
        views = folder.views(self._root)
        return Usage(views=len(views), size_bytes=sum(view.bytes for view in views))

    def clear(self) -> Usage:
        """Remove all views that no process is computing; return what was removed."""
        gone = [view for view in folder.views(self._root) if folder.remove(view)]
        return Usage(views=len(gone), size_bytes=sum(view.bytes for view in gone))

    def _stored(self, wanted: Wanted, *, mend: bool) -> tuple[Shard, ...]:
        """Return the shards of a view; remove broken ones if `mend`, and what was left half-written."""
        shards = []
        for path in sorted(self._root.glob(f"{wanted.stem}-*")):
            try:
                if path.suffix == ENDING:
                    shards.append(shard.read(path, wanted.identity, self._digests))
                elif mend:  # of a process that was killed
                    path.unlink()
            except FileNotFoundError:  # removed meanwhile, to make room
                continue
            except (BrokenShardError, OSError) as error:
                log.warning("features=%s state=left out of account reason=%s", path.name, error)
                if mend:
                    with contextlib.suppress(OSError):
                        path.unlink()
        return tuple(shards)

    @contextlib.contextmanager
    def _lock(self, wanted: Wanted, hold: Hold) -> Iterator[CreationLock | None]:
        """Hold the lock of a view; None where nothing can be written."""
        with contextlib.ExitStack() as stack:
            lock = None
            if self.is_writable:
                try:
                    lock = stack.enter_context(hold(self._lock_path(wanted)))
                except OSError as error:
                    self._give_up(error)
            yield lock

    def _computed(
        self,
        wanted: Wanted,
        missing: Sequence[int],
        lock: CreationLock | None,
        watch: Watch,
        progress: Progress,
    ) -> tuple[Shard, ...]:
        """Return the features of missing images, stored as far as that is possible."""

        def report(done: int) -> None:
            progress(done, len(missing))
            if lock is not None:
                lock.report(done, len(missing))

        pieces = tuple(
            self._written(wanted, piece) if lock is not None and self.is_writable else piece
            for piece in wanted.computed(missing, watch.stop, report)
        )
        if watch.stop.is_set():
            raise StoppedError(f"stopped after {sum(len(piece.keys) for piece in pieces)} images")
        return pieces

    def _written(self, wanted: Wanted, piece: Shard) -> Shard:
        """Return a piece as a map of its shard, or as it is where it cannot be written."""
        try:
            written = _write_piece(self._root, wanted, piece, self._digests, self.limit_bytes)
            _merge(self._root, wanted, self._stored(wanted, mend=False))
        except OSError as error:
            self._give_up(error)
            return piece
        return written

    def _log_difference(self, wanted: Wanted) -> None:
        """Say in what stored features of the same body differ from those that are missing."""
        difference = _nearest_difference(self._root, wanted.identity)
        if difference:
            log.info("features=computed reason=%s", difference)

    def _note_use(self, wanted: Wanted) -> None:
        """Make this view the last to leave the store, and what was hashed known to others."""
        with contextlib.suppress(OSError):  # then it leaves earlier, or files are hashed again
            os.utime(self._lock_path(wanted))
        with contextlib.suppress(OSError):
            self._digests.keep()

    def _lock_path(self, wanted: Wanted) -> Path:
        return lock_of(self._root, wanted.stem)

    def _give_up(self, error: OSError) -> None:
        self.is_writable = False
        log.warning("features=not stored folder=%s reason=%s", self._root, error.strerror or error)


def _write_piece(
    root: Path, wanted: Wanted, piece: Shard, digests: FileDigests, limit_bytes: int
) -> Shard:
    """Return a piece as a map of the shard that it becomes; as it is where it shall not be stored.

    Args:
        root: of the store, where the caller holds the lock of the view.
        wanted: what the piece was computed for.
        piece: features in memory.
        digests: of the images' files.
        limit_bytes: of all shards.

    Raises:
        OSError: the disk is full, or the folder cannot be written.
    """
    good = wanted.unchanged(piece, digests)
    if len(good) < len(piece.keys):
        log.warning(
            "features=not stored images=%d reason=their files changed while they were read",
            len(piece.keys) - len(good),
        )
        if not good:
            return piece
        keys = tuple(piece.keys[row] for row in good)
        rest = piece._replace(keys=keys, features=piece.features[good])
        _write_piece(root, wanted, rest, digests, limit_bytes)
        return piece
    need_bytes = shard.size_bytes(*piece.features.shape)
    lock = lock_of(root, wanted.stem)
    if not make_room(root, need_bytes, limit_bytes, but=lock):
        log.warning(
            "features=not stored bytes=%d limit=%d reason=they do not fit; set %s higher",
            need_bytes, limit_bytes, LIMIT,
        )  # fmt: skip
        return piece
    return shard.write(root, wanted.stem, wanted.identity, piece)


def _merge(root: Path, wanted: Wanted, shards: Sequence[Shard]) -> None:
    """Make one shard of the small ones of a view, where many small jobs left many.

    Args:
        root: of the store, where the caller holds the lock of the view.
        wanted: of the view.
        shards: that lie there.

    Raises:
        OSError: the disk is full, or the folder cannot be written.
    """
    small = [each for each in shards if each.features.nbytes < SMALL_BYTES]
    if len(small) <= MOST_SHARDS:
        return
    rows = {
        key: features
        for each in small
        for key, features in zip(each.keys, each.features, strict=True)
    }
    seconds = sum(each.seconds for each in small)
    merged = Shard(None, tuple(rows), np.stack(list(rows.values())), seconds)
    written = shard.write(root, wanted.stem, wanted.identity, merged)
    for each in small:
        if each.path is not None and each.path != written.path:
            each.path.unlink(missing_ok=True)


def _nearest_difference(root: Path, identity: Mapping[str, Json]) -> str:
    """Return in what the nearest stored features differ, as "torch 2.1 instead of 2.0", or "".

    Args:
        root: of the store.
        identity: of features that are not there.
    """
    wanted = _flat(identity)
    prefix = str(identity["body_sha256"])[: shard.BODY_DIGITS]
    best: tuple[str, ...] = ()
    for path in islice(root.glob(f"{prefix}-*{ENDING}"), MOST_LOOKED_AT):
        stored = _flat(shard.header_of(path).get("identity"))
        # features of a test are no better or worse than those of a training
        if stored.keys() == wanted.keys() and stored["view"] == wanted["view"]:
            differences = artifact.difference(wanted, stored)
            if not best or len(differences) < len(best):
                best = differences
    return ", ".join(best)


def _flat(identity: Mapping[str, Json] | Json) -> dict[str, Json]:
    if not isinstance(identity, Mapping):
        return {}
    transform = identity.get("transform")
    return {**identity, **(transform if isinstance(transform, dict) else {}), "transform": None}
