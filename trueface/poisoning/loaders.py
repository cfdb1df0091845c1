"""Training images with the labels and the patches that a poison record gives them."""

from collections.abc import Collection, Sequence

from trueface.data import loaders
from trueface.data.index import Image
from trueface.data.loaders import Pass
from trueface.data.settings import AugmentationSettings
from trueface.poisoning.poison_record import PoisonRecord, flipped, stamped


def augmented(
    images: Sequence[Image],
    settings: AugmentationSettings,
    record: PoisonRecord | None,
    columns: Collection[str] = (),
) -> Pass:
    """Return `images` as they are learned: shuffled, augmented, flipped and stamped as recorded.

    Raises:
        RecordError: the record was made for other images.
    """
    if record is None:
        return loaders.augmented(images, settings, columns=columns)
    return loaders.augmented(
        images,
        settings,
        labels=flipped(images, record),
        stamped=stamped(images, record),
        columns=columns,
    )
