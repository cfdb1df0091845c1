"""Training images as unlearning methods read them: pixels, or the features of a frozen body.

Where the body stays as it is, a method works on the last layer alone, and what that gets: features
of images as they are tested are kept between calls, those of augmented ones where they repeat.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from trueface.data.example_sources import BATCH_SIZE, Meter, groups
from trueface.data.loaders import Pass
from trueface.features.bank import feature_matrix
from trueface.features.body import FrozenBody
from trueface.models.detectors import Detector
from trueface.runtime.progress import Watch
from trueface.training.settings import LearningSettings
from trueface.unlearning.cache import Cache, fingerprint


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
    body: FrozenBody
    body_checksum: str  # what the features follow from besides the images: the body's checksum
    still: Tensor  # (N, F) as they are tested; rows of images that cannot be read are nan
    settings: LearningSettings
    held: dict[int, Tensor] = field(default_factory=dict)  # augmented ones that repeat

    @property
    def identity(self) -> str:
        """The pixels', and the body's."""
        return f"{self.pixels.identity}/{self.body_checksum}"

    def __call__(
        self, positions: Sequence[int], *, epoch: int | None, batch_size: int | None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Start a pass; see `examples.Source`."""
        period = self.pixels.learned.image_set.transform.id.period
        if epoch is not None and period == 0:  # it never repeats
            for images, places in self.pixels(positions, epoch=epoch, batch_size=batch_size):
                yield self.body(images), places
            return
        rows = self.still if epoch is None else self._variant(epoch % period)
        readable = ~rows[:, 0].isnan()
        good = [position for position in positions if readable[position]]
        size = batch_size or BATCH_SIZE
        for places in groups(good, epoch, size, self.settings.seed):
            yield rows[places], places

    def _variant(self, number: int) -> Tensor:
        if self.pixels.learned.image_set.transform.id.is_test:
            return self.still
        if number not in self.held:
            rows = torch.full_like(self.still, torch.nan)
            everything = range(len(self.still))
            for images, places in self.pixels(everything, epoch=number, batch_size=None):
                rows[places] = self.body(images).cpu()
            self.held[number] = rows
        return self.held[number]


def features_of(
    pixels: Pixels,
    model: Detector,
    settings: LearningSettings,
    cache: Cache,
    watch: Watch,
    *,
    meter: Meter,
) -> Features:
    """Return the images of `pixels` as features of the model's body; those as tested are kept.

    Args:
        pixels: the images.
        model: whose body it is.
        settings: of the training.
        cache: keeps the features.
        watch: device, precision, stop.
        meter: the cache's; counts the images that are read.

    Raises:
        JobError: stopped, or the features are no finite numbers.
    """
    body_checksum = body_fingerprint(model)
    count = len(pixels.tested)

    def make() -> dict[str, Tensor]:
        matrix = feature_matrix(model, pixels.tested, watch)
        meter.samples += len(matrix.positions)
        rows = torch.full((count, model.feature_dim), torch.nan)
        rows[torch.from_numpy(matrix.positions)] = torch.from_numpy(matrix.features)
        return {"rows": rows}

    follows_from = (body_checksum, pixels.identity, watch.precision)
    still = cache.tensors("features", follows_from, make)["rows"]
    body = FrozenBody(model, device=watch.device, precision=watch.precision)
    return Features(
        pixels=pixels, body=body, body_checksum=body_checksum, still=still, settings=settings
    )


def body_fingerprint(model: Detector) -> str:
    """Return a checksum of all that a model's features depend on."""
    return f"{fingerprint(model.body_state)}/{model.normalization}"


def _stamp(file: str) -> tuple[int, int]:
    """Return size and time of a file: another image may come to lie under the same name."""
    try:
        status = os.stat(file)  # noqa: PTH116  # of 200,000 files, without a path of each
    except OSError:  # it is read as little as it is stamped
        return 0, 0
    return status.st_size, status.st_mtime_ns
