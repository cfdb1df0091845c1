"""The images of a training: those of its data ID and split, and their permanent record.

The folder of a model contains a record of the lists of its training and of its base model. The
chain of bases gives all training images of a model. Reading is fast: no weights are opened, and
torch is not needed.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from trueface.data.index import Image
from trueface.data.settings import PlaceSettings
from trueface.data.splits.split_files import SplitList, load_split, split_images
from trueface.data.vocabulary import BUILT_IN, UNSHARED, DataIdResolver
from trueface.evaluation.calibration_size import FEWEST
from trueface.runtime import paths
from trueface.runtime.errors import DataError, JobError, UsageError
from trueface.runtime.files import read_json, write_json
from trueface.runtime.ids import DataId, Words, parse_data, parse_model
from trueface.training.settings import LearningSettings, solver_of

SCHEMA = 1
ONLY_ORIGINALS = "sbi makes fakes of original images, and the real ones are all re-shared"
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSetRecord:
    """The images of one training or unlearning."""

    images: str  # data ID, real images included
    words: Words  # the user's own among those of the data ID
    data_root: str  # absolute, as is the next
    split_path: str
    train_sha256: str  # digest of the split's training list, as it was then
    # digest of its validation list; None: validation chose nothing, or a version until 0.2 wrote this
    val_sha256: str | None = None

    @property
    def vocabulary(self) -> DataIdResolver:
        """The meaning of the words of the data ID at that time."""
        return DataIdResolver(
            tuple(self.words.subsets.items()), tuple(self.words.modifiers.items())
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Ancestry:
    """The training images of one model, and its base model."""

    base: str | None
    # several where a training went on from its own earlier weights, or has not written its own yet
    lessons: tuple[TrainingSetRecord, ...]


_RECORD = TypeAdapter(Ancestry)


def write_ancestry(folder: Path, base: str | None, lessons: Sequence[TrainingSetRecord]) -> None:
    """Write the training images of the model in `folder`. A repeated record is written once."""
    once = tuple(lesson for index, lesson in enumerate(lessons) if lesson not in lessons[:index])
    record = _RECORD.dump_python(Ancestry(base=base, lessons=once), mode="json")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(paths.ancestry(folder), {"schema": SCHEMA, **record})


def begin_training_set(
    folder: Path, base: str | None, lesson: TrainingSetRecord, *, further: bool = False
) -> Callable[[], None]:
    """Record that a model is in training, and return the function to call after its weights.

    Until then `folder` contains older weights, if any. Their lists stay recorded, because the
    process may be killed before the new weights exist.

    Args:
        folder: of the model.
        base: its base model.
        lesson: its training images.
        further: it continues from its own weights, so that their lists stay valid permanently.
    """
    earlier = read_ancestry(folder) if paths.checkpoint(folder).exists() else None
    before = earlier.lessons if earlier else ()
    write_ancestry(folder, base, (*before, lesson))
    return partial(write_ancestry, folder, base, (*(before if further else ()), lesson))


def read_ancestry(folder: Path) -> Ancestry | None:
    """Return what the model in `folder` learned from; None where nothing sound says it."""
    try:
        record = read_json(paths.ancestry(folder))
        if record is None or record.pop("schema", None) != SCHEMA:
            return None
        ancestry = _RECORD.validate_python(record)
        for lesson in ancestry.lessons:
            lesson.vocabulary.test_data_id(parse_data(lesson.images))
    except (OSError, ValueError, ValidationError, UsageError):
        return None
    return ancestry


def iter_training_sets(
    model: str, ancestry_of: Callable[[str], Ancestry | None]
) -> Iterator[tuple[str, TrainingSetRecord]]:
    """Yield every record of training images of a model and its bases, each with its model.

    Args:
        model: its ID.
        ancestry_of: reads what is written of a model.
    """
    seen: set[str] = set()
    name: str | None = model
    while name is not None and name not in seen:
        seen.add(name)
        ancestry = ancestry_of(name)
        if ancestry is None:
            return
        for lesson in ancestry.lessons:
            yield name, lesson
        name = ancestry.base


def validation_decides(settings: Mapping[str, Any], *, unlearns: bool) -> bool:
    """Return whether validation influenced the weights of a model.

    Args:
        settings: of the training or unlearning.
        unlearns: unlearning methods select by validation, regardless of the epoch that a training
            keeps.
    """
    lowers_rate = (
        settings.get("schedule", "plateau") == "plateau" and settings.get("lr_decay_epochs", -1) > 0
    )
    if not unlearns and solver_of(settings) == "ridge":
        return not settings.get("penalty")
    stops = settings.get("early_stop", 0) > 0
    return unlearns or settings.get("select") != "last" or stops or lowers_rate


@dataclass(frozen=True, slots=True, kw_only=True)
class DataLocation:
    """Where images and their split lie, and what words of data IDs mean there."""

    data_root: Path  # absolute, as is the next
    split_path: Path
    words: Words  # the user's own
    vocabulary: DataIdResolver  # all of them
    missing: Literal["stop", "skip"]  # an image that the split names and that is not on disk

    @classmethod
    def from_place_settings(
        cls, settings: PlaceSettings, words: Words, path: Callable[[str], Path]
    ) -> "DataLocation":
        """Return the place that settings name; `path` makes a path of theirs absolute."""
        return cls(
            data_root=path(settings.data_root),
            split_path=path(settings.split_path),
            words=words,
            vocabulary=BUILT_IN.with_words(words).with_layout(settings.layout),
            missing=settings.missing_images,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingLists:
    """The images of a training, and the lists that chose them."""

    train: tuple[Image, ...]
    val: tuple[Image, ...]
    splits: tuple[SplitList, ...]


def data_of(images: str | None, model: str | None, words: Words) -> DataId:
    """Return the images of a training, including real ones.

    Args:
        images: data ID. None: that of the last stage of the model.
        model: its ID.
        words: user-defined words.

    Raises:
        JobError: neither determines the images.
    """
    if images is not None:
        return parse_data(images)
    if model is None:
        raise JobError("neither images nor a model whose ID names them are given")
    return BUILT_IN.with_words(words).training_data_id(parse_model(model).last.data)


def load_lists(location: DataLocation, data: DataId) -> TrainingLists:
    """Return what a training or unlearning learns from and is validated on.

    Raises:
        DataError: a part of the data has no image, or the split names images that are not there.
    """
    train, train_split = load_list(location, data, "train")
    val, val_split = load_list(location, data, "val")
    return TrainingLists(train=train, val=val, splits=(train_split, val_split))


def load_list(
    location: DataLocation, data: DataId, name: str
) -> tuple[tuple[Image, ...], SplitList]:
    """Return the images of one list of the split, and the list.

    Raises:
        DataError: as `load_lists`.
    """
    split = load_split(location.split_path, name)
    images = split_images(
        location.data_root, data, split, location.vocabulary, missing=location.missing
    )
    return images, split


def refuse_one_class(images: Sequence[Image], *, makes_fakes: bool = False) -> None:
    """Refuse training images of one class.

    Args:
        images: those that can be read.
        makes_fakes: whether the training makes fakes of the real original ones.

    Raises:
        DataError: nothing can be learned from them.
    """
    real, fake = count_classes(images)
    if real and (fake or (makes_fakes and any(map(is_original_real, images)))):
        return
    remedy = "Add images of the other class, or make another split: trueface splits"
    if makes_fakes and real:
        remedy = f"{ONLY_ORIGINALS}. Add fake images, or original real ones"
    raise DataError(
        f"the training images are {real} real and {fake} fake ones, but a detector learns from both "
        f"classes. {remedy}"
    )


def is_original_real(image: Image) -> bool:
    """Return whether `sbi` may make a fake of an image."""
    return image.label == 0 and image.modifier in UNSHARED


def refuse_epoch_without_fake(
    images: Sequence[Image], makes_fake: Callable[[Image, int], bool] | None, *, epochs: int
) -> None:
    """Refuse real images of which `sbi` makes no fake in one of the epochs, as its draws are known.

    Args:
        images: those that can be read.
        makes_fake: whether an image is a fake in an epoch, counted from 0. None: sbi is 0.
        epochs: their number.

    Raises:
        DataError: an epoch has one class.
    """
    if makes_fake is None or any(image.label for image in images):
        return
    originals = [image for image in images if is_original_real(image)]
    for epoch in range(epochs):
        if not any(makes_fake(image, epoch) for image in originals):
            raise DataError(
                f"sbi makes no fake in epoch {epoch + 1} of {epochs}, and the {len(images)} training images are "
                "all real. Set a higher sbi, or add fake images"
            )


def warn_of_one_class(
    images: Iterable[Image], settings: Mapping[str, Any], *, unlearns: bool = False
) -> None:
    """Warn if validation images have too few of a class to choose and calibrate a model; see `few_of_a_class`."""
    real, fake = count_classes(images)
    if reason := few_of_a_class(real, fake, settings, unlearns=unlearns):
        log.warning("split=val real=%d fake=%d reason=%s", real, fake, reason)


def few_of_a_class(real: int, fake: int, settings: Mapping[str, Any], *, unlearns: bool) -> str:
    """Return what validation images of so few of a class cannot decide, with the remedy, or ''.

    Args:
        real: number of real images.
        fake: number of fake images.
        settings: of the training or unlearning.
        unlearns: see `validation_decides`.
    """
    if min(real, fake) >= FEWEST:
        return ""
    alone = not (real and fake) and validation_decides(settings, unlearns=unlearns)
    remedy = "Make another split: trueface splits"
    if not fake and settings.get("sbi"):  # no split has fakes if the data has none
        remedy = "Add fake images to the data"
    return (
        f"{'one class alone chooses the epoch, and ' * alone}temperature and threshold are not fitted, "
        f"because they need {FEWEST} images of each class. {remedy}"
    )


def count_classes(images: Iterable[Image]) -> tuple[int, int]:
    """Return the numbers of real and of fake images."""
    counts = Counter(image.label for image in images)
    return counts[0], counts[1]


def training_set_record(
    location: DataLocation,
    data: DataId,
    lists: TrainingLists,
    settings: LearningSettings,
    *,
    unlearns: bool = False,
) -> TrainingSetRecord:
    """Return what is written of the images that a model learns from, and is chosen by."""
    decides = validation_decides(settings.model_dump(), unlearns=unlearns)
    return TrainingSetRecord(
        images=str(data),
        words=location.words,
        data_root=str(location.data_root),
        split_path=str(location.split_path),
        train_sha256=lists.splits[0].sha256,
        val_sha256=lists.splits[1].sha256 if decides else None,
    )
