"""The entry function of `train`."""

import logging
from collections.abc import Mapping
from functools import partial

from launcher.api import Job, Json, write_json
from trueface.data.loaders import Feed, still
from trueface.jobs import outputs
from trueface.jobs.setup import poison_of, settled, watch_of
from trueface.poisoning.loaders import augmented
from trueface.runtime import logs, paths
from trueface.runtime.paths import SCHEMA
from trueface.training import initialization, job_data, lineage, provenance, resume
from trueface.training import trainer as training
from trueface.training.feature_bank import banks, is_constant
from trueface.training.job_data import model_name
from trueface.training.objectives.registry import objectives
from trueface.training.settings import TrainSettings


def train(job: Job) -> Mapping[str, Json]:
    """Train the job's model; see `train.train` for its files."""
    settings = TrainSettings.model_validate(job.settings)
    with logs.shown(logging.INFO):  # in the queue, stderr is the job's log
        return _train(settled(job), settings)


def _train(job: Job, settings: TrainSettings) -> Mapping[str, Json]:
    folder = job.model_folder(model_name(job))
    found = job_data.of_training(job, settings)
    record, poisoned_by = poison_of(job)
    columns = objectives()[settings.objective].columns
    learned = augmented(found.train, settings, record, columns)
    checked = still(found.val, settings)
    origin = initialization.origin(job, settings)
    state = initialization.state_of(job, settings, origin)
    source = {
        **provenance.of_learning(job, settings, found, poisoned_by),
        **provenance.of_labels(learned.image_set, checked.image_set),
        **provenance.of_start(job, settings, origin, optimizer=state is not None),
    }
    further, lesson = origin == job.model, job_data.lesson(job, settings, found)
    model = initialization.start(job, settings, origin)
    feeds: tuple[Feed, Feed] = (learned, checked)
    if is_constant(settings):
        feeds = banks(model, learned, checked, settings, watch_of(job, settings.precision))
    trained = training.train(
        model,
        *feeds,
        settings,
        folder=folder,
        provenance=source,
        watch=watch_of(job),
        state=state,
        noted=partial(outputs.list_bad_images, folder, learned, checked),
        begin=partial(lineage.begin, folder, job.base, lesson, further=further),
    )
    if settings.features:
        outputs.keep_features(
            folder, "train", model, still(found.train, settings), watch_of(job, settings.precision)
        )
    result = {
        "images": len(found.train),
        "poisoned": 0 if record is None else len(record.keys),
        "bad_images": outputs.count_bad_images(paths.bad_images(folder, "train")),
        **_numbers(trained),
    }
    write_json(paths.summary(folder), {"schema": SCHEMA, **result})
    paths.last_checkpoint(folder).unlink(missing_ok=True)
    resume.clear(paths.resume(folder))  # nothing is left to go on with
    return result


def _numbers(trained: training.Trained) -> dict[str, Json]:
    """Return what a training came to."""
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
    }
