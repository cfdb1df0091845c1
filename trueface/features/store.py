"""The feature store: what frozen bodies make of images, shared by the jobs of all runs.

    features/<body>-<identity>-v<view>.lock              who computes; its mtime: the last use
    features/<body>-<identity>-v<view>-<SHA-256>.features  a shard: rows of features, immutable

A row is found by all that it depends on, so nothing is ever stale. A view's first user computes it,
others wait and then read; a later user with more images adds a shard of what is missing.
"""

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import NamedTuple
from weakref import WeakKeyDictionary

from trueface.data.dataset import ImageSet
from trueface.data.loaders import Pass
from trueface.features import creation_lock, limit, shard, writing
from trueface.features.body import FrozenBody
from trueface.features.creation_lock import CreationLock, StoppedError
from trueface.features.file_digests import FileDigests
from trueface.features.folder import limit_bytes, store_folder
from trueface.features.matrix import FeatureMatrix
from trueface.features.misses import nearest_difference
from trueface.features.shard import BrokenShardError, Shard
from trueface.features.wanted import Rows, Wanted, add_rows
from trueface.runtime.cache_folder import make_private
from trueface.runtime.progress import Watch

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
            hold = partial(creation_lock.held, stop=watch.stop, progress=progress)
            with self._lock(wanted, hold if wait else creation_lock.held_at_once) as lock:
                shards = self._stored(wanted, mend=lock is not None)
                if missing := wanted.missing_from(shards):
                    if not shards:
                        self._log_difference(wanted)
                    computed = self._computed(wanted, missing, lock, watch, progress)
        self._note_use(wanted)
        return wanted.matrix(shards, computed)

    def usage(self) -> Usage:
        """Return how many views and bytes the store holds."""
        views = limit.views(self._root)
        return Usage(views=len(views), size_bytes=sum(view.bytes for view in views))

    def clear(self) -> Usage:
        """Remove all views that no process is computing; return what was removed."""
        gone = [view for view in limit.views(self._root) if limit.remove(view)]
        return Usage(views=len(gone), size_bytes=sum(view.bytes for view in gone))

    def _stored(self, wanted: Wanted, *, mend: bool) -> tuple[Shard, ...]:
        """Return the shards of a view; remove broken ones if `mend`, and what was left half-written."""
        shards = []
        for path in sorted(self._root.glob(f"{wanted.stem}-*")):
            try:
                if path.suffix == shard.ENDING:
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
            written = writing.write_piece(
                self._root, wanted, piece, self._digests, self.limit_bytes
            )
            writing.merge(self._root, wanted, self._stored(wanted, mend=False))
        except OSError as error:
            self._give_up(error)
            return piece
        return written

    def _log_difference(self, wanted: Wanted) -> None:
        """Say in what stored features of the same body differ from those that are missing."""
        difference = nearest_difference(self._root, wanted.identity)
        if difference:
            log.info("features=computed reason=%s", difference)

    def _note_use(self, wanted: Wanted) -> None:
        """Make this view the last to leave the store, and what was hashed known to others."""
        with contextlib.suppress(OSError):  # then it leaves earlier, or files are hashed again
            os.utime(self._lock_path(wanted))
        with contextlib.suppress(OSError):
            self._digests.keep()

    def _lock_path(self, wanted: Wanted) -> Path:
        return creation_lock.path_of(self._root, wanted.stem)

    def _give_up(self, error: OSError) -> None:
        self.is_writable = False
        log.warning("features=not stored folder=%s reason=%s", self._root, error.strerror or error)
