"""Loads an image in several qualities: augmented once, then corrupted in each way.

    training    augmentation of `data.loading.transforms`, the same for all qualities → corruptions of each

An image is decoded once. A quality with separate files (see `qualities.QualityList`) is decoded
separately and augmented with the same random parameters. Random parameters of corruptions depend on
seed, epoch and the image's name. Corruptions without them give the same pixels as a test of the
same crop.

A batch has all items in the first quality, then all in the second, and so on. Row `quality · B +
item` of a batch is that item in that quality. The column `quality_index` contains the quality, too.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from trueface.corruptions.chain import Chain
from trueface.data.batch import Batch
from trueface.data.index import Image
from trueface.data.loading.decoding import decode
from trueface.data.loading.image_set import ImageLoader, ImageSet
from trueface.data.loading.loader import Dataset, PassRequest
from trueface.data.loading.prefetching import closing
from trueface.data.loading.transforms import TrainTransform, TransformId
from trueface.data.qualities import QualityList, chain_of, digests, files_of
from trueface.runtime.errors import BadImageError, JobError
from trueface.runtime.files import Json
from trueface.runtime.rng import python_rng

Form = Literal["paired", "mixed", "alone"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """One quality: a chain of corruptions of the images' own files, or of other files of the same items."""

    name: str  # as in the settings
    chain: Chain
    files: Mapping[str, Path] | None = None  # by an image's name; None: its own

    @property
    def is_plain(self) -> bool:
        """Whether images stay unchanged."""
        return self.files is None and not self.chain


def qualities_of(
    names: Sequence[str], images: Sequence[Image], partners: QualityList | None
) -> tuple[Quality, ...]:
    """Return the qualities of images.

    Args:
        names: as in the settings.
        images: of the training.
        partners: files of the same items. None if no quality needs any.

    Raises:
        DataError: a quality or an image is missing in the list.
    """
    qualities = []
    for name in names:
        word = files_of(name)
        files = None if word is None or partners is None else partners.partners(images, word)
        qualities.append(Quality(name=name, chain=Chain.parse(chain_of(name)), files=files))
    return tuple(qualities)


@dataclass(frozen=True, kw_only=True)
class QualityTransform:
    """The transform of a training in several qualities.

    The form determines the output:

    paired: (M, 3, h, w), one image in each of M qualities.
    mixed: (3, h, w) in one quality, drawn for each image and epoch.
    alone: (3, h, w) in the only quality.
    """

    base: TrainTransform
    qualities: tuple[Quality, ...]
    form: Form

    @cached_property
    def id(self) -> TransformId:
        """The identity of its pixels. That of a quality without changes is the augmentation's."""
        base, (first, *others) = self.base.id, self.qualities
        if not others and first.is_plain:
            return base
        # a chain without random parameters gives the pixels of a test of the same crop: one identity
        shared = base.is_test and not others and first.files is None and not first.chain.draws
        own: dict[str, Json]
        if shared:
            own = {"corrupt": str(first.chain)}
        else:
            names: list[Json] = [each.name for each in self.qualities]
            own = {"qualities": names, "quality_batch": self.form, "augment_seed": self.base.seed}
        return TransformId(
            identity={**base.identity, **own},
            view_identity={**base.view_identity, **own},
            period=self._cycle if self._is_random else base.period,
            is_test=False,
            row_identity=self._rows,
        )

    def __call__(self, pixels: Tensor, image: Image, epoch: int) -> Tensor:
        """Return the network input, uint8; see the class for its shape.

        Raises:
            BadImageError: the file of another quality cannot be decoded, or has another size.
        """
        if self.form == "paired":
            plain = self._transform_plain(pixels, image, epoch)
            return torch.stack(
                [self._apply_quality(each, pixels, plain, image, epoch) for each in self.qualities]
            )
        chosen = self.qualities[self.choice(image, epoch)]
        plain = self._transform_plain(pixels, image, epoch) if chosen.files is None else None
        return self._apply_quality(chosen, pixels, plain, image, epoch)

    def rows_needed(self, height: int, width: int, image: Image, epoch: int) -> int:
        """Return the first row of the image that is not needed."""
        return self.base.rows_needed(height, width, image, epoch)

    def choice(self, image: Image, epoch: int) -> int:
        """Return the index of the quality of an image in a mixed batch."""
        if len(self.qualities) == 1:
            return 0
        return python_rng(f"{self._stream(image, epoch)}/quality").randrange(len(self.qualities))

    def _transform_plain(self, pixels: Tensor, image: Image, epoch: int) -> Tensor | None:
        if all(each.files is not None for each in self.qualities):
            return None
        return self.base(pixels, image, epoch)

    def _apply_quality(
        self, quality: Quality, pixels: Tensor, plain: Tensor | None, image: Image, epoch: int
    ) -> Tensor:
        if quality.files is not None or plain is None:
            plain = self.base(self._partner(quality, pixels, image), image, epoch)
        name = self._stream(image, epoch) if quality.chain.draws else image.name
        return quality.chain(plain, name)

    def _partner(self, quality: Quality, pixels: Tensor, image: Image) -> Tensor:
        path = (quality.files or {})[image.name]
        partner = decode(path)
        if partner.shape != pixels.shape:
            sizes = [f"{shape[-1]} by {shape[-2]}" for shape in (partner.shape, pixels.shape)]
            raise BadImageError(
                path,
                f"it has {sizes[0]} pixels, but its original image {image.file} has {sizes[1]} "
                f"(quality {quality.name})",
            )
        return partner

    def _stream(self, image: Image, epoch: int) -> str:
        turn = epoch % self._cycle if self._cycle > 0 else epoch
        return f"qualities/{self.base.seed}/{turn}/{image.name}"

    @property
    def _cycle(self) -> int:
        return self.base.settings.augment_cycle

    @property
    def _is_random(self) -> bool:
        """Whether an image can differ from epoch to epoch."""
        drawn = len(self.qualities) > 1 and self.form == "mixed"
        return drawn or self.base.id.period != 1 or any(each.chain.draws for each in self.qualities)

    @property
    def _rows(self) -> Mapping[str, str]:
        """Digests of the further files of each image, by the image's name."""
        tables = [each.files for each in self.qualities if each.files is not None]
        known = digests({path for files in tables for path in files.values()})
        rows: dict[str, str] = {}
        for files in tables:
            for name, path in files.items():
                rows[name] = f"{rows.get(name, '')}/{known[path]}"
        return rows


COLUMN = "quality_index"  # (rows,) int64: index of a row's quality in the qualities of the training


def with_qualities(images: ImageLoader, qualities: Sequence[Quality], form: Form) -> ImageLoader:
    """Return images of a training under the transform of these qualities. Decoded images are shared.

    Raises:
        TypeError: the images do not have the transform of a training.
    """
    base = images.dataset.transform
    if not isinstance(base, TrainTransform):
        raise TypeError(f"images of {type(base).__name__} have no qualities")
    transform = QualityTransform(base=base, qualities=tuple(qualities), form=form)
    return replace(images, dataset=images.dataset.with_transform(transform, goes_on=True))


def split_by_quality(images: ImageLoader) -> list[ImageLoader]:
    """Return images in each quality alone, from images `with_qualities`.

    Raises:
        TypeError: the images have no qualities.
    """
    transform = images.dataset.transform
    if not isinstance(transform, QualityTransform):
        raise TypeError(f"images of {type(transform).__name__} have no qualities")
    return [
        replace(
            images,
            dataset=images.dataset.with_transform(
                replace(transform, qualities=(quality,), form="alone"), goes_on=True
            ),
        )
        for quality in transform.qualities
    ]


@dataclass(frozen=True, slots=True)
class QualitySet:
    """Images in several qualities, each decoded and augmented once.

    Args:
        images: under a `QualityTransform`, see `with_qualities`. If mixed, also features of such
            images.
        image_set: the items.
        form: A batch of B items has B·M rows if paired, B rows if mixed.
    """

    images: Dataset
    image_set: ImageSet
    form: Literal["paired", "mixed"]

    def __len__(self) -> int:
        return len(self.images)

    @property
    def rows_per_position(self) -> int:
        """The number of qualities in which an item comes."""
        return len(self._transform.qualities) if self.form == "paired" else 1

    def load(self, request: PassRequest) -> Iterator[Batch]:
        """Yield the batches of a pass."""
        with closing(self.images.load(request)) as batches:
            for batch in batches:
                if self.form == "paired":
                    yield expand_qualities(batch, len(self._transform.qualities))
                else:
                    yield pick_mixed_rows(batch, self.image_set, self._transform, request.epoch)

    @property
    def _transform(self) -> QualityTransform:
        transform = self.image_set.transform
        if not isinstance(transform, QualityTransform):
            raise TypeError(f"images of {type(transform).__name__} have no qualities")
        return transform


@dataclass(frozen=True, slots=True)
class ChunkedSet:
    """One dataset of several, one per quality. A batch contains a batch of each, in their order."""

    parts: Sequence[Dataset]  # the same items in the same order
    image_set: ImageSet
    stopped: Callable[[], bool]  # whether passes may end early

    def __len__(self) -> int:
        return len(self.parts[0])

    @property
    def rows_per_position(self) -> int:
        """The number of qualities."""
        return len(self.parts)

    def load(self, request: PassRequest) -> Iterator[Batch]:
        """Yield the batches of a pass, which ends early if a stop ends the pass of a part.

        Raises:
            JobError: an item could be read in one quality but not in another.
        """
        for due in zip_longest(*(part.load(request) for part in self.parts)):
            batches: list[Batch] = [batch for batch in due if batch is not None]
            if len(batches) < len(self.parts) and self.stopped():
                return
            first, *others = batches
            if len(batches) < len(self.parts) or any(
                not torch.equal(each.indices, first.indices) for each in others
            ):
                raise JobError(
                    "an image could be read in one quality but not in another. Fix or remove the "
                    "files that the log lists as left out."
                )
            inputs = torch.cat([each.inputs for each in batches])
            yield _repeat_batch(first._replace(inputs=inputs), len(batches))


def expand_qualities(batch: Batch, count: int) -> Batch:
    """Return a batch of images (B, M, 3, h, w) with a row of its own for each quality, (M·B, 3, h, w)."""
    inputs = batch.inputs.transpose(0, 1).flatten(0, 1) if len(batch.labels) else batch.inputs
    return _repeat_batch(batch._replace(inputs=inputs), count)


def pick_mixed_rows(
    batch: Batch, images: ImageSet, transform: QualityTransform, epoch: int
) -> Batch:
    """Return a batch with the column of qualities, drawn for each item and epoch."""
    drawn = [transform.choice(images.images[at], epoch) for at in batch.indices.tolist()]
    places = torch.tensor(drawn, dtype=torch.int64)
    return batch._replace(columns={**batch.columns, COLUMN: places})


def _repeat_batch(batch: Batch, count: int) -> Batch:
    """Return a batch of `count` rows per item with labels and columns of each, all items per quality."""
    places = torch.arange(count).repeat_interleave(len(batch.labels))
    columns = {name: values.repeat(count) for name, values in batch.columns.items()}
    return batch._replace(
        labels=batch.labels.repeat(count, *[1] * (batch.labels.ndim - 1)),
        indices=batch.indices.repeat(count),
        columns={**columns, COLUMN: places},
    )
