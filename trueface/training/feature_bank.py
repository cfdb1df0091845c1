"""Features: what the last layer gets. Where only that layer learns, they need not be made again.

A frozen body with fixed statistics is a function of the pixels. It runs in inference mode with its
batch norms folded into the convolutions, which changes features by no more than rounding does
(relative to the largest feature, 1e-4 in fp32); checkpoints hold the plain network all the same.
Where pixels repeat, in validation and in an augmentation that is no longer random or comes in
cycles, a `Bank` holds the features in memory and the body sees each image once a variant.
"""

import io
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trueface.data.dataset import Batch, batch_of
from trueface.data.loaders import Pass
from trueface.models.detectors import Detector
from trueface.models.folding import folded
from trueface.runtime.errors import JobError
from trueface.runtime.files import write_atomic
from trueface.runtime.precision import autocast
from trueface.runtime.progress import Watch
from trueface.training.settings import LearningSettings

BANK_BYTES = 2 << 30  # of features held; ResNet-50's of 260,000 images
ITEM_BYTES = 4  # features are float32
LOG_EVERY_S = 10.0  # in the log, while a bank is filled before the first step

Body = Callable[[Tensor], Tensor]  # pixels as `Detector.forward` takes them -> (B, F) float32

log = logging.getLogger(__name__)


class FrozenBody:
    """The body of a detector as it is now, for inference alone; later changes do not reach it."""

    def __init__(self, model: Detector, *, device: str = "cpu", precision: str = "fp32") -> None:
        form = torch.channels_last if model.channels_last else torch.contiguous_format
        network = folded(model.network, model.spec.head, side=model.spec.input_size)
        network = network.to(memory_format=form)
        twin = Detector(
            model.spec,
            network,
            normalization=model.normalization,
            channels_last=model.channels_last,
        )
        self._model, self._device, self._precision = twin.eval().to(device), device, precision
        self.width = model.feature_dim

    def __call__(self, pixels: Tensor) -> Tensor:
        """Return the features (B, F) of pixels (B, 3, H, W) or (B, K, 3, H, W), on the device."""
        with torch.no_grad(), autocast(self._device, self._precision):
            return self._model.forward_features(pixels.to(self._device))


class FeatureMatrix(NamedTuple):
    """The features of the images of a set that could be read."""

    features: NDArray[np.float32]  # (N, F)
    positions: NDArray[np.int64]  # (N,) in the set, rising


class Bank:
    """A feed whose batches hold features (B, F), on the device, in the place of pixels.

    It gives the images, labels, order and batches that the feed would give, but what it holds does
    not pass through the body again. The features of an image that it holds depend on nothing but
    its pixels and the set: they are made in the order of the set, whatever the epoch is, so that a
    training that goes on after an interruption finds the same bits.

    Args:
        body: from pixels to features.
        feed: the images; its bad ones are left out, and listed, as ever.
        watch: device and stop.
        limit_bytes: of the features held; what is beyond it, whole variants, is made again.
    """

    def __init__(
        self,
        body: FrozenBody,
        feed: Pass,
        *,
        watch: Watch,
        limit_bytes: int = BANK_BYTES,
    ) -> None:
        self._body, self._feed, self._watch = body, feed, watch
        variants = feed.image_set.transform.id.period  # 0: none comes again, and none is held
        each_bytes = max(len(feed) * body.width * ITEM_BYTES, 1)
        self._variants, self._room = variants, min(variants, limit_bytes // each_bytes)
        self._held: dict[int, FeatureMatrix] = {}
        self._logged_at = time.monotonic()
        self.held_bytes = self._room * each_bytes
        log.info(
            "features=%d images=%d variants=%d held=%d bytes=%d",
            body.width, len(feed), variants, self._room, self.held_bytes,
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self._feed)

    def __call__(self, epoch: int) -> Iterator[Batch]:
        """Start a pass; it ends early when the watch says stop while features are made."""
        variant = epoch % self._variants if self._variants else self._room
        if variant >= self._room:
            yield from self._made(self._feed(epoch))
            return
        if variant not in self._held:
            made = self._variant(variant)
            if made is None:
                return
            self._held[variant] = made
        yield from self._again(self._held[variant], epoch)

    def _made(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        for batch in batches:
            yield batch._replace(images=self._body(batch.images))

    def _variant(self, number: int) -> FeatureMatrix | None:
        unshuffled = replace(self._feed, shuffle_seed=None)
        try:
            return _gather(self._made(unshuffled(number)), self._watch.stop, self._log_progress)
        except _Stopped:
            return None

    def _log_progress(self, images: int) -> None:
        if time.monotonic() - self._logged_at > LOG_EVERY_S or images == len(self):
            self._logged_at = time.monotonic()
            log.info("state=making features images=%d of=%d", images, len(self))

    def _again(self, held: FeatureMatrix, epoch: int) -> Iterator[Batch]:
        rows = {int(position): row for row, position in enumerate(held.positions)}
        features = torch.from_numpy(held.features)
        for group in _groups(self._feed, epoch):
            good = [position for position in group if position in rows]
            if good:
                chosen = features[[rows[position] for position in good]]
                yield batch_of(self._feed.image_set, good, chosen.to(self._watch.device))


class _Stopped(Exception):
    """A person wants the work to end."""


def is_constant(settings: LearningSettings) -> bool:
    """Return whether the body of a network that is trained like this stays as it is, bit by bit."""
    return settings.freeze and settings.freeze_bn


def banks(
    model: Detector,
    training: Pass,
    validation: Pass,
    settings: LearningSettings,
    watch: Watch,
    *,
    limit_bytes: int = BANK_BYTES,
) -> tuple[Bank, Bank]:
    """Return both feeds of a training whose body `is_constant`, with features for pixels.

    They share one body and one bound; validation, which always repeats, has the first claim. A
    stop is heeded while features for training are made, as between two batches.

    Args:
        model: on the device of `watch`; its body is taken as it is now.
        training: as augmented.
        validation: as it is tested.
        settings: of the training.
        watch: device and stop.
        limit_bytes: of the features held.
    """
    body = FrozenBody(model, device=watch.device, precision=settings.precision)
    calm = Watch(device=watch.device)  # a validation that is half done would be none
    tested = Bank(body, validation, watch=calm, limit_bytes=limit_bytes)
    learned = Bank(
        body,
        training,
        watch=watch,
        limit_bytes=limit_bytes - tested.held_bytes,
    )
    return learned, tested


def feature_matrix(model: Detector, feed: Pass, watch: Watch) -> FeatureMatrix:
    """Return what the last layer of `model` gets of every image of one pass, in the set's order.

    Raises:
        JobError: stopped; or the features are no finite numbers: such a model has none.
    """
    body = FrozenBody(model, device=watch.device, precision=watch.precision)
    batches = replace(feed, shuffle_seed=None)(0)
    made = (batch._replace(images=body(batch.images)) for batch in batches)
    try:
        matrix = _gather(
            made, watch.stop, lambda images: watch.progress(step=images, total=len(feed))
        )
    except _Stopped as error:
        raise JobError(f"stopped after {error} images; no features were written") from error
    broken = int((~np.isfinite(matrix.features)).any(1).sum())
    if broken:
        raise JobError(
            f"the features of {broken} of {len(matrix.positions)} images are no finite numbers: the "
            "model is broken, train it again with a lower lr"
        )
    return matrix


def write_features(
    path: Path, matrix: FeatureMatrix, *, paths: Sequence[str], labels: Sequence[int]
) -> None:
    """Write arrays features (N, F), paths (N,) and labels (N,) as one .npz, atomically.

    No array holds objects: `numpy.load` reads the file as it is, without allow_pickle.

    Args:
        path: the file; its folder is made.
        matrix: the features.
        paths: of all images of the set, also of those that could not be read.
        labels: of all images of the set, 1 fake.
    """
    buffer = io.BytesIO()
    np.savez(
        buffer,
        features=matrix.features,
        paths=np.array([paths[position] for position in matrix.positions], dtype=np.str_),
        labels=np.array([labels[position] for position in matrix.positions], dtype=np.int8),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, buffer.getvalue())


def _gather(
    batches: Iterator[Batch], stop: threading.Event, progress: Callable[[int], None]
) -> FeatureMatrix:
    """Collect the features of one pass, in the order in which they come."""
    features: list[NDArray[np.float32]] = []
    positions: list[int] = []
    for batch in batches:
        if stop.is_set():
            raise _Stopped(str(len(positions)))
        features.append(batch.images.cpu().numpy())
        positions += batch.indices.tolist()
        progress(len(positions))
    return FeatureMatrix(np.concatenate(features), np.array(positions, dtype=np.int64))


def _groups(feed: Pass, epoch: int) -> list[list[int]]:
    """Return the positions of the batches of a pass, as `data.batches` makes them."""
    order = list(range(len(feed)))
    if feed.shuffle_seed is not None:
        Random(f"order/{feed.shuffle_seed}/{epoch}").shuffle(order)
    size = feed.settings.batch_size
    return [order[at : at + size] for at in range(0, len(order), size)]
