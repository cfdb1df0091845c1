"""The entry function of `train`."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path

from launcher.api import Job, JobError, Json, write_json
from trueface.data.dataset import leave_out
from trueface.data.loaders import Feed, Pass, still
from trueface.data.loading.batches import BadFile
from trueface.features.bank import Bank
from trueface.features.store import FeatureStore, open_store
from trueface.jobs import few_shot, outputs, setup
from trueface.jobs.attributes import attributes_of, give_groups
from trueface.jobs.ranks import coordinator, world
from trueface.jobs.setup import model_name, poison_of, settled, watch_of
from trueface.models import checkpoint
from trueface.models.detectors import Detector
from trueface.models.head import RidgeHead
from trueface.poisoning.loaders import augmented
from trueface.prediction.reference import FeatureDistance, Reference
from trueface.runtime import logs, paths
from trueface.runtime.paths import SCHEMA
from trueface.runtime.progress import Watch
from trueface.training import image_lists, provenance, resume, trainer
from trueface.training.cells import cells_of
from trueface.training.distributed.group import ALONE, Group
from trueface.training.feature_bank import banks, feature_facts, is_constant, parts_of
from trueface.training.qualities.feeds import (
    banks_in_qualities,
    facts_of,
    in_qualities,
    rows_of,
)
from trueface.training.ridge import trainer as ridge_trainer
from trueface.training.settings import TrainSettings


def train(job: Job) -> Mapping[str, Json]:
    """Train the job's model; see `trainer.train` for its files."""
    settings = TrainSettings.model_validate(job.settings)
    with logs.shown(logging.INFO):  # in the queue, stderr is the job's log
        # one fit is not divided
        size = 1 if settings.is_ridge else world.size_of(job, settings.processes)
        if size > 1:
            return coordinator.run(job, f"{__name__}:{train_rank.__name__}", size)
        return _train(settled(job), settings, ALONE)


def train_rank(job: Job, group: Group) -> Mapping[str, Json]:
    """Do what one of the processes does that share a training; the first one returns its numbers."""
    return _train(settled(job), TrainSettings.model_validate(job.settings), group)


def _train(job: Job, settings: TrainSettings, group: Group) -> Mapping[str, Json]:
    folder = job.model_folder(model_name(job))
    watch = watch_of(job, settings.precision)
    place, data = setup.place(job, settings), setup.images(job)
    lists = few_shot.with_few(image_lists.load_lists(place, data), settings)
    lesson = image_lists.lesson_of(place, data, lists, settings)
    record, record_path = poison_of(job)
    columns = settings.columns_read
    training = replace(augmented(lists.train, settings, record, columns), shard=group.shard)
    training = in_qualities(training, settings, job.path)
    validation = replace(still(lists.val, settings), shard=group.shard)
    image_sets = training.image_set, validation.image_set
    attributes = attributes_of(job, settings)
    groups = give_groups(attributes, settings, place.data_root, *image_sets, columns)
    training = replace(training, cells=_cells(training, settings))
    start = setup.start_of(job, settings)
    state = None if settings.is_ridge else provenance.load_optimizer_state(start, settings)
    model = provenance.load_start(start, settings, job.device)
    source = {
        **provenance.of_learning(setup.run_of(job, data), settings, place, lists, record_path),
        **provenance.of_labels(*image_sets),
        **provenance.of_start(start, settings, optimizer=state is not None),
        **provenance.of_group(group),
        **facts_of(settings, job.path),
        **provenance.of_network(model, start),
        **groups,
    }
    store = open_store(settings.cache) if is_constant(settings) else None
    begin = partial(image_lists.begin_lesson, folder, job.base, lesson, further=start.own)
    note_images = partial(_note_bad_images, group, folder, training, validation)
    feeds: tuple[Feed, Feed] = (training, validation)
    if settings.is_ridge:
        trained = ridge_trainer.train(
            model, training, validation, settings, folder=folder, provenance=source, watch=watch,
            store=store, earlier=few_shot.earlier_of(start, place, settings, model),
            noted=note_images, begin=begin,
        )  # fmt: skip
    else:
        feeds = _feeds(model, training, validation, settings, watch, store, group)
        source["features"] = features = feature_facts(*feeds)

        def note_epoch() -> None:
            note_images()
            features.update(feature_facts(*feeds))

        trained = trainer.train(
            model, *feeds, settings, folder=folder, provenance=source, watch=watch, state=state,
            noted=note_epoch, begin=begin, group=group,
        )  # fmt: skip
    if not group.is_first:
        return {}
    if settings.features:
        outputs.keep_features(folder, "train", model, still(lists.train, settings), watch, store)
    if settings.save_weights:
        _keep_reference(folder, trained, feeds)
    poisoned = 0 if record is None else len(record.keys)
    return _finish(folder, trained, {"images": len(lists.train), "poisoned": poisoned})


def _keep_reference(folder: Path, trained: trainer.Trained, feeds: tuple[Feed, Feed]) -> None:
    """Write into the checkpoint what later predictions are compared with, as far as it is at hand.

    Nothing is computed for it: a training that ended right after an interruption has none.
    """
    if trained.answered is None:
        return
    reference = Reference.of(*trained.answered, trained.features or _distance(*feeds))
    checkpoint.add_reference(paths.checkpoint(folder), reference.tensors)


def _distance(learned: Feed, checked: Feed) -> FeatureDistance | None:
    """Return where the features of a training lie, of all its qualities; None where there are none."""
    banks_of_both = [bank for bank in (checked, *parts_of(learned)) if isinstance(bank, Bank)]
    views = [view for bank in banks_of_both if (view := bank.matrix(0)) is not None]
    if len(views) < 1 + len(parts_of(learned)):
        return None
    validation, first, *further = (view.features for view in views)
    return FeatureDistance.of(first, validation, *further)


def _cells(training: Pass, settings: TrainSettings) -> tuple[int, ...] | None:
    """Return the cell of each training image where images are drawn by it."""
    if settings.draws_classes_equally:
        return training.image_set.labels
    if not settings.draws_cells_equally:
        return None
    return cells_of(training.image_set, settings.fair)


def _feeds(
    model: Detector,
    training: Pass,
    validation: Pass,
    settings: TrainSettings,
    watch: Watch,
    store: FeatureStore | None,
    group: Group,
) -> tuple[Feed, Feed]:
    """Return what a training by steps reads: pixels, or the features of a body that stays as it is."""
    if isinstance(model.head, RidgeHead):
        raise JobError(
            "the base was fitted in closed form, and is not fine-tuned by steps: train it anew, or "
            "set solver: ridge to add a few examples to what it learned"
        )
    if is_constant(settings) and group.size == 1:
        if settings.quality_names:
            return banks_in_qualities(model, training, validation, settings, watch, store=store)
        return banks(model, training, validation, settings, watch, store=store)
    return rows_of(training, settings), validation


def _finish(
    folder: Path, trained: trainer.Trained, counts: Mapping[str, Json]
) -> Mapping[str, Json]:
    """Write the summary of a training, remove what it could go on with, and return its result."""
    bad_images = outputs.count_bad_images(paths.bad_images(folder, "train"))
    result: dict[str, Json] = {
        **counts,
        "bad_images": bad_images,
        **_numbers(trained),
        **trained.notes,
    }
    write_json(paths.summary(folder), {"schema": SCHEMA, **result})
    paths.last_checkpoint(folder).unlink(missing_ok=True)
    resume.clear(paths.resume(folder))  # nothing is left to go on with
    return result


def _note_bad_images(group: Group, folder: Path, training: Pass, validation: Pass) -> None:
    """Let all processes of a group know which images gave no pixels, and the first list them."""
    for image_set in (training.image_set, validation.image_set):
        own = [(bad.position, str(bad.path), bad.reason) for bad in image_set.bad.values()]
        for position, path, reason in chain.from_iterable(group.gather_json(own)):
            leave_out(image_set, BadFile(position, Path(path), reason))
    if group.is_first:
        outputs.list_bad_images(folder, training, validation)


def _numbers(trained: trainer.Trained) -> dict[str, Json]:
    """Return the numbers of a training's result."""
    return {
        "epochs": len(trained.epochs),
        "best_epoch": trained.chosen.epoch,
        "loss": trained.chosen.loss,
        "val_loss": trained.chosen.val_loss,
        "val_accuracy": trained.chosen.val_accuracy,
        "val_balanced_accuracy": trained.chosen.val_balanced_accuracy,
        "seconds": trained.seconds,
        "samples_read": trained.samples_read,
        "images_per_s": sum(e.images_per_s for e in trained.epochs) / len(trained.epochs),
        "temperature": trained.chosen.temperature,
        "threshold": trained.chosen.threshold,
    }
