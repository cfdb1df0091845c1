"""The images of a training: those of its data ID and split, and their permanent record.

The folder of a model contains a record of the lists of its training, of its base model and of the teacher
from which it was distilled. Bases and teachers are its ancestors. Their records give all images that a model
learned from. Reading is fast: no weights are opened, and torch is not needed.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import TypeAdapter, ValidationError

from trueface.data.clips import Clips, list_clips
from trueface.data.dataset_file import video_sources
from trueface.data.image_keys import method_of
from trueface.data.index import Image
from trueface.data.settings import PREPROCESSING, PlaceSettings
from trueface.data.splits.split_files import SplitList, load_split, split_images
from trueface.data.vocabulary import BUILT_IN, UNSHARED, DataIdResolver
from trueface.evaluation.calibration_size import FEWEST
from trueface.poisoning.poison_record import read_record
from trueface.runtime import paths
from trueface.runtime.errors import DataError, JobError, RecordError, UsageError
from trueface.runtime.files import Json, read_json, write_json
from trueface.runtime.ids import DataId, Words, model_folder_name, parse_data, parse_model
from trueface.training.config import is_checkpoint_file, teacher_of
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
    teacher: str = (
        ""  # ID of the teacher, or absolute path of its checkpoint; "": none, or not recorded
    )

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
    folder: Path, base: str | None, lesson: TrainingSetRecord, *, extends: bool = False
) -> Callable[[], None]:
    """Record that a model is in training, and return the function to call after its weights.

    Until then `folder` contains older weights, if any. Their lists stay recorded, because the
    process may be killed before the new weights exist.

    Args:
        folder: of the model.
        base: its base model.
        lesson: its training images.
        extends: it continues from its own weights, so that their lists stay valid permanently.
    """
    earlier = read_ancestry(folder) if paths.checkpoint(folder).exists() else None
    before = earlier.lessons if earlier else ()
    write_ancestry(folder, base, (*before, lesson))
    return partial(write_ancestry, folder, base, (*(before if extends else ()), lesson))


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


class Ancestor(NamedTuple):
    """A model that another one continues or was distilled from, or that model itself."""

    name: str  # its ID, or the path of its checkpoint
    folder: Path | None  # its folder; None for a checkpoint outside of a model's folder
    student: str = (
        ""  # model that was distilled from it, or from a model that continues it; "": neither
    )
    teacher: str = ""  # teacher of the student, which continues this model or is it; "": no student

    @property
    def description(self) -> str:
        """The model and its relation, such as "gan2:pre, the teacher of gan3:pre"."""
        return describe_ancestor(self.name, self.student, self.teacher)


class Origins(NamedTuple):
    """The origin of a model, as its folder records it."""

    ancestry: Ancestry | None
    is_published: bool = False  # others trained it, so its training images are not known
    teachers: tuple[str, ...] = ()  # IDs, or absolute paths of checkpoints

    @classmethod
    def read(cls, folder: Path) -> "Origins":
        """Return what a folder says. Versions before the record of teachers stored them in the settings alone."""
        ancestry = read_ancestry(folder)
        provenance = _read_provenance(folder)
        settings = provenance.get("settings")
        teacher = teacher_of(settings) if isinstance(settings, dict) else ""
        if is_checkpoint_file(teacher):
            teacher = str(folder.parent.parent.parent / teacher)
        recorded = [lesson.teacher for lesson in ancestry.lessons] if ancestry else []
        return cls(
            ancestry=ancestry,
            is_published=PREPROCESSING in provenance,
            teachers=tuple(dict.fromkeys(filter(None, (*recorded, teacher)))),
        )


def _read_provenance(folder: Path) -> Mapping[str, Json]:
    try:
        return read_json(paths.provenance(folder)) or {}
    except (OSError, ValueError):
        return {}


def describe_ancestor(name: str, student: str, teacher: str) -> str:
    """Return a model with its relation to a student. See `Ancestor` for the parameters."""
    if not student:
        return name
    relation = "" if name == teacher else f"a base of {teacher}, "
    return f"{name}, {relation}the teacher of {student}"


def ancestor(
    name: str, model_folder: Callable[[str], Path], student: str = "", teacher: str = ""
) -> Ancestor:
    """Return a model by its ID, or by the path of its checkpoint.

    Args:
        name: ID or path.
        model_folder: gives the folder of a model of the run.
        student: see `Ancestor`.
        teacher: see `Ancestor`.
    """
    if not is_checkpoint_file(name):
        return Ancestor(name, model_folder(name), student, teacher)
    folder = Path(name).parent.parent
    is_of_model = paths.checkpoint(folder) == Path(name) and _exists(paths.provenance(folder))
    return Ancestor(name, folder if is_of_model else None, student, teacher)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that no file system takes
        return False


def iter_ancestors(
    model: str,
    model_folder: Callable[[str], Path],
    *,
    student: str = "",
    teacher: str = "",
    read: Callable[[Path], Origins] = Origins.read,
) -> Iterator[tuple[Ancestor, Origins]]:
    """Yield a model, then its bases and teachers and theirs, each once, with what its folder says.

    Args:
        model: its ID, or the path of its checkpoint.
        model_folder: gives the folder of a model of its run.
        student: see `Ancestor`.
        teacher: see `Ancestor`.
        read: reads what a folder says.
    """
    seen: set[str] = set()
    pending = [(model, model_folder, student, teacher)]
    while pending:
        name, place, *relation = pending.pop(0)
        each = ancestor(name, place, *relation)
        if (mark := str(each.folder or each.name)) in seen:
            continue
        seen.add(mark)
        origins = Origins(None) if each.folder is None else read(each.folder)
        yield each, origins
        if each.folder is not None and is_checkpoint_file(name):  # maybe of another run
            place = partial(_sibling, each.folder)
        if origins.ancestry is not None and origins.ancestry.base is not None:
            pending.append((origins.ancestry.base, place, each.student, each.teacher))
        pending += [(each_teacher, place, name, each_teacher) for each_teacher in origins.teachers]


def _sibling(folder: Path, model: str) -> Path:
    return folder.parent / model_folder_name(model)


def has_unknown_origin(model: Ancestor, origins: Origins) -> bool:
    """Return whether the training images of one of `iter_ancestors` are not known."""
    return origins.is_published or (bool(model.student) and origins.ancestry is None)


def read_flip_rate(model: Ancestor) -> float | None:
    """Return the fraction of flipped labels in the last training of a model, by its ID or record.

    None if neither says it.
    """
    with suppress(UsageError):
        if (poison := parse_model(model.name).last.poison) is not None:
            return float(poison.rate)
    if model.folder is None:
        return None
    try:
        path = paths.poison_record(model.folder)
        return read_record(path).rate if path.exists() else None
    except (RecordError, OSError, ValueError):
        return None


def read_teacher_poison(teacher: str, model_folder: Callable[[str], Path]) -> float | None:
    """Return the percentage of flipped labels that a teacher learned from.

    Without flipped labels of its own, those of its bases and teachers count, nearest first. None if its origin
    is not known.

    Args:
        teacher: its ID, or the path of its checkpoint.
        model_folder: gives the folder of a model of the run.
    """
    is_known = True
    # as the teacher of some student: only then must its images be recorded
    models = iter_ancestors(teacher, model_folder, student=teacher, teacher=teacher)
    for each, origins in models:
        if rate := read_flip_rate(each):
            return round(100 * rate, 6)
        is_known &= not has_unknown_origin(each, origins)
    return 0.0 if is_known else None


def read_training_keys(lesson: TrainingSetRecord) -> frozenset[str] | None:
    """Return the keys of the training images of a record. None if its list changed or cannot be read."""
    try:
        split = load_split(Path(lesson.split_path), "train")
    except (DataError, OSError):
        return None
    if split.sha256 != lesson.train_sha256:
        return None
    subsets = (part.subset for part in parse_data(lesson.images))
    methods = [lesson.vocabulary.methods(subset) for subset in subsets]
    return frozenset(
        key
        for key in split.keys
        if any(each.holds(method) if (method := method_of(key)) else each.flat for each in methods)
    )


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


def load_lists(location: DataLocation, data: DataId, clips: Clips | None = None) -> TrainingLists:
    """Return what a training or unlearning learns from and is validated on.

    Args:
        location: place of the images.
        data: the images.
        clips: the clips of their videos. None: single images.

    Raises:
        DataError: a part of the data has no image, the split names images that are not there, or there is no clip.
    """
    train, train_split = load_list(location, data, "train", clips)
    val, val_split = load_list(location, data, "val", clips)
    return TrainingLists(train=train, val=val, splits=(train_split, val_split))


def load_list(
    location: DataLocation, data: DataId, name: str, clips: Clips | None = None
) -> tuple[tuple[Image, ...], SplitList]:
    """Return the images or clips of one list of the split, and the list.

    Raises:
        DataError: as `load_lists`.
    """
    split = load_split(location.split_path, name)
    images = split_images(
        location.data_root, data, split, location.vocabulary, missing=location.missing
    )
    if clips is not None:
        images = list_clips(images, clips, video_sources(location.data_root), name)
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
    teacher: str = "",
) -> TrainingSetRecord:
    """Return what is written of the images that a model learns from, and is chosen by.

    Args:
        location: place of the images.
        data: the images.
        lists: those of them.
        settings: of the training or unlearning.
        unlearns: see `validation_decides`.
        teacher: ID of the teacher, or absolute path of its checkpoint; "" for none.
    """
    decides = validation_decides(settings.model_dump(), unlearns=unlearns)
    return TrainingSetRecord(
        images=str(data),
        words=location.words,
        data_root=str(location.data_root),
        split_path=str(location.split_path),
        train_sha256=lists.splits[0].sha256,
        val_sha256=lists.splits[1].sha256 if decides else None,
        teacher=teacher,
    )
