"""Training images as unlearning methods read them: pixels, or the features of a frozen body.

Where the body stays as it is, a method works on the last layer alone, and what that gets: features
of images, which come from the feature store where they lie there.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from trueface.data.examples import BATCH_SIZE, Meter, groups
from trueface.data.loaders import Pass
from trueface.features.bank import Bank, feature_matrix
from trueface.features.body import FrozenBody
from trueface.features.matrix import Cost, FeatureMatrix
from trueface.features.store import FeatureStore
from trueface.models.detectors import Detector
from trueface.runtime.errors import JobError
from trueface.runtime.progress import Watch
from trueface.runtime.timer import now
from trueface.training.settings import LearningSettings


@dataclass(frozen=True)
class Pixels:
    """Images of one list: augmented in epochs, as they are tested otherwise."""

    learned: Pass
    tested: Pass

    @cached_property
    def identity(self) -> str:
        """A checksum of which files these are, in their order, and of what is done to them."""
        settings = self.learned.settings.model_dump(mode="json")
        description = [
            [(image.name, *_stamp(image.file)) for image in self.tested.image_set.images],
            sorted(self.tested.image_set.stamped),
            {
                **self.learned.image_set.transform.id.identity,
                **self.tested.image_set.transform.id.identity,
                "decode": settings.get("decode"),
                "seed": settings.get("seed"),  # of the order
            },
        ]
        return hashlib.sha256(json.dumps(description).encode()).hexdigest()

    def __call__(
        self, positions: Sequence[int], *, epoch: int | None, batch_size: int | None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Start a pass; see `examples.Source`."""
        if not len(positions):
            return
        feed = self.tested if epoch is None else self.learned
        for batch in feed.over(positions, epoch or 0, batch_size=batch_size):
            yield batch.images, batch.indices


@dataclass(slots=True)
class Features:
    """What the last layer gets of images: (B, F), in the place of pixels."""

    pixels: Pixels
    body_sha256: str  # what the features follow from besides the images
    still: Tensor  # (N, F) as they are tested; rows of images that cannot be read are nan
    learned: Bank  # as they are augmented
    settings: LearningSettings
    watch: Watch
    meter: Meter
    held: dict[int, Tensor] = field(default_factory=dict)  # augmented ones that repeat
    views: tuple[Bank, ...] = ()  # what epochs see in turn, in the place of `learned`

    @property
    def identity(self) -> str:
        """The pixels', and the body's."""
        return f"{self.pixels.identity}/{self.body_sha256}"

    @property
    def period(self) -> int:
        """After how many epochs features come again; 0: never."""
        return len(self.views) or self.pixels.learned.image_set.transform.id.period

    def __call__(
        self, positions: Sequence[int], *, epoch: int | None, batch_size: int | None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Start a pass; see `examples.Source`."""
        period = self.period
        if epoch is not None and period == 0:  # it never repeats
            if len(positions):
                before = self.learned.cost
                for batch in self.learned.over(positions, epoch, batch_size=batch_size):
                    before = self._note_saved(before)
                    yield batch.images, batch.indices
                if self.watch.stop.is_set():  # the pass may have ended before its first batch
                    raise JobError("stopped; nothing was written, the next attempt begins anew")
            return
        rows = self.still if epoch is None else self._view(epoch % period)
        readable = ~rows[:, 0].isnan()
        good = [position for position in positions if readable[position]]
        size = batch_size or BATCH_SIZE
        for places in groups(good, epoch, size, self.settings.seed):
            yield rows[places], places

    def _view(self, number: int) -> Tensor:
        bank = self.views[number] if self.views else self.learned
        if bank.is_test:
            return self.still
        if number not in self.held:
            before = bank.cost
            matrix = bank.whole(number)
            self._note_saved(before, bank)
            self.held[number] = _rows(matrix, len(self.still))
        return self.held[number]

    def _note_saved(self, before: Cost, bank: Bank | None = None) -> Cost:
        """Count what the store saved since, so that a method costs the same whatever lies there."""
        cost = (bank or self.learned).cost
        self.meter.saved_seconds += cost.saved_s - before.saved_s
        return cost


def features_of(
    pixels: Pixels,
    model: Detector,
    settings: LearningSettings,
    watch: Watch,
    *,
    meter: Meter,
    store: FeatureStore | None = None,
    views: Sequence[Pass] = (),
) -> Features:
    """Return the images of `pixels` as features of the model's body.

    Args:
        pixels: the images.
        model: whose body it is.
        settings: of the training.
        watch: device, precision, stop.
        meter: counts the images that are read, and the time that it takes, or took for the store.
        store: where features are kept for all jobs; None: nowhere.
        views: what epochs see in turn; (): what `pixels` has for each.

    Raises:
        JobError: stopped, or the features are no finite numbers.
    """
    began = now()
    body = FrozenBody(model, device=watch.device, precision=watch.precision)
    matrix = feature_matrix(body, pixels.tested, watch, store=store)
    meter.cached_samples += len(matrix)
    meter.cached_seconds += matrix.cost.seconds
    if matrix.cost.computed:
        meter.making_seconds += now() - began
    return Features(
        pixels=pixels,
        body_sha256=body.sha256,
        still=_rows(matrix, len(pixels.tested)),
        learned=Bank(body, pixels.learned, watch=watch, store=store),
        views=tuple(Bank(body, view, watch=watch, store=store) for view in views),
        settings=settings,
        watch=watch,
        meter=meter,
    )


def _rows(matrix: FeatureMatrix, count: int) -> Tensor:
    """Return (count, F) features; rows of images that could not be read are nan."""
    rows = np.full((count, matrix.features.shape[1]), np.nan, dtype=np.float32)
    rows[matrix.positions] = matrix.features
    return torch.from_numpy(rows)


def _stamp(file: str) -> tuple[int, int]:
    """Return size and time of a file: another image may come to lie under the same name."""
    try:
        status = os.stat(file)  # noqa: PTH116  # of 200,000 files, without a path of each
    except OSError:  # it is read as little as it is stamped
        return 0, 0
    return status.st_size, status.st_mtime_ns
