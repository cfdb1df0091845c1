"""The images of a job: which ones its data and its split mean on this disk."""

from dataclasses import dataclass

from launcher.api import Job
from trueface.data.index import Image
from trueface.data.settings import PlaceSettings
from trueface.data.splits.splits import Split, load_split, split_images
from trueface.data.vocabulary import BUILT_IN, Vocabulary
from trueface.runtime.errors import JobError
from trueface.runtime.ids import DataId, parse_data, parse_model
from trueface.training.lineage import Lesson, validation_decides
from trueface.training.settings import LearningSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Lists:
    """The images of a training, and the lists that chose them."""

    train: tuple[Image, ...]
    val: tuple[Image, ...]
    splits: tuple[Split, ...]


def of_training(job: Job, settings: LearningSettings) -> Lists:
    """Return what a training or unlearning learns from and is validated on.

    Raises:
        DataError: a part of the data has no image, or the split names images that are not there.
    """
    found = {name: of_split(job, settings, images(job), name) for name in ("train", "val")}
    return Lists(
        train=found["train"][0],
        val=found["val"][0],
        splits=tuple(split for _, split in found.values()),
    )


def of_split(
    job: Job, settings: PlaceSettings, data: DataId, name: str
) -> tuple[tuple[Image, ...], Split]:
    """Return the images of one list of the split, and the list.

    Raises:
        DataError: as `of_training`.
    """
    split = load_split(job.path(settings.split_path), name)
    found = split_images(
        job.path(settings.data_root),
        data,
        split,
        vocabulary(job, settings),
        missing=settings.missing_images,
    )
    return found, split


def images(job: Job) -> DataId:
    """Return which images the job's last stage means, real ones included."""
    if job.images is not None:
        return parse_data(job.images)
    return BUILT_IN.with_words(job.words).images(parse_model(model_name(job)).last.data)


def vocabulary(job: Job, settings: PlaceSettings) -> Vocabulary:
    """Return what the words of the job's data IDs mean on this disk."""
    return BUILT_IN.with_words(job.words).with_layout(settings.layout)


def lesson(job: Job, settings: LearningSettings, lists: Lists, *, unlearns: bool = False) -> Lesson:
    """Return what is written of the images that a model learns from, and is chosen by."""
    decides = validation_decides(settings.model_dump(), unlearns=unlearns)
    return Lesson(
        images=str(images(job)),
        words=job.words,
        data_root=str(job.path(settings.data_root)),
        split_path=str(job.path(settings.split_path)),
        train_sha256=lists.splits[0].sha256,
        val_sha256=lists.splits[1].sha256 if decides else None,
    )


def model_name(job: Job) -> str:
    """Return the ID of the job's model.

    Raises:
        JobError: it has none.
    """
    if job.model is None:
        raise JobError(f"job {job.name} of kind {job.kind} names no model")
    return job.model
