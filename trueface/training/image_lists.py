"""The images of a training: which ones its data and its split mean on this disk."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from trueface.data.index import Image
from trueface.data.settings import PlaceSettings
from trueface.data.splits.splits import Split, load_split, split_images
from trueface.data.vocabulary import BUILT_IN, Vocabulary
from trueface.runtime.errors import JobError
from trueface.runtime.ids import DataId, Words, parse_data, parse_model
from trueface.training.lineage import Lesson, validation_decides
from trueface.training.settings import LearningSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where images and their split lie, and what words of data IDs mean there."""

    data_root: Path  # absolute, as is the next
    split_path: Path
    words: Words  # the user's own
    vocabulary: Vocabulary  # all of them
    missing: Literal["stop", "skip"]  # an image that the split names and that is not on disk

    @classmethod
    def of(cls, settings: PlaceSettings, words: Words, path: Callable[[str], Path]) -> "Place":
        """Return the place that settings name; `path` makes a path of theirs absolute."""
        return cls(
            data_root=path(settings.data_root),
            split_path=path(settings.split_path),
            words=words,
            vocabulary=BUILT_IN.with_words(words).with_layout(settings.layout),
            missing=settings.missing_images,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Lists:
    """The images of a training, and the lists that chose them."""

    train: tuple[Image, ...]
    val: tuple[Image, ...]
    splits: tuple[Split, ...]


def data_of(images: str | None, model: str | None, words: Words) -> DataId:
    """Return which images a training means, real ones included.

    Args:
        images: data ID; None: what the last stage of the model says.
        model: its ID.
        words: the user's own.

    Raises:
        JobError: neither says it.
    """
    if images is not None:
        return parse_data(images)
    if model is None:
        raise JobError("neither images nor a model that names them are given")
    return BUILT_IN.with_words(words).images(parse_model(model).last.data)


def load_lists(place: Place, data: DataId) -> Lists:
    """Return what a training or unlearning learns from and is validated on.

    Raises:
        DataError: a part of the data has no image, or the split names images that are not there.
    """
    train, train_split = load_list(place, data, "train")
    val, val_split = load_list(place, data, "val")
    return Lists(train=train, val=val, splits=(train_split, val_split))


def load_list(place: Place, data: DataId, name: str) -> tuple[tuple[Image, ...], Split]:
    """Return the images of one list of the split, and the list.

    Raises:
        DataError: as `load_lists`.
    """
    split = load_split(place.split_path, name)
    images = split_images(place.data_root, data, split, place.vocabulary, missing=place.missing)
    return images, split


def lesson_of(
    place: Place,
    data: DataId,
    lists: Lists,
    settings: LearningSettings,
    *,
    unlearns: bool = False,
) -> Lesson:
    """Return what is written of the images that a model learns from, and is chosen by."""
    decides = validation_decides(settings.model_dump(), unlearns=unlearns)
    return Lesson(
        images=str(data),
        words=place.words,
        data_root=str(place.data_root),
        split_path=str(place.split_path),
        train_sha256=lists.splits[0].sha256,
        val_sha256=lists.splits[1].sha256 if decides else None,
    )
