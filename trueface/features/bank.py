"""Batches of features instead of pixels, for jobs whose backbone is frozen.

A *view* is the set of network inputs of one epoch. If a view is stored or repeats within a job, the
backbone does not process its images again.
"""

import contextlib
import io
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from trueface.data.batch import Batch
from trueface.data.loading.image_set import ImageLoader, ImageSet, batch_of
from trueface.data.loading.loader import Loader, PassRequest
from trueface.data.loading.pass_order import IN_ORDER
from trueface.data.loading.prefetching import closing
from trueface.features.folder import LIMIT
from trueface.features.matrix import FLOAT, NO_COST, Cost, FeatureMatrix, Features, bytes_of
from trueface.features.store import FeatureStore, Progress
from trueface.models.detectors import Detector
from trueface.models.inference import FrozenBackbone
from trueface.runtime import paths
from trueface.runtime.artifact import BusyError, StoppedError
from trueface.runtime.errors import JobError
from trueface.runtime.files import write_atomic
from trueface.runtime.progress import RunContext

BANK_BYTES = 2 << 30  # bytes of features held in memory; ResNet-50's of 260,000 images
LOG_EVERY_S = 10.0  # seconds between log lines while features are computed before the first step

log = logging.getLogger(__name__)


class FeatureSet:
    """Images as a dataset whose inputs are features (B, F), on the device, instead of pixels.

    Labels and columns are those of the images. Cached features of an image depend only on its
    pixels and the set. They are computed in the order of the set in any epoch, so that a resumed
    training gets the same bits.

    Args:
        body: the backbone, from pixels to features.
        feed: the images. Bad ones are skipped and listed as usual.
        watch: device and stop.
        limit_bytes: limit of the features in memory. Views beyond it are computed again.
        store: the feature store of all jobs, or None.
        views: number of stored views if the loader never repeats one. None: as many as fit.
        finishes: a stop does not end a pass, because a partial validation is useless.
        progress: called while a whole view is computed. None: progress is logged periodically.
    """

    rows_per_position = 1

    def __init__(
        self,
        body: FrozenBackbone,
        feed: ImageLoader,
        *,
        watch: RunContext,
        limit_bytes: int = BANK_BYTES,
        store: FeatureStore | None = None,
        views: int | None = None,
        finishes: bool = False,
        progress: Progress | None = None,
    ) -> None:
        self._body, self._feed, self._watch, self._store = body, feed, watch, store
        self._finishes, self._progress = finishes, progress or self._log_progress
        self._id = feed.dataset.transform.id  # with period 0 no view repeats, and none is held
        each_bytes = max(len(feed) * body.width * FLOAT.itemsize, 1)
        stored_bytes = bytes_of(len(feed), body.width)
        self._room = min(self._id.period, limit_bytes // each_bytes)
        self.held_bytes = self._room * each_bytes
        fitting = store.limit_bytes // stored_bytes if store else 0
        self.views = self._id.period or (fitting if views is None else views)
        self.stored_views = min(self.views, fitting)
        self._looks_ahead = self._id.period > 0 or views is not None
        self._complete: set[int] = set()  # views that were found complete while waiting
        self._held: dict[int, FeatureMatrix] = {}
        self._logged_at = time.monotonic()
        self.cost = NO_COST  # cost of all views until now
        log.info(
            "features=%d images=%d views=%d stored=%d held=%d bytes_of_view=%d",
            body.width, len(feed), self.views, self.stored_views, self._room, each_bytes,
        )  # fmt: skip
        if store and self.stored_views < self.views:
            cycle = f", or augment_cycle: {fitting}" if fitting else ""  # with 0, no cycle fits
            log.warning(
                "views=%d state=not all stored fitting=%d bytes_of_view=%d limit=%d "
                "remedy=set %s higher%s",
                self.views, fitting, stored_bytes, store.limit_bytes, LIMIT, cycle,
            )  # fmt: skip

    def __len__(self) -> int:
        return len(self._feed)

    @property
    def image_set(self) -> ImageSet:
        """The images whose features these are, with their labels and columns."""
        return self._feed.dataset

    @property
    def is_test(self) -> bool:
        """Whether images are seen exactly as in a test of the same settings."""
        return self._id.is_test

    def loader(self) -> "Loader[FeatureSet]":
        """Return a loader with the order and the batch size of that of the images."""
        feed = self._feed
        return Loader(dataset=self, batch_size=feed.batch_size, order=feed.order, shard=feed.shard)

    def load(self, request: PassRequest) -> Iterator[Batch]:
        """Yield the batches of a pass; it ends early if stopped while features are computed."""
        try:
            # only the requested positions of a view that never repeats are computed
            matrix = self.matrix(request.epoch, None if self._id.period else request.positions)
        except StoppedError:
            return
        if matrix is None:
            yield from self._compute_features(self.image_set.load(request))
        else:
            yield from self._batches_from_matrix(matrix, request)

    def matrix(self, epoch: int, positions: Sequence[int] | None = None) -> FeatureMatrix | None:
        """Return the features of an epoch, or None if they are neither stored nor in memory.

        Args:
            epoch: of the job.
            positions: of the images. None: all, which may then be kept in memory.

        Raises:
            StoppedError: a stop was requested before they were computed.
            DataError: no image could be read, or the loader stops at bad ones.
        """
        view = self._id.view(epoch)
        if view in self._held:
            return self._held[view]
        matrix = self._read_stored(view, positions)
        if matrix is None:
            if view >= self._room:
                return None
            matrix = self._compute_view(view)
        self.cost = self.cost.plus(matrix.cost)
        if view < self._room or (self._id.period and matrix.is_mapped):
            self._held[view] = matrix
        return matrix

    def full_matrix(self, epoch: int) -> FeatureMatrix:
        """Return the features of an epoch, even if they cannot be held in memory.

        Raises:
            JobError: a stop was requested before they were computed.
            DataError: no image could be read, or the loader stops at bad ones.
        """
        try:
            matrix = self.matrix(epoch)
            return self._compute_view(self._id.view(epoch)) if matrix is None else matrix
        except StoppedError as error:
            raise JobError(f"{error}. No features were written.") from error

    def _read_stored(self, view: int, positions: Sequence[int] | None) -> FeatureMatrix | None:
        """Return a view from the store, or None if it is not stored.

        While another process computes it, this process computes later views, which both need.
        """
        if self._store is None or view >= self.stored_views or not self._store.is_writable:
            return None
        matrix = partial(
            self._store.matrix,
            self._body,
            self._feed,
            watch=self._watch,
            positions=positions,
            progress=self._progress,
        )
        try:
            while True:
                with contextlib.suppress(BusyError):
                    return matrix(view, wait=False)
                if not self._worked_ahead(view, matrix):
                    return matrix(view)
        except StoppedError:
            if self._finishes:
                return None
            raise

    def _worked_ahead(self, view: int, matrix_of: Callable[..., FeatureMatrix]) -> bool:
        """Compute the next missing view that no process computes, and return whether one was."""
        for later in range(view + 1, self.stored_views if self._looks_ahead else 0):
            if later not in self._complete:
                with contextlib.suppress(BusyError):
                    cost = matrix_of(later, wait=False).cost
                    self._complete.add(later)
                    if cost.computed:
                        # they are read again at their turn, and were not computed by others
                        own_s = cost.seconds - cost.saved_s
                        self.cost = self.cost.plus(cost._replace(read=0, saved_s=-own_s))
                        return True
        return False

    def _compute_view(self, view: int) -> FeatureMatrix:
        """Compute a view in memory, in the order of the set."""
        features: list[Features] = []
        positions: list[int] = []
        began = time.monotonic()
        with closing(replace(self._feed, order=IN_ORDER)(view)) as batches:
            for batch, values in self._body.iter_features(batches):
                if self._watch.stop.is_set() and not self._finishes:
                    raise StoppedError(f"stopped after {len(positions)} images")
                features.append(values.numpy())
                positions += batch.indices.tolist()
                self._progress(len(positions), len(self))
        cost = Cost(computed=len(positions), seconds=time.monotonic() - began)
        order = np.array(positions, dtype=np.int64)
        return FeatureMatrix.from_features(np.concatenate(features), order, cost)

    def _compute_features(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        with closing(batches):
            for batch in batches:
                self.cost = self.cost.plus(Cost(computed=len(batch.indices)))
                yield batch._replace(inputs=self._body(batch.inputs))

    def _log_progress(self, count: int, total: int) -> None:
        if time.monotonic() - self._logged_at > LOG_EVERY_S or count == total:
            self._logged_at = time.monotonic()
            log.info("state=computing features images=%d of=%d", count, total)

    def _batches_from_matrix(self, matrix: FeatureMatrix, request: PassRequest) -> Iterator[Batch]:
        for group in request.groups():
            good = [position for position in group if position in matrix.rows]
            if good:
                features = matrix.take([matrix.rows[position] for position in good])
                chosen = torch.from_numpy(features).to(self._watch.device)
                yield batch_of(self.image_set, good, chosen, request.epoch)


def feature_matrix(
    body: FrozenBackbone, feed: ImageLoader, watch: RunContext, *, store: FeatureStore | None = None
) -> FeatureMatrix:
    """Return the features of every image of one pass, in the order of the set.

    Args:
        body: of the model.
        feed: the images. For an augmented loader the first view is used.
        watch: device, progress, stop.
        store: the feature store of all jobs, or None.

    Raises:
        JobError: stopped, or the features are not finite.
    """

    def progress(count: int, total: int) -> None:
        watch.progress(step=count, total=total)

    matrix = FeatureSet(
        body, feed, watch=watch, store=store, views=1, progress=progress
    ).full_matrix(0)
    broken = int((~np.isfinite(matrix.features)).any(1).sum())
    if broken:
        raise JobError(
            f"the features of {broken} of {len(matrix.positions)} images are not finite numbers. "
            "Train the model again with a lower lr."
        )
    return matrix


def keep_features(
    folder: Path,
    name: str,
    model: Detector,
    feed: ImageLoader,
    watch: RunContext,
    store: FeatureStore | None = None,
) -> None:
    """Write the features of each image of a split to the model folder."""
    images = feed.dataset.images
    body = FrozenBackbone(model, device=watch.device, precision=watch.precision)
    write_features(
        paths.features(folder, name),
        feature_matrix(body, feed, watch, store=store),
        names=[image.file for image in images],
        labels=[image.label for image in images],
    )


def write_features(
    path: Path, matrix: FeatureMatrix, *, names: Sequence[str], labels: Sequence[int]
) -> None:
    """Write arrays features (N, F), paths (N,) and labels (N,) as one .npz, atomically.

    No array holds objects: `numpy.load` reads the file as it is, without allow_pickle.

    Args:
        path: the file. Its folder is created.
        matrix: the features.
        names: paths of all images of the set, unreadable ones included.
        labels: of all images of the set, 1 fake.
    """
    buffer = io.BytesIO()
    np.savez(
        buffer,
        features=matrix.features,
        paths=np.array([names[position] for position in matrix.positions], dtype=np.str_),
        labels=np.array([labels[position] for position in matrix.positions], dtype=np.int8),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, buffer.getvalue())
