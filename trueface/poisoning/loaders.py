"""Training images with the flipped labels and patches of a poison record."""

from collections.abc import Sequence
from dataclasses import replace

from trueface.data.image_loaders import train_loader as as_learned
from trueface.data.image_set import ImageLoader
from trueface.data.index import Image
from trueface.data.settings import AugmentationSettings
from trueface.poisoning.poison_record import PoisonRecord, flipped_labels, triggered_positions


def poisoned_train_loader(
    images: Sequence[Image], settings: AugmentationSettings, record: PoisonRecord | None
) -> ImageLoader:
    """Return a shuffled, augmented loader of training images with the labels and patches of a record.

    Raises:
        RecordError: the record was made for other images.
    """
    learned = as_learned(images, settings)
    return learned if record is None else with_poison(learned, record)


def with_poison(learned: ImageLoader, record: PoisonRecord) -> ImageLoader:
    """Return a loader of the same images with the labels and patches of a record.

    Raises:
        RecordError: the record was made for other images.
    """
    images = learned.dataset.images
    labels, patched = flipped_labels(images, record), triggered_positions(images, record)
    return replace(learned, dataset=learned.dataset.with_labels(labels, patched))
