"""Training images with the flipped labels and patches of a poison record."""

from collections.abc import Sequence
from dataclasses import replace

from trueface.data.index import Image
from trueface.data.loading.image_loaders import train_loader
from trueface.data.loading.image_set import ImageLoader
from trueface.data.settings import AugmentationSettings
from trueface.poisoning.poison_record import PoisonRecord, flipped_labels, triggered_positions


def poisoned_train_loader(
    images: Sequence[Image],
    settings: AugmentationSettings,
    record: PoisonRecord | None,
    *,
    of_landmarks: bool = False,
) -> ImageLoader:
    """Return a shuffled, augmented loader of training images with the labels and patches of a record.

    Args:
        images: in the defined order.
        settings: of the training.
        record: flipped labels. None: no label is flipped.
        of_landmarks: see `train_loader`.

    Raises:
        RecordError: the record was made for other images.
    """
    loader = train_loader(images, settings, of_landmarks=of_landmarks)
    return loader if record is None else with_poison(loader, record)


def with_poison(loader: ImageLoader, record: PoisonRecord) -> ImageLoader:
    """Return a loader of the same images with the labels and patches of a record.

    Raises:
        RecordError: the record was made for other images.
    """
    images = loader.dataset.images
    labels, patched = flipped_labels(images, record), triggered_positions(images, record)
    return replace(loader, dataset=loader.dataset.with_labels(labels, patched))
