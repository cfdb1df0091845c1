"""Batches of items in several qualities: all items in the first, then all in the second, and so on.

Row `quality · B + item` of a batch is that item in that quality; the column `quality_index` says so too.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Literal

import torch

from trueface.data.dataset import Batch, ImageSet
from trueface.data.loaders import Feed, Pass
from trueface.data.qualities.transform import Form, Quality, QualityTransform
from trueface.data.transforms import TrainTransform
from trueface.runtime.errors import JobError

COLUMN = "quality_index"  # (rows,) int64: the place of a row's quality among those of the training


def seen_in(images: Pass, qualities: Sequence[Quality], form: Form) -> Pass:
    """Return a training's images under the transform of these qualities; what is decoded is shared.

    Raises:
        TypeError: the images are not as a training augments them.
    """
    base = images.image_set.transform
    if not isinstance(base, TrainTransform):
        raise TypeError(f"images of {type(base).__name__} have no qualities")
    transform = QualityTransform(base=base, qualities=tuple(qualities), form=form)
    return replace(images, image_set=images.image_set.seen_as(transform, goes_on=True))


@dataclass(frozen=True, slots=True)
class QualityFeed:
    """A pass over images in several qualities, each decoded and augmented once.

    Args:
        images: under a `QualityTransform`, see `seen_in`; or, where mixed, features of such images.
        image_set: the items.
        form: paired: a batch of B items has B·M rows; mixed: B rows.
    """

    images: Feed
    image_set: ImageSet
    form: Literal["paired", "mixed"]

    def __len__(self) -> int:
        """Return how many rows one pass has."""
        return len(self.images) * (len(self._transform.qualities) if self.form == "paired" else 1)

    def __call__(self, epoch: int) -> Iterator[Batch]:
        """Start a pass."""
        for batch in self.images(epoch):
            if self.form == "paired":
                yield spread(batch, len(self._transform.qualities))
            else:
                yield mixed(batch, self.image_set, self._transform, epoch)

    @property
    def _transform(self) -> QualityTransform:
        transform = self.image_set.transform
        if not isinstance(transform, QualityTransform):
            raise TypeError(f"images of {type(transform).__name__} have no qualities")
        return transform


@dataclass(frozen=True, slots=True)
class ChunkedFeed:
    """A feed of each quality, such as banks of features, as one: their batches follow each other."""

    feeds: Sequence[Feed]  # over the same items, in the same order, with the same batches
    image_set: ImageSet
    stopped: Callable[[], bool]  # whether feeds may end early

    def __len__(self) -> int:
        """Return how many rows one pass has."""
        return sum(map(len, self.feeds))

    def __call__(self, epoch: int) -> Iterator[Batch]:
        """Start a pass; it ends early when its feeds do, as they are stopped.

        Raises:
            JobError: an item could be read in one quality, and not in another.
        """
        for due in zip_longest(*(feed(epoch) for feed in self.feeds)):
            batches: list[Batch] = [batch for batch in due if batch is not None]
            if len(batches) < len(self.feeds) and self.stopped():
                return
            first, *others = batches
            if len(batches) < len(self.feeds) or any(
                not torch.equal(each.indices, first.indices) for each in others
            ):
                raise JobError(
                    "an image was read in one quality and not in another; mend or remove the files that "
                    "the log names as left out"
                )
            images = torch.cat([each.images for each in batches])
            yield _repeated(first._replace(images=images), len(batches))


def spread(batch: Batch, count: int) -> Batch:
    """Return a batch of images (B, M, 3, h, w) with a row of its own for each quality, (M·B, 3, h, w)."""
    images = batch.images.transpose(0, 1).flatten(0, 1) if len(batch.labels) else batch.images
    return _repeated(batch._replace(images=images), count)


def mixed(batch: Batch, images: ImageSet, transform: QualityTransform, epoch: int) -> Batch:
    """Return a batch with the quality in which each item comes in this epoch."""
    drawn = [transform.choice(images.images[at], epoch) for at in batch.indices.tolist()]
    places = torch.tensor(drawn, dtype=torch.int64)
    return batch._replace(columns={**batch.columns, COLUMN: places})


def _repeated(batch: Batch, count: int) -> Batch:
    """Return a batch whose images are chunks of its items, with labels and columns for each."""
    places = torch.arange(count).repeat_interleave(len(batch.labels))
    columns = {name: values.repeat(count) for name, values in batch.columns.items()}
    return batch._replace(
        labels=batch.labels.repeat(count, *[1] * (batch.labels.ndim - 1)),
        indices=batch.indices.repeat(count),
        columns={**columns, COLUMN: places},
    )
