"""What a training in several qualities reads: pixels, or the features of a body that stays as it is."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from trueface.data.loaders import Feed, Pass
from trueface.data.qualities.feed import (
    ChunkedFeed,
    QualityFeed,
    QualityTransform,
    qualities_of,
    seen_in,
)
from trueface.data.qualities.quality_list import QualityList
from trueface.features.bank import BANK_BYTES, Bank
from trueface.features.body import FrozenBody
from trueface.features.store import FeatureStore
from trueface.models.detectors import Detector
from trueface.runtime.files import Json
from trueface.runtime.progress import Watch
from trueface.training.provenance import file_sha256
from trueface.training.settings import TrainSettings


def in_qualities(images: Pass, settings: TrainSettings, path: Callable[[str], Path]) -> Pass:
    """Return a training's images in the qualities of its settings; as they are where there are none.

    Args:
        images: as augmented.
        settings: of the training.
        path: makes a path of the settings absolute.

    Raises:
        DataError: the list of files does not fit the images.
    """
    names = settings.quality_names
    if not names:
        return images
    partners = None
    if settings.quality_list:
        partners = QualityList.read(path(settings.quality_list))
    qualities = qualities_of(names, images.image_set.images, partners)
    return seen_in(images, qualities, settings.quality_batch)


def facts_of(settings: TrainSettings, path: Callable[[str], Path]) -> dict[str, Json]:
    """Return which list of files a training reads, for its provenance; {} where it reads none."""
    if not settings.quality_list:
        return {}
    return {"quality_list_sha256": file_sha256(path(settings.quality_list))}


def rows_of(images: Pass, settings: TrainSettings) -> Feed:
    """Return the batches of images `in_qualities`: a row for each quality of an image."""
    if not settings.quality_names:
        return images
    return QualityFeed(images, images.image_set, settings.quality_batch)


def banks_in_qualities(
    model: Detector,
    training: Pass,
    validation: Pass,
    settings: TrainSettings,
    watch: Watch,
    *,
    limit_bytes: int = BANK_BYTES,
    store: FeatureStore | None = None,
) -> tuple[Feed, Bank]:
    """Return both feeds of a training whose body is constant, with features for pixels.

    Each quality has features of its own, so that trainings in some of the same qualities share them.

    Args:
        model: on the device of `watch`; its body is taken as it is now.
        training: `in_qualities`.
        validation: as it is tested.
        settings: of the training.
        watch: device and stop.
        limit_bytes: of the features held in memory.
        store: where features are kept for all jobs; None: nowhere.
    """
    body = FrozenBody(model, device=watch.device, precision=settings.precision)
    tested = Bank(
        body, validation, watch=watch, limit_bytes=limit_bytes, store=store, finishes=True
    )
    parts = _alone(training) if settings.quality_batch == "paired" else [training]
    learned = [
        Bank(
            body,
            part,
            watch=watch,
            limit_bytes=(limit_bytes - tested.held_bytes) // len(parts),
            store=store,
            views=settings.num_epochs,
        )
        for part in parts
    ]
    if settings.quality_batch == "mixed":
        return QualityFeed(learned[0], training.image_set, "mixed"), tested
    return ChunkedFeed(learned, training.image_set, watch.stop.is_set), tested


def _alone(training: Pass) -> list[Pass]:
    """Return the same images in each quality by itself."""
    transform = training.image_set.transform
    if not isinstance(transform, QualityTransform):
        raise TypeError(f"images of {type(transform).__name__} have no qualities")
    return [
        replace(
            training,
            image_set=training.image_set.seen_as(
                replace(transform, qualities=(quality,), form="alone"), goes_on=True
            ),
        )
        for quality in transform.qualities
    ]
