"""The entry function of `train`."""

import logging
from collections.abc import Mapping
from functools import partial

from launcher.api import Job, Json, write_json
from trueface.data.loaders import Feed, still
from trueface.features.store import open_store
from trueface.jobs import job_data, model_origin, outputs
from trueface.jobs.job_data import model_name
from trueface.jobs.setup import poison_of, settled, watch_of
from trueface.poisoning.loaders import augmented
from trueface.runtime import logs, paths
from trueface.runtime.paths import SCHEMA
from trueface.training import image_lists, initialization, lineage, provenance, resume, trainer
from trueface.training.feature_bank import banks, feature_facts, is_constant
from trueface.training.objectives.registry import objectives
from trueface.training.settings import TrainSettings


def train(job: Job) -> Mapping[str, Json]:
    """Train the job's model; see `trainer.train` for its files."""
    settings = TrainSettings.model_validate(job.settings)
    with logs.shown(logging.INFO):  # in the queue, stderr is the job's log
        return _train(settled(job), settings)


def _train(job: Job, settings: TrainSettings) -> Mapping[str, Json]:
    folder = job.model_folder(model_name(job))
    watch = watch_of(job, settings.precision)
    place, data = job_data.place(job, settings), job_data.images(job)
    lists = image_lists.load_lists(place, data)
    lesson = image_lists.lesson_of(place, data, lists, settings)
    record, record_path = poison_of(job)
    columns = objectives()[settings.objective].columns
    training = augmented(lists.train, settings, record, columns)
    validation = still(lists.val, settings)
    start = model_origin.start(job, settings)
    state = initialization.load_optimizer_state(start, settings)
    model = initialization.load_start(start, settings, job.device)
    source = {
        **provenance.of_learning(model_origin.run(job, data), settings, place, lists, record_path),
        **provenance.of_labels(training.image_set, validation.image_set),
        **provenance.of_start(start, settings, optimizer=state is not None),
    }
    store = open_store(settings.cache) if is_constant(settings) else None
    feeds: tuple[Feed, Feed] = (training, validation)
    if is_constant(settings):
        feeds = banks(model, training, validation, settings, watch, store=store)
    source["features"] = features = feature_facts(*feeds)

    def note_epoch() -> None:
        outputs.list_bad_images(folder, training, validation)
        features.update(feature_facts(*feeds))

    trained = trainer.train(
        model,
        *feeds,
        settings,
        folder=folder,
        provenance=source,
        watch=watch,
        state=state,
        noted=note_epoch,
        begin=partial(lineage.begin, folder, job.base, lesson, further=start.own),
    )
    if settings.features:
        outputs.keep_features(folder, "train", model, still(lists.train, settings), watch, store)
    counts = {"images": len(lists.train), "poisoned": 0 if record is None else len(record.keys)}
    bad_images = outputs.count_bad_images(paths.bad_images(folder, "train"))
    result = {**counts, "bad_images": bad_images, **_numbers(trained)}
    write_json(paths.summary(folder), {"schema": SCHEMA, **result})
    paths.last_checkpoint(folder).unlink(missing_ok=True)
    resume.clear(paths.resume(folder))  # nothing is left to go on with
    return result


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
    }
