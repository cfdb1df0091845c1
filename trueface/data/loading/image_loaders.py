"""The loaders of images for trainings (shuffled and augmented) and tests (in order, unchanged)."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from operator import attrgetter

from trueface.corruptions.chain import Chain
from trueface.data.index import Image
from trueface.data.loading.decoding import Scaling
from trueface.data.loading.image_set import ImageLoader, ImageSet
from trueface.data.loading.loader import Loader
from trueface.data.loading.pass_order import Order
from trueface.data.loading.preprocessing import Preprocessing
from trueface.data.loading.shared_images import SharedImages, open_shared_images
from trueface.data.loading.transforms import (
    LandmarkTransform,
    TrainTransform,
    test_transform,
)
from trueface.data.settings import COLUMNS, AugmentationSettings, TestSettings
from trueface.runtime.rng import stream_seed


def train_loader(
    images: Sequence[Image],
    settings: AugmentationSettings,
    columns: Collection[str] = (),
    *,
    of_landmarks: bool = False,
) -> ImageLoader:
    """Return a loader of training images: shuffled and augmented.

    Args:
        images: in the defined order.
        settings: crops, batches, decoding, seeds.
        columns: columns of the batches. Those that are not in `COLUMNS` are added later, with
            `ImageSet.attach_column`.
        of_landmarks: batches have the landmarks of clips in place of their pixels, unchanged.
    """
    transform = TrainTransform(settings=settings, seed=settings.augment_seed)
    values = {
        name: [*map(attrgetter(COLUMNS[name]), images)] for name in columns if name in COLUMNS
    }
    names = {name: tuple(sorted(set(values[name]))) for name in values}
    return Loader(
        dataset=ImageSet(
            images,
            LandmarkTransform() if of_landmarks else transform,
            columns={name: _numbers(values[name], names[name]) for name in values},
            column_names=names,
            makes_fake=transform.makes_fake if settings.sbi > 0 else None,
            scaling=Scaling.from_decode_setting(settings.decode, settings.resize_size),
            shared_images=None if of_landmarks else _open_shared_cache(settings),
            on_bad_image=settings.on_bad_image,
            num_threads=settings.num_threads,
        ),
        order=Order(seed=stream_seed("order", settings.seed)),
        batch_size=settings.batch_size,
    )


def eval_loader(
    images: Sequence[Image],
    settings: AugmentationSettings | TestSettings,
    triggered_rows: Collection[int] = (),
    corruptions: Chain | None = None,
    preprocessing: Preprocessing | None = None,
    *,
    of_landmarks: bool = False,
) -> ImageLoader:
    """Return a loader of validation or test images: in order, with true labels, nothing random.

    Args:
        images: in the defined order.
        settings: crops, batches, decoding.
        triggered_rows: positions of images with the backdoor's patch.
        corruptions: replace those of the settings. None keeps them.
        preprocessing: of a published model; it replaces the crop and the patches of the settings.
        of_landmarks: batches have the landmarks of clips in place of their pixels.
    """
    transform = test_transform(settings).with_preprocessing(preprocessing)
    if corruptions is not None:
        transform = replace(transform, corruptions=corruptions)
    image_set = ImageSet(
        images,
        LandmarkTransform() if of_landmarks else transform,
        triggered_rows=triggered_rows,
        scaling=Scaling.from_decode_setting(settings.decode, settings.resize_size),
        shared_images=None if of_landmarks else _open_shared_cache(settings),
        on_bad_image=settings.on_bad_image,
        num_threads=settings.num_threads,
    )
    return Loader(dataset=image_set, batch_size=settings.batch_size)


def _open_shared_cache(settings: AugmentationSettings | TestSettings) -> SharedImages | None:
    """Return the shared cache of decoded images if the settings ask for it, otherwise None."""
    if settings.cache != "decoded":
        return None
    return open_shared_images(Scaling.from_decode_setting(settings.decode, settings.resize_size))


def _numbers(values: Sequence[str], names: Sequence[str]) -> list[int]:
    """Return the index of each image's value in the sorted names."""
    places = {name: position for position, name in enumerate(names)}
    return [places[name] for name in values]
