"""Training images with the labels and the patches that a poison record gives them."""

from collections.abc import Sequence
from dataclasses import replace

from trueface.data.dataset import Pass
from trueface.data.dataset import augmented as as_learned
from trueface.data.index import Image
from trueface.data.settings import AugmentationSettings
from trueface.poisoning.poison_record import PoisonRecord, flipped, stamped


def augmented(
    images: Sequence[Image], settings: AugmentationSettings, record: PoisonRecord | None
) -> Pass:
    """Return `images` as they are learned: shuffled, augmented, flipped and stamped as recorded.

    Raises:
        RecordError: the record was made for other images.
    """
    learned = as_learned(images, settings)
    return learned if record is None else poisoned(learned, record)


def poisoned(learned: Pass, record: PoisonRecord) -> Pass:
    """Return images with the labels and patches of a record.

    Raises:
        RecordError: the record was made for other images.
    """
    images = learned.image_set.images
    labels, patched = flipped(images, record), stamped(images, record)
    return replace(learned, image_set=learned.image_set.learned_as(labels, patched))
