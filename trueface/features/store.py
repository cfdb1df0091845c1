"""The feature store: features of images from frozen backbones, shared by all jobs.

    `features/<body>-<identity>-v<view>.lock`                Locked by the computing process. Its mtime is the last use.
    `features/<body>-<identity>-v<view>-<SHA-256>.features`  A shard. It contains rows of features and is immutable.

A row is found by everything that it depends on, so no row is ever stale. The first job that needs a
view computes it. Others wait and then read it. A later job with more images adds a shard of the
missing rows.
"""

import contextlib
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np
import PIL
import simplejpeg

from trueface.data.batch import Batch
from trueface.data.loading.image_set import ImageLoader, ImageSet
from trueface.data.loading.pass_order import IN_ORDER
from trueface.features.file_digests import FileDigests
from trueface.features.folder import ENDING, LIMIT, limit_bytes, lock_of, make_room, store_folder
from trueface.features.matrix import (
    BODY_DIGITS,
    FLOAT,
    BrokenShardError,
    Cost,
    FeatureMatrix,
    Features,
    OpenShard,
    bytes_of,
    header_of,
    read_shard,
    write_shard,
)
from trueface.models.inference import FrozenBackbone
from trueface.runtime import artifact
from trueface.runtime.artifact import CreationLock, FileMark, StoppedError, make_private
from trueface.runtime.digests import sha256_digest, sha256_hex
from trueface.runtime.errors import BadImageError, DataError, MachineError
from trueface.runtime.files import Json, code_digest
from trueface.runtime.progress import RunContext

SHARD_BYTES = 256 << 20  # bytes of features that are computed before they are handed over
MOST_SHARDS = 8  # shards of a view; more are made one
SMALL_BYTES = 32 << 20  # bytes of a shard that is worth making one with others
MOST_LOOKED_AT = 16  # headers of shards; a guess is enough for a log

SCHEMA = 1
# code that makes pixels and features; and packages of which a setting names the modules
CODE = (
    "trueface.features.bank:FeatureSet",
    "trueface.corruptions.kinds",
    "trueface.data.augmentations",
    "trueface.data.forging.types",
    "trueface.data.quality_feed",
    "trueface.models.architectures",
)

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]  # images done, images in all
Hold = Callable[[Path], AbstractContextManager[CreationLock]]

# by position: the key of the row, and the status of its file; None: it may change without a trace
Rows = dict[int, tuple[FileMark | None, bytes]]


def identity_of(body: FrozenBackbone, image_set: ImageSet, view: int) -> dict[str, Json]:
    """Return what every row of a shard depends on.

    Args:
        body: that the images pass.
        image_set: decodes and transforms them.
        view: which of its transform's views.
    """
    facts: dict[str, Json] = {
        "schema": SCHEMA,
        **body.identity,
        "code_sha256": code_digest(*CODE),
        "numpy": np.__version__,
        "pillow": PIL.__version__,
        "simplejpeg": str(getattr(simplejpeg, "__version__", "")),
        "transform": dict(image_set.transform.id.view_identity),
        "scaling": None if image_set.scaling is None else [*image_set.scaling],
        "view": view,
    }
    plain: dict[str, Json] = json.loads(json.dumps(facts))  # as a shard's header holds it
    return plain


def stem_of(identity: Mapping[str, Json]) -> str:
    """Return what the names of a view's files begin with: of the body, of all, and the view."""
    digest = sha256_hex(json.dumps(identity, sort_keys=True))
    return f"{str(identity['body_sha256'])[:BODY_DIGITS]}-{digest[:32]}-v{identity['view']}"


def row_keys(
    image_set: ImageSet, positions: Sequence[int], hashes: Sequence[bytes]
) -> tuple[bytes, ...]:
    """Return what rows depend on besides their shard's identity, as 32 bytes each.

    Args:
        image_set: of the images.
        positions: of the images in the set.
        hashes: the SHA-256 of each image's file.
    """
    # random numbers follow from an image's name; where there are none, only its bytes count
    transform = image_set.transform.id
    keys = []
    for position, sha256 in zip(positions, hashes, strict=True):
        name = image_set.images[position].name
        own = transform.row_identity.get(name, "")
        facts = f"{'' if transform.is_test else name}\n{position in image_set.stamped:d}\n{own}"
        keys.append(sha256_digest((facts, sha256)))
    return tuple(keys)


def add_rows(
    rows: Rows, image_set: ImageSet, positions: Sequence[int], digests: FileDigests
) -> None:
    """Look at the files of images that `rows` lacks, and add their keys."""
    new = [position for position in positions if position not in rows]
    marks: list[FileMark | None] = []
    hashes: list[bytes] = []
    for position in new:
        try:
            mark, sha256, is_sure = digests.digest_file(image_set.images[position].file)
        except OSError:  # decoding it will say why
            # whatever it will hold, it is the row of no other image
            mark, sha256, is_sure = None, f"unreadable/{position}".encode(), False
        marks.append(mark if is_sure else None)
        hashes.append(sha256)
    keys = row_keys(image_set, new, hashes)
    rows.update(zip(new, zip(marks, keys, strict=True), strict=True))


@dataclass(frozen=True)
class WantedView:
    """The request of a job to the store: one view of the images of a loader."""

    body: FrozenBackbone
    feed: ImageLoader
    view: int
    positions: tuple[int, ...]  # positions of the images in the feed's set, rising
    marks: tuple[FileMark | None, ...]  # marks of their files; None: it says nothing
    keys: tuple[bytes, ...]  # keys of their rows

    @classmethod
    def from_row_keys(
        cls,
        body: FrozenBackbone,
        feed: ImageLoader,
        view: int,
        positions: Sequence[int],
        rows: Rows,
    ) -> "WantedView":
        """Return the rows of images at some positions; `rows` has them, see `add_rows`."""
        marks = tuple(rows[position][0] for position in positions)
        keys = tuple(rows[position][1] for position in positions)
        return cls(body, feed, view, tuple(positions), marks, keys)

    @cached_property
    def identity(self) -> dict[str, Json]:
        """The identity that all rows depend on."""
        return identity_of(self.body, self.feed.dataset, self.view)

    @cached_property
    def stem(self) -> str:
        """The prefix of the file names of the view."""
        return stem_of(self.identity)

    def missing_from(self, shards: Sequence[OpenShard]) -> list[int]:
        """Return the positions whose rows no shard has."""
        there = {key for shard in shards for key in shard.keys}
        pairs = zip(self.positions, self.keys, strict=True)
        return [position for position, key in pairs if key not in there]

    def compute_pieces(
        self, positions: Sequence[int], stop: threading.Event, report: Callable[[int], None]
    ) -> Iterator[OpenShard]:
        """Pass images through the backbone, and yield pieces in memory, until stopped.

        Args:
            positions: of the images.
            stop: ends the pass after a batch.
            report: called after each batch with the number of finished images.

        Raises:
            DataError: not one image of the feed could be read, or it stops at bad ones.
            MachineError: a loading process died. Features computed by then are yielded first.
        """
        most = max(SHARD_BYTES // (self.body.width * FLOAT.itemsize), 1)
        features: list[Features] = []
        rows: list[int] = []
        done, began = 0, time.monotonic()
        try:
            for batch, values in self.body.iter_features(self._batches(positions)):
                features.append(values.numpy())
                rows += batch.indices.tolist()
                report(done + len(rows))
                if len(rows) >= most or stop.is_set():
                    yield self._shard(features, rows, time.monotonic() - began)
                    done, began = done + len(rows), time.monotonic()
                    features, rows = [], []
                if stop.is_set():
                    return
        except MachineError:  # the next attempt computes the rest
            if rows:
                yield self._shard(features, rows, time.monotonic() - began)
            raise
        if rows:
            yield self._shard(features, rows, time.monotonic() - began)

    def unchanged_rows(self, piece: OpenShard, digests: FileDigests) -> list[int]:
        """Return the rows of a piece whose files hold what they held when their keys were made."""
        positions = {key: position for position, key in enumerate(self.keys)}
        return [row for row, key in enumerate(piece.keys) if self._holds(positions[key], digests)]

    def matrix(self, shards: Sequence[OpenShard], new_shards: Sequence[OpenShard]) -> FeatureMatrix:
        """Return the requested rows of shards, and of newly computed pieces."""
        pieces = (*shards, *new_shards)
        places = {
            key: (number, row) for number, piece in enumerate(pieces)
            for row, key in enumerate(piece.keys)
        }  # fmt: skip
        pairs = zip(self.positions, self.keys, strict=True)
        there = [(position, *places[key]) for position, key in pairs if key in places]
        positions, part, row = np.array(there, dtype=np.int64).reshape(-1, 3).T
        used = np.bincount(part, minlength=len(pieces))
        seconds = [
            piece.seconds * count / len(piece.keys)
            for piece, count in zip(pieces, used.tolist(), strict=True)
        ]
        new = sum(len(piece.keys) for piece in new_shards)
        cost = Cost(
            read=len(positions) - new,
            computed=new,
            seconds=sum(seconds),
            saved_s=sum(seconds[: len(shards)]),
        )
        parts = tuple(piece.features for piece in pieces)
        return FeatureMatrix(parts, part, row, positions, cost)

    def _batches(self, positions: Sequence[int]) -> Iterator[Batch]:
        """Yield the images at some positions in their order; bad ones are noted in the set."""
        unshuffled = replace(self.feed, order=IN_ORDER)
        try:
            yield from unshuffled.iter_positions(positions, self.view)
        except BadImageError:
            raise
        except DataError:
            bad = self.feed.dataset.bad
            if len(positions) == len(self.positions) or any(at not in bad for at in positions):
                raise
            # those that could be read are stored

    def _shard(self, features: list[Features], rows: list[int], seconds: float) -> OpenShard:
        keys = dict(zip(self.positions, self.keys, strict=True))
        return OpenShard(None, tuple(keys[row] for row in rows), np.concatenate(features), seconds)

    def _holds(self, row: int, digests: FileDigests) -> bool:
        mark, position = self.marks[row], self.positions[row]
        file = self.feed.dataset.images[position].file
        try:
            if mark is not None and FileMark.from_path(file) == mark:
                return True
            sha256 = digests.digest_file(file)[1]
        except OSError:
            return False
        return row_keys(self.feed.dataset, [position], [sha256]) == (self.keys[row],)


def no_progress(_count: int, _total: int) -> None:
    """Report nothing."""


def open_store(cache: str = "auto") -> "FeatureStore | None":
    """Return the user's feature store. None, with a warning, if it cannot be used.

    It is in `features` in the cache folder (TRUEFACE_CACHE). TRUEFACE_FEATURES_LIMIT limits it, and
    0 disables it.

    Args:
        cache: the setting of a job. "none" disables the store.

    Raises:
        UsageError: the limit is not a size.
    """
    if cache == "none":
        return None
    root = store_folder()
    if root is None:
        log.warning(
            "features=not stored reason=there is no home folder, set TRUEFACE_CACHE to a folder"
        )
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
        body: FrozenBackbone,
        feed: ImageLoader,
        view: int,
        *,
        watch: RunContext,
        positions: Sequence[int] | None = None,
        progress: Progress = no_progress,
        wait: bool = True,
    ) -> FeatureMatrix:
        """Return the features of the readable images of a loader, stored or computed.

        Missing features are computed and stored as soon as no other process computes them. Images
        are read in the order of the set. Bad ones are listed in it, as in a pass.

        Args:
            body: from pixels to features.
            feed: the images.
            view: number of the view of the transform, see `TransformId.view`.
            watch: its stop ends waiting and computing. Features computed by then are stored.
            positions: of the images. None: all.
            progress: called after each batch, and while another process computes.
            wait: whether to wait for another process that computes the view.

        Raises:
            BusyError: another process computes the view, and `wait` is false.
            StoppedError: a stop was requested.
            DataError: no image could be read, or the loader stops at bad ones.
        """
        chosen = range(len(feed)) if positions is None else sorted(positions)
        rows = self._rows.setdefault(feed.dataset, {})
        add_rows(rows, feed.dataset, chosen, self._digests)
        requested = WantedView.from_row_keys(body, feed, view, chosen, rows)
        shards = self._open_stored(requested, mend=False)
        computed: tuple[OpenShard, ...] = ()
        if requested.missing_from(shards):
            hold = partial(artifact.hold_lock, stop=watch.stop, progress=progress)
            with self._lock(requested, hold if wait else artifact.hold_lock_if_free) as lock:
                shards = self._open_stored(requested, mend=lock is not None)
                if missing := requested.missing_from(shards):
                    if not shards:
                        self._log_difference(requested)
                    computed = self._compute_missing(requested, missing, lock, watch, progress)
        self._note_use(requested)
        return requested.matrix(shards, computed)

    def _open_stored(self, view: WantedView, *, mend: bool) -> tuple[OpenShard, ...]:
        """Return the shards of a view. Remove partial files, and broken shards if `mend`."""
        shards = []
        for path in sorted(self._root.glob(f"{view.stem}-*")):
            try:
                if path.suffix == ENDING:
                    shards.append(read_shard(path, view.identity, self._digests))
                elif mend:  # the file of a process that was killed
                    path.unlink()
            except FileNotFoundError:  # removed meanwhile, to make room
                continue
            except (BrokenShardError, OSError) as error:
                log.warning("features=%s state=ignored reason=%s", path.name, error)
                if mend:
                    with contextlib.suppress(OSError):
                        path.unlink()
        return tuple(shards)

    @contextlib.contextmanager
    def _lock(self, view: WantedView, hold: Hold) -> Iterator[CreationLock | None]:
        """Hold the lock of a view; None where nothing can be written."""
        with contextlib.ExitStack() as stack:
            lock = None
            if self.is_writable:
                try:
                    lock = stack.enter_context(hold(lock_of(self._root, view.stem)))
                except OSError as error:
                    self._give_up(error)
            yield lock

    def _compute_missing(
        self,
        view: WantedView,
        missing: Sequence[int],
        lock: CreationLock | None,
        watch: RunContext,
        progress: Progress,
    ) -> tuple[OpenShard, ...]:
        """Return the features of missing images, stored as far as that is possible."""

        def report(count: int) -> None:
            progress(count, len(missing))
            if lock is not None:
                lock.report(count, len(missing))

        pieces = tuple(
            self._store_piece(view, piece) if lock is not None and self.is_writable else piece
            for piece in view.compute_pieces(missing, watch.stop, report)
        )
        if watch.stop.is_set():
            raise StoppedError(f"stopped after {sum(len(piece.keys) for piece in pieces)} images")
        return pieces

    def _store_piece(self, view: WantedView, piece: OpenShard) -> OpenShard:
        """Return a piece as a map of its shard, or as it is where it cannot be written."""
        try:
            written = self._write(view, piece)
            self._merge(view, self._open_stored(view, mend=False))
        except OSError as error:
            self._give_up(error)
            return piece
        return written

    def _write(self, view: WantedView, piece: OpenShard) -> OpenShard:
        """Return a piece as a map of the shard that it becomes; as it is where it shall not be stored.

        Args:
            view: the view that the piece belongs to. The caller holds its lock.
            piece: features in memory.

        Raises:
            OSError: the disk is full, or the folder cannot be written.
        """
        good = view.unchanged_rows(piece, self._digests)
        if len(good) < len(piece.keys):
            log.warning(
                "features=not stored images=%d reason=their files changed while they were being "
                "read",
                len(piece.keys) - len(good),
            )
            if good:
                keys = tuple(piece.keys[row] for row in good)
                self._write(view, piece._replace(keys=keys, features=piece.features[good]))
            return piece
        need_bytes = bytes_of(*piece.features.shape)
        lock = lock_of(self._root, view.stem)
        if not make_room(self._root, need_bytes, self.limit_bytes, spared_view=lock):
            log.warning(
                "features=not stored bytes=%d limit=%d reason=not enough room, set %s higher",
                need_bytes, self.limit_bytes, LIMIT,
            )  # fmt: skip
            return piece
        return write_shard(self._root, view.stem, view.identity, piece)

    def _merge(self, view: WantedView, shards: Sequence[OpenShard]) -> None:
        """Merge the small shards of a view, if many small jobs wrote many.

        Args:
            view: the view, whose lock the caller holds.
            shards: the existing shards.

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
        merged = OpenShard(None, tuple(rows), np.stack(list(rows.values())), seconds)
        written = write_shard(self._root, view.stem, view.identity, merged)
        for each in small:
            if each.path is not None and each.path != written.path:
                each.path.unlink(missing_ok=True)

    def _log_difference(self, view: WantedView) -> None:
        """Say in what stored features of the same body differ from those that are missing."""
        best: tuple[str, ...] = ()
        identity = _flatten_identity(view.identity)
        names = f"{view.stem[:BODY_DIGITS]}-*{ENDING}"
        for path in islice(self._root.glob(names), MOST_LOOKED_AT):
            stored = _flatten_identity(header_of(path).get("identity"))
            # features of a test equal those of a training
            if stored.keys() == identity.keys() and stored["view"] == identity["view"]:
                differences = artifact.difference(identity, stored)
                if not best or len(differences) < len(best):
                    best = differences
        if best:
            log.info("features=computed reason=%s", ", ".join(best))

    def _note_use(self, view: WantedView) -> None:
        """Mark this view as the most recently used, and save digests for other processes."""
        with contextlib.suppress(OSError):  # then it leaves earlier, or files are hashed again
            os.utime(lock_of(self._root, view.stem))
        with contextlib.suppress(OSError):
            self._digests.save_digests()

    def _give_up(self, error: OSError) -> None:
        self.is_writable = False
        log.warning("features=not stored folder=%s reason=%s", self._root, error.strerror or error)


def _flatten_identity(identity: Mapping[str, Json] | Json) -> dict[str, Json]:
    if not isinstance(identity, Mapping):
        return {}
    transform = identity.get("transform")
    return {**identity, **(transform if isinstance(transform, dict) else {}), "transform": None}
