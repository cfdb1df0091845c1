"""Images on their way into a network: which ones, with which labels, augmented or as they are."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Protocol

from trueface.corruptions.chain import Chain
from trueface.data.dataset import Batch, ImageSet, batches
from trueface.data.examples import Examples, Label
from trueface.data.index import Image
from trueface.data.loading.shared_images import SharedImages, open_shared_images
from trueface.data.settings import COLUMNS, AugmentationSettings, TestSettings
from trueface.data.transforms import TrainTransform, test_transform
from trueface.runtime.rng import derive
from trueface.runtime.sharding import WHOLE, Shard


class Feed(Protocol):
    """Images with labels that come in batches, as often as they are asked for."""

    def __len__(self) -> int:
        """Return how many images one pass has."""

    def __call__(self, epoch: int) -> Iterator[Batch]:
        """Start a pass; its order and its augmentation are functions of `epoch`."""


@dataclass(frozen=True, slots=True)
class ExampleFeed:
    """Examples as a feed, with one sort of their labels as classes from 0, (B,) int64."""

    examples: Examples
    label: Label
    augmented: bool = True  # and shuffled; else as they are tested, in order
    batch_size: int | None = None  # None: as the source likes

    def __len__(self) -> int:
        return len(self.examples)

    def __call__(self, epoch: int) -> Iterator[Batch]:
        """Start a pass."""
        number = epoch if self.augmented else None
        for batch in self.examples.batches(self.label, epoch=number, batch_size=self.batch_size):
            yield Batch(batch.inputs, batch.labels, batch.positions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """A set of images as a training or a validation goes through it."""

    image_set: ImageSet
    settings: AugmentationSettings | TestSettings
    shuffle_seed: int | None = None
    shard: Shard = WHOLE  # of each batch
    cells: tuple[int, ...] | None = None  # of each image, where they are drawn by it

    def __len__(self) -> int:
        return len(self.image_set)

    def __call__(self, epoch: int) -> Iterator[Batch]:
        """Start a pass."""
        return self.over(range(len(self.image_set)), epoch)

    def over(
        self, positions: Sequence[int], epoch: int, *, batch_size: int | None = None
    ) -> Iterator[Batch]:
        """Start a pass over some of the images, in batches of the settings' size or another."""
        return batches(
            self.image_set,
            batch_size=batch_size or self.settings.batch_size,
            on_bad_image=self.settings.on_bad_image,
            shuffle_seed=self.shuffle_seed,
            epoch=epoch,
            num_threads=self.shard.fraction_of(self.settings.num_threads),
            indices=positions,
            shard=self.shard,
            cells=self.cells,
        )


def augmented(
    images: Sequence[Image],
    settings: AugmentationSettings,
    columns: Collection[str] = (),
) -> Pass:
    """Return `images` as they are learned: shuffled and augmented.

    Args:
        images: in the defined order.
        settings: crops, batches, decoding, seeds.
        columns: of `COLUMNS`, that batches shall have; others are given later, with
            `ImageSet.give_column`.
    """
    transform = TrainTransform(settings=settings, seed=settings.augment_seed)
    values = {
        name: [*map(attrgetter(COLUMNS[name]), images)] for name in columns if name in COLUMNS
    }
    names = {name: tuple(sorted(set(values[name]))) for name in values}
    return Pass(
        image_set=ImageSet(
            images,
            transform,
            columns={name: _numbers(values[name], names[name]) for name in values},
            column_names=names,
            makes_fake=transform.makes_fake if settings.sbi > 0 else None,
            decode=settings.decode,
            scale_to=settings.resize_size,
            shared=_shared(settings),
        ),
        settings=settings,
        shuffle_seed=derive("order", settings.seed),
    )


def still(
    images: Sequence[Image],
    settings: AugmentationSettings | TestSettings,
    stamped: Collection[int] = (),
    corruptions: Chain | None = None,
) -> Pass:
    """Return `images` as they are tested and validated: in order, nothing random, true labels.

    Args:
        images: in the defined order.
        settings: crops, batches, decoding.
        stamped: positions that carry the backdoor's patch.
        corruptions: in the place of those of the settings.
    """
    transform = test_transform(settings)
    if corruptions is not None:
        transform = replace(transform, corruptions=corruptions)
    image_set = ImageSet(
        images,
        transform,
        stamped=stamped,
        decode=settings.decode,
        scale_to=settings.resize_size,
        shared=_shared(settings),
    )
    return Pass(image_set=image_set, settings=settings)


def _shared(settings: AugmentationSettings | TestSettings) -> SharedImages | None:
    """Return the decoded images of all jobs, where a job asks for them."""
    if settings.cache != "decoded":
        return None
    scaled = settings.decode == "scaled"
    return open_shared_images(settings.resize_size if scaled else None)


def _numbers(values: Sequence[str], names: Sequence[str]) -> list[int]:
    """Return the place of each image's value among the sorted values of all."""
    places = {name: place for place, name in enumerate(names)}
    return [places[name] for name in values]
