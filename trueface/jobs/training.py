"""The entry function of `train`: from lists of images to weights, in one order.

    lists: Select the images for training and for validation.
    images: Prepare both sets with transforms, labels, columns and order.
    model: Load the model that the training starts from.
    feeds: Prepare the input of the steps, pixels or features.
    objective: Choose the loss to minimize.
    fit: Train by steps, or in closed form.
    finish: Write the results.

Each feature of a training is a part (`trueface.training.parts`) with hooks for some of these stages.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from itertools import chain
from pathlib import Path

from launcher.api import Job, Json
from trueface.data.index import Image
from trueface.data.loading.image_loaders import eval_loader, train_loader
from trueface.data.loading.image_set import ImageLoader, report_bad_image
from trueface.data.loading.loader import Dataset, Loader
from trueface.data.loading.processes import BadFile
from trueface.data.vocabulary import BUILT_IN, has_originals
from trueface.features.store import open_store
from trueface.jobs import job_data, setup
from trueface.jobs.job_data import model_name
from trueface.jobs.rule import refuse_broken_rules
from trueface.jobs.setup import apply_resource_limits, run_context
from trueface.models.detectors import Detector
from trueface.models.registry import reads_landmarks
from trueface.runtime import logs, paths
from trueface.training import checkpointing, image_lists, provenance, trainer
from trueface.training.checkpointing import (
    CheckpointCallback,
    TrainingStart,
    init_model,
    load_optimizer_state,
    network_provenance,
    start_provenance,
)
from trueface.training.config import is_checkpoint_file, teacher_of
from trueface.training.distributed import SINGLE_PROCESS, ProcessGroup
from trueface.training.image_lists import TrainingLists
from trueface.training.objectives.registry import make_objective
from trueface.training.optimizer_state import OptimizerState
from trueface.training.parts.bank import FeatureCachePart, SavedFeatures
from trueface.training.parts.few_shot import FewShot
from trueface.training.parts.groups import GroupColumns
from trueface.training.parts.poison import Poison
from trueface.training.parts.protocol import Part, TrainingContext
from trueface.training.parts.qualities import CollaborationPart, Qualities
from trueface.training.parts.registry import further_parts
from trueface.training.parts.shards import Shards
from trueface.training.parts.teacher import Teacher
from trueface.training.parts.views import Views
from trueface.training.settings import TrainSettings, has_frozen_backbone
from trueface.training.trainer import TrainingResult

# in the order in which they are called; parts with settings of their own follow
PARTS: tuple[type[Part], ...] = (
    FewShot,
    Poison,
    Shards,
    FeatureCachePart,
    Qualities,
    Views,
    GroupColumns,
    Teacher,
    CollaborationPart,
    SavedFeatures,
)


def train(job: Job) -> Mapping[str, Json]:
    """Train the job's model; see `trainer.train` for its files."""
    settings = TrainSettings.model_validate(job.settings)
    refuse_broken_rules(job, settings, train.__module__)
    with logs.log_to_stderr(logging.INFO):  # in the queue, stderr is the job's log
        # one fit is not divided
        size = 1 if settings.is_ridge else setup.process_count(job, settings.processes)
        if size > 1:
            from trueface.jobs.ranks import coordinator  # one process does without its imports

            return coordinator.run(job, f"{__name__}:{train_rank.__name__}", size)
        return train_rank(job, SINGLE_PROCESS)


def train_rank(job: Job, group: ProcessGroup) -> Mapping[str, Json]:
    """Do what one of the processes does that share a training; the first one returns its numbers."""
    settings = TrainSettings.model_validate(job.settings)
    if group.is_first and not settings.is_ridge:
        data, vocabulary = job_data.job_data_id(job), BUILT_IN.with_words(job.words)
        setup.log_without_effect(settings, only_reshared=not has_originals(data, vocabulary))
    run = TrainingRun.from_job(apply_resource_limits(job), settings, group)
    trained = (fit_ridge if settings.is_ridge else fit_steps)(run)
    return finish(run, trained) if group.is_first else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRun:
    """A training with its lists, images and model, before its first step."""

    training: TrainingContext
    parts: tuple[Part, ...]
    lists: TrainingLists
    train_images: ImageLoader
    validation_images: ImageLoader
    model: Detector
    state: OptimizerState | None  # state of the optimizer that made the model; None: a fresh one
    source: Mapping[str, Json]  # provenance of the weights, without the facts of parts
    begin: Callable[[], Callable[[], None]]  # see `CheckpointCallback.on_first_write`

    @classmethod
    def from_job(cls, job: Job, settings: TrainSettings, group: ProcessGroup) -> "TrainingRun":
        """Return the training of a job; see the module for the order."""
        training = TrainingContext(
            settings=settings,
            model=model_name(job),
            folder=job.model_folder(model_name(job)),
            place=job_data.data_location(job, settings),
            path=job.path,
            start=_start(job, settings),
            teacher=_teacher(job, settings.teacher),
            store=open_store(settings.cache) if has_frozen_backbone(settings) else None,
            watch=run_context(job, settings.precision),
            group=group,
        )
        parts = tuple(part(training) for part in chain(PARTS, further_parts(settings)))
        location, start, data = training.place, training.start, job_data.job_data_id(job)
        lists = image_lists.load_lists(location, data, settings.clips)
        lists = reduce(lambda lists, part: part.lists(lists), parts, lists)
        lesson = image_lists.training_set_record(
            location, data, lists, settings, teacher=_name_of_teacher(job, settings)
        )
        of_landmarks = reads_landmarks(settings.model)
        images = (
            train_loader(lists.train, settings, settings.columns_read, of_landmarks=of_landmarks),
            eval_loader(lists.val, settings, of_landmarks=of_landmarks),
        )
        train_images, validation_images = reduce(
            lambda images, part: part.images(*images), parts, images
        )
        if not _extends_fit(start, settings):
            _refuse_one_class(lists.train, train_images, settings)
        image_lists.warn_of_one_class(lists.val, settings.model_dump())
        state = None if settings.is_ridge else load_optimizer_state(start, settings)
        model = init_model(start, settings, job.device)
        source = {
            **setup.job_provenance(job, settings, **setup.learning_provenance(job, data)),
            **provenance.images_provenance(location, lists),
            **provenance.labels_provenance(train_images.dataset, validation_images.dataset),
            **start_provenance(start, settings, optimizer=state is not None),
            **network_provenance(model, start),
            **_teacher_provenance(job, settings),
        }
        return cls(
            training=training,
            parts=parts,
            lists=lists,
            train_images=train_images,
            validation_images=validation_images,
            model=model,
            state=state,
            source=source,
            begin=partial(
                image_lists.begin_training_set,
                training.folder,
                job.base,
                lesson,
                extends=start.is_warm_start,
            ),
        )

    def facts(self) -> dict[str, Json]:
        """Return what the parts say of the weights, as it is now."""
        return {name: value for part in self.parts for name, value in part.facts().items()}

    @property
    def checkpoint_callback(self) -> CheckpointCallback:
        """The callback that writes the files of the training after each epoch."""
        return CheckpointCallback(
            folder=self.training.folder,
            settings=self.training.settings,
            provenance=self.source,
            facts=self.facts,
            identity=[name for part in self.parts for name in part.identity],
            before_save=self.share_bad_images,
            on_first_write=self.begin,
        )

    def share_bad_images(self) -> None:
        """Let all processes know which images gave no pixels, and the first list them."""
        group = self.training.group
        for image_set in (self.train_images.dataset, self.validation_images.dataset):
            own = [(bad.position, str(bad.path), bad.reason) for bad in image_set.bad.values()]
            for position, path, reason in chain.from_iterable(group.gather_json(own)):
                report_bad_image(image_set, BadFile(position, Path(path), reason))
        if group.is_first:
            for name, feed in (("train", self.train_images), ("val", self.validation_images)):
                path = paths.bad_images(self.training.folder, name)
                setup.write_bad_images(path, feed.dataset.bad.values())
        settings = self.training.settings
        if self.train_images.dataset.bad and not _extends_fit(self.training.start, settings):
            readable = self.train_images.dataset.readable_images()
            _refuse_one_class(readable, self.train_images, settings)


def _extends_fit(start: TrainingStart, settings: TrainSettings) -> bool:
    """Return whether a training adds images to those of its base, whose classes it then needs not."""
    return settings.is_ridge and start.model is not None and not start.is_warm_start


def _refuse_one_class(
    images: Sequence[Image], loader: ImageLoader, settings: TrainSettings
) -> None:
    """Refuse images of one class, in the whole training or in one of its epochs."""
    makes_fake = None if settings.is_ridge else loader.dataset.makes_fake
    image_lists.refuse_one_class(images, makes_fakes=makes_fake is not None)
    image_lists.refuse_epoch_without_fake(images, makes_fake, epochs=settings.num_epochs)


def _start(job: Job, settings: TrainSettings) -> TrainingStart:
    """Return what a training starts from: its own earlier weights, its base, or a new model."""
    own = settings.warm_start and paths.checkpoint(job_data.folder_of(job)).exists()
    return setup.make_start(job, settings, job.model if own else job.base, is_warm_start=own)


def _teacher(job: Job, name: str) -> Path | None:
    """Return the checkpoint that the setting `teacher` means, or None if it is empty."""
    if not name:
        return None
    return job.path(name) if is_checkpoint_file(name) else job_data.checkpoint_of(job, name)


def _name_of_teacher(job: Job, settings: TrainSettings) -> str:
    """Return the ID of the teacher from which the training distils, or the absolute path of its checkpoint."""
    name = teacher_of(settings.model_dump())
    return str(job.path(name)) if is_checkpoint_file(name) else name


def _teacher_provenance(job: Job, settings: TrainSettings) -> dict[str, Json]:
    """Return the percentage of flipped labels that the teacher learned from, if there is a teacher."""
    teacher = _name_of_teacher(job, settings)
    if not teacher:
        return {}
    return {"teacher_poison": image_lists.read_teacher_poison(teacher, job.model_folder)}


def fit_ridge(run: TrainingRun) -> TrainingResult:
    """Fit the last layer in closed form."""
    # steps do without scikit-learn, which takes a second to import
    from trueface.training import ridge
    from trueface.training.base_fit import find_base_fit

    training = run.training
    return ridge.train(
        run.model,
        run.train_images,
        run.validation_images,
        run.checkpoint_callback,
        watch=training.watch,
        store=training.store,
        base_fit=find_base_fit(training, run.model),
    )


def fit_steps(run: TrainingRun) -> TrainingResult:
    """Train by steps, on the batches and the objective as the parts transform them."""
    training, model = run.training, run.model
    feeds: tuple[Loader[Dataset], Loader[Dataset]] = run.train_images, run.validation_images
    feeds = reduce(lambda feeds, part: part.feeds(*feeds, model), run.parts, feeds)
    objective = make_objective(training.settings.used_objective)
    objective = reduce(lambda whole, part: part.objective(whole), run.parts, objective)
    return trainer.train(
        model,
        *feeds,
        run.checkpoint_callback,
        watch=training.watch,
        objective=objective,
        state=run.state,
        group=training.group,
    )


def finish(run: TrainingRun, training_result: TrainingResult) -> Mapping[str, Json]:
    """Write the summary of a training, remove its resume file, and return its result."""
    folder = run.training.folder
    if run.validation_images.dataset.bad:
        readable = run.validation_images.dataset.readable_images()
        image_lists.warn_of_one_class(readable, run.training.settings.model_dump())
    for part in run.parts:
        part.finish(run.lists, run.model, training_result)
    result: dict[str, Json] = {
        "images": len(run.lists.train),
        **{name: value for part in run.parts for name, value in part.result().items()},
        "bad_images": setup.count_bad_images(paths.bad_images(folder, "train")),
        **_numbers(training_result),
        **training_result.acceleration,
        **training_result.notes,
    }
    setup.write_record(paths.summary(folder), result)
    paths.last_checkpoint(folder).unlink(missing_ok=True)
    checkpointing.clear_trainer_state(
        paths.resume(folder)
    )  # a finished training has no state to resume from
    return result


def _numbers(training_result: TrainingResult) -> dict[str, Json]:
    """Return the numbers of a training's result."""
    chosen = training_result.chosen
    return {
        "epochs": len(training_result.epochs),
        "best_epoch": chosen.epoch,
        "loss": chosen.loss,
        "val_loss": chosen.val_loss,
        "val_accuracy": chosen.val_accuracy,
        "val_balanced_accuracy": chosen.val_balanced_accuracy,
        "seconds": training_result.seconds,
        "samples_read": training_result.samples_read,
        "images_per_s": sum(e.images_per_s for e in training_result.epochs)
        / len(training_result.epochs),
        "temperature": chosen.temperature,
        "threshold": chosen.threshold,
    }
