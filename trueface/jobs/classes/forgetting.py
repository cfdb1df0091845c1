"""The entry function of `forget`: a class, or a fraction of the images, as an unlearning task of a network of classes."""

import logging
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from torch import nn

from launcher.api import Job, JobError, Json
from trueface.data.class_copies import name_originals
from trueface.data.class_images import ClassImageList, ClassLists, ClassPixels
from trueface.data.vocabulary import class_index
from trueface.jobs.classes.classification import lists_of, provenance_of
from trueface.jobs.job_data import folder_of
from trueface.jobs.setup import entry, run_context, write_facts
from trueface.models import checkpoint
from trueface.models.detectors import Classifier, build_classifier
from trueface.models.model_file import Checkpoint
from trueface.models.registry import ClassifierShape
from trueface.runtime import paths
from trueface.runtime.errors import CheckpointError
from trueface.runtime.rng import python_rng
from trueface.unlearning import experiment, record
from trueface.unlearning.experiment import UnlearningOutcome
from trueface.unlearning.linear_probe import linear_probe
from trueface.unlearning.settings import SINGLE, ForgetSettings, ForgettingSettings, differences
from trueface.unlearning.task import (
    IdentifiedExamples,
    OriginalModel,
    TaskModel,
    UnlearningTask,
    other_rows,
)

log = logging.getLogger(__name__)


@entry(ForgetSettings)
def forget(job: Job, settings: ForgettingSettings) -> Mapping[str, Json]:
    """Unlearn a class or some images from the job's base; write the network and its cost."""
    if job.base is None:
        raise JobError(f"{job.model} needs a model to start from")
    folder, base = folder_of(job), job.model_folder(job.base)
    kept = checkpoint.load(paths.checkpoint(base))
    _refuse_other(kept, settings, job.base)
    lists = lists_of(job, settings)
    source = provenance_of(job, settings, lists)
    if kept.provenance.get("train_images_sha256") != source["train_images_sha256"]:
        raise CheckpointError(
            f"the images in {source['data_root']} differ from the training images of {job.base}. Train "
            "it again, or restore the images."
        )
    shape, earlier = settings.shape(len(lists.names)), record.read(base)
    if earlier is not None and "instances" in {earlier.goal, settings.goal}:
        raise JobError(SINGLE.format(base=job.base))
    forgotten = None
    if settings.goal == "class":
        forgotten = class_index(lists.names, settings.forget_class)
    model = checkpoint.classifier_from_checkpoint(
        kept, paths.checkpoint(base), channels_last=settings.channels_last
    )
    task = make_forgetting_task(
        model.to(job.device),
        shape,
        lists,
        settings,
        OriginalModel(
            name=job.base,
            unlearned_name=job.model or "",
            training=record.training(base),
            cache=base / "cache",
        ),
        forgotten_class=forgotten,
        earlier_classes=() if earlier is None else earlier.forgotten,
        device=job.device,
    )
    done = experiment.unlearn(task, run_context(job, settings.precision))
    checkpoint.save_model(paths.checkpoint(folder), done.model, source)
    experiment.write(folder, done)
    result = numbers(done)
    write_facts(folder, source, result)
    return result


def _refuse_other(checkpoint: Checkpoint, settings: ForgettingSettings, base: str) -> None:
    """Refuse a base that was trained with other settings of those that are the model's own.

    Raises:
        CheckpointError: so it was; says with which.
    """
    trained = checkpoint.provenance.get("settings")
    if not isinstance(trained, dict) or "class_names" not in checkpoint.provenance:
        raise CheckpointError(f"{base} is not a network trained by classify")
    used = settings.model_dump(mode="json")
    for key in differences(trained, used):
        if key != "data_root":  # the images themselves are compared
            raise CheckpointError(
                f"{base} was trained with {key}: {trained.get(key)}, but this job has {used[key]}"
            )


def make_forgetting_task(
    model: Classifier,
    shape: ClassifierShape,
    lists: ClassLists,
    settings: ForgettingSettings,
    base: OriginalModel,
    *,
    forgotten_class: int | None,
    earlier_classes: tuple[int, ...],
    device: str,
) -> UnlearningTask:
    """Return the unlearning task of a network that is to forget another class, or some images.

    Args:
        model: as it was trained, on the device; unlearning changes it in place.
        shape: of the network.
        lists: the images of its training and test.
        settings: of the unlearning.
        base: its name, and what its training took.
        forgotten_class: class to forget, or None for a fraction of the images (see the settings).
        earlier_classes: classes that were forgotten before.
        device: where images and new networks are put.

    Raises:
        JobError: there is nothing to forget.
    """

    def identify_examples(images: ClassImageList) -> IdentifiedExamples:
        return IdentifiedExamples.from_source_names(
            ClassPixels(images, settings, device).examples(), images.names
        )

    train = identify_examples(lists.train)
    held_out = {
        "validation": identify_examples(lists.validation),
        "test": identify_examples(lists.test),
    }
    task_model = TaskModel(
        original=base,
        module=model,
        whole=_classifier,
        fresh=lambda: build_classifier(
            shape, seed=settings.seed, channels_last=settings.channels_last
        ).to(device),
        class_names=lists.names,
    )
    images = name_originals(lists.train.names, lists.copies)
    if forgotten_class is None:
        rows = draw_fraction(images, settings.forget_fraction, settings.seed)
        return UnlearningTask.from_instances(
            task_model, settings, train, rows, held_out, probe=linear_probe
        )
    gone = {forgotten_class, *earlier_classes}
    if copies := find_copies_in_other_classes(images, lists.train.labels, gone):
        log.warning(
            "left_out=%d training images of other classes are copies of forgotten images, such as %s",
            len(copies),
            lists.train.names[copies[0]],
        )
        train = train.subset(other_rows(train.examples, copies))
    return UnlearningTask.from_class(
        task_model,
        settings,
        train,
        forgotten_class,
        held_out,
        earlier_classes=earlier_classes,
        probe=linear_probe,
    )


def _classifier(model: nn.Module) -> Classifier:
    if not isinstance(model, Classifier):
        raise TypeError(f"a method gave a {type(model).__name__} back")
    return model


def numbers(outcome: UnlearningOutcome) -> dict[str, Json]:
    """Return effect and cost of an unlearning, for tables.

    Accuracies are those on both training parts and on the test; where a class goes, of the test's
    images of forgotten classes and of the others.
    """
    record = outcome.record
    numbers: dict[str, Json] = {"steps": len(outcome.unlearned.log) - 2}
    for when, predictions in (("_before", outcome.before), ("", outcome.after)):
        for part in ("retain", "forget"):
            numbers[f"{part}_accuracy{when}"] = predictions[part].accuracy("trained")
        test = predictions["test"]
        if record.goal == "instances":
            numbers[f"test_accuracy{when}"] = test.accuracy("trained")
            continue
        gone = np.isin(test.labels, record.forgotten)
        right = test.predicted_classes == test.labels
        numbers[f"test_retain_accuracy{when}"] = float(right[~gone].mean())
        numbers[f"test_forget_accuracy{when}"] = float(right[gone].mean())
    for name in ("seconds", "samples_read", "cached_seconds", "cached_samples"):
        numbers[name] = getattr(outcome.unlearned, name)
    if record.relearn is not None:
        numbers["relearn_steps"] = record.relearn.steps
        numbers["probe"] = None if record.probe is None else record.probe.after
    return numbers


def find_copies_in_other_classes(
    images: Sequence[str], labels: Sequence[int], forgotten_classes: Collection[int]
) -> list[int]:
    """Return the rows of other classes whose image is also in a forgotten class."""
    rows = list(enumerate(zip(images, labels, strict=True)))
    gone = {image for _, (image, label) in rows if label in forgotten_classes}
    return [row for row, (image, label) in rows if image in gone and label not in forgotten_classes]


def draw_fraction(row_images: Sequence[str], fraction: float, seed: int) -> list[int]:
    """Return the rows of a fraction of the images, in order: at least one image, and never all.

    Every method with the same seed gets the same ones, and so does the retrained model.

    Args:
        row_images: the image of each row; copies have the same.
        fraction: above 0, below 1; rounded to a whole number of images.
        seed: of the job.

    Raises:
        JobError: there are fewer than two images.
    """
    images = list(dict.fromkeys(row_images))
    if len(images) < 2:
        raise JobError(
            f"the {len(row_images)} training images are copies of one image, so no other image is left to retain. "
            "Use another data set."
        )
    nearest = round(fraction * len(images))
    count = min(max(1, nearest), len(images) - 1)
    if count != nearest:
        log.warning(
            "forget_fraction=%g of images=%d is rounded to forget=%d", fraction, len(images), count
        )
    drawn = set(python_rng("forget", seed).sample(images, count))
    return [row for row, image in enumerate(row_images) if image in drawn]
