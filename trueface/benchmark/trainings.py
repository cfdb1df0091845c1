"""How the models of a benchmark were trained, in one sentence: images, epochs, side of the images, time."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from pydantic import BaseModel, FiniteFloat, ValidationError

from trueface.runtime import paths
from trueface.runtime.files import read_json


class ImageSide(BaseModel):
    """The one setting of a training that is read."""

    resize_size: int  # pixels


class TrainingSummary(BaseModel):
    """The extent of one training, from the summary and the provenance of its model."""

    images: int
    epochs: int
    seconds: FiniteFloat
    device: str
    threads: int
    settings: ImageSide


def read_training(model_folder: Path) -> TrainingSummary | None:
    """Return the extent of the training of a model, or None if its folder has no such record."""
    files = paths.provenance(model_folder), paths.summary(model_folder)
    source, result = (read_json(file) or {} for file in files)
    try:
        return TrainingSummary.model_validate({**source, **result})
    except ValidationError:
        return None


def trainings_text(trainings: Sequence[TrainingSummary | None]) -> str:
    """Return the ranges of the extents of trainings, or '' without any record."""
    known = [each for each in trainings if each is not None]
    if not known:
        return ""
    text = (
        f"{_range(each.images for each in known)} images of "
        f"{_range(each.settings.resize_size for each in known)} pixels, "
        f"epochs: {_range(each.epochs for each in known)}, "
        f"{_range(round(each.seconds) for each in known)} s per model on "
    )
    devices = dict.fromkeys(
        f"{each.device} ({'1 thread' if each.threads == 1 else f'{each.threads} threads'})"
        for each in known
    )
    text += ", ".join(devices)
    without = len(trainings) - len(known)
    return f"{text}. Models without a record: {without}" if without else text


def _range(values: Iterable[int]) -> str:
    each = [*values]
    low, high = min(each), max(each)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
