"""The entry function of `unlearn`."""

import logging
from collections.abc import Mapping
from pathlib import Path

from launcher.api import Job, JobError, Json, parse_model, read_json
from trueface.data.attributes import attribute_files
from trueface.data.index import Image
from trueface.evaluation.operating_threshold import fit_calibration
from trueface.jobs import job_data, setup
from trueface.jobs.job_data import model_name
from trueface.jobs.setup import entry, run_context
from trueface.models import checkpoint
from trueface.poisoning import poison_record
from trueface.runtime import paths
from trueface.runtime.errors import DataError
from trueface.runtime.files import file_sha256
from trueface.training import image_lists, provenance
from trueface.training.checkpointing import (
    TrainingStart,
    init_model,
    network_provenance,
    start_provenance,
)
from trueface.training.image_lists import TrainingLists
from trueface.training.objectives.registry import other_objective
from trueface.training.settings import has_frozen_backbone
from trueface.unlearning import experiment, record
from trueface.unlearning.api import UnlearningReport
from trueface.unlearning.experiment import UnlearningOutcome
from trueface.unlearning.flip_task import PoisonedDetector, make_flip_task
from trueface.unlearning.settings import UnlearningSettings, UnlearnSettings
from trueface.unlearning.task import OriginalModel

log = logging.getLogger(__name__)


@entry(UnlearnSettings)
def unlearn(job: Job, settings: UnlearningSettings) -> Mapping[str, Json]:
    """Unlearn the poison of the job's base; write the model and its cost."""
    folder, model_id = job.model_folder(model_name(job)), parse_model(model_name(job))
    if job.base is None or model_id.last.methods[-1:] != (settings.method,):
        raise JobError(f"{job.model} is not the result of {settings.method} on {job.base}")
    record_path = paths.poison_record(job.model_folder(job.base))
    location, data = job_data.data_location(job, settings), job_data.job_data_id(job)
    lists = image_lists.load_lists(location, data)
    image_lists.refuse_one_class(lists.train)
    image_lists.warn_of_one_class(lists.val, settings.model_dump(), unlearns=True)
    start = setup.make_start(job, settings, job.base)
    _refuse_other_objective(start, settings)
    poisoned = _poisoned_detector(job, job.base, start, settings, lists)
    watch = run_context(job, settings.precision)
    done = experiment.unlearn(make_flip_task(poisoned, settings, watch), watch)
    source = {
        **setup.job_provenance(job, settings, **setup.learning_provenance(job, data)),
        **provenance.images_provenance(location, lists),
        "poison_record_sha256": file_sha256(record_path),
        **start_provenance(start, settings),
        **network_provenance(done.model, start),
        **_fit_provenance(job.model_folder(job.base), done),
        **provenance.attributes_provenance(attribute_files(settings.attributes, job.path)),
    }
    # for an unlearning of the unlearned model: the flips of the training stay the same
    poison_record.write_record(paths.poison_record(folder), poisoned.poison)
    lesson = image_lists.training_set_record(location, data, lists, settings, unlearns=True)
    written = image_lists.begin_training_set(folder, job.base, lesson)
    checkpoint.save_model(paths.checkpoint(folder), done.model, source)
    setup.write_record(paths.provenance(folder), source)
    written()
    experiment.write(folder, done)
    result = _numbers(done.unlearned)
    rows: list[Json] = [{"step": step.step, **step.metrics} for step in done.unlearned.log]
    setup.write_record(paths.summary(folder), {**result, "log": rows})
    return result


def _fit_provenance(base: Path, outcome: UnlearningOutcome) -> dict[str, Json]:
    """Return the provenance that a model passes on to models made from it: copies and penalty."""
    provenance = read_json(paths.provenance(base)) or {}
    facts: dict[str, Json] = {"ridge": provenance["ridge"]} if "ridge" in provenance else {}
    predictions = outcome.after["validation"]
    fitted = fit_calibration(predictions.true_labels, predictions.margin)
    return {**facts, "calibration": fitted.json_record}


def _refuse_other_objective(start: TrainingStart, settings: UnlearningSettings) -> None:
    """Refuse an unlearning that would train with another loss than the model was trained with.

    Raises:
        JobError: so it is.
    """
    trained = None if start.folder is None else read_json(paths.provenance(start.folder))
    settings_of_training = trained.get("settings") if trained else None
    differs = other_objective(
        settings_of_training if isinstance(settings_of_training, dict) else {},
        settings.model_dump(),
    )
    if differs:
        raise JobError(
            f"{start.model} was trained with {differs}. Use the same value in training and unlearning."
        )


def _poisoned_detector(
    job: Job, base: str, start: TrainingStart, settings: UnlearningSettings, lists: TrainingLists
) -> PoisonedDetector:
    """Return the job's base with its images.

    Raises:
        CheckpointError: the base cannot be read, or is of another architecture.
    """
    earlier_model = "#".join(map(str, parse_model(base).stages[:-1])) or None
    untrained = setup.make_start(job, settings, earlier_model)
    folder = job.model_folder(base)
    copies, copies_seed = _copies_of_fit(folder)
    store = None
    if has_frozen_backbone(settings):
        from trueface.features.store import open_store  # a learning backbone stores no features

        store = open_store(settings.cache)
    return PoisonedDetector(
        detector=init_model(start, settings, job.device),
        fresh=lambda: init_model(untrained, settings, job.device),
        lists=lists,
        test=_test_images(job, settings),
        poison=poison_record.read_record(paths.poison_record(folder)),
        base=OriginalModel(
            name=base,
            unlearned_name=model_name(job),
            training=record.training(folder),
            cache=folder / "cache",
        ),
        store=store,
        copies=copies,
        copies_seed=copies_seed,
    )


def _copies_of_fit(folder: Path) -> tuple[tuple[str, ...], int]:
    """Return the copies of training images of a model in closed form, and their seed."""
    fitted = (read_json(paths.provenance(folder)) or {}).get("ridge")
    record = fitted if isinstance(fitted, Mapping) else {}
    copies, seed = record.get("copies"), record.get("copies_seed")
    return (
        tuple(map(str, copies)) if isinstance(copies, list) else (),
        seed if isinstance(seed, int) else 0,
    )


def _test_images(job: Job, settings: UnlearningSettings) -> tuple[Image, ...]:
    """Return the test images of the job's data; none where the split has no such list of them."""
    try:
        images, _ = job_data.load_split_images(job, settings, job_data.job_data_id(job), "test")
    except DataError as error:
        log.warning("test=none reason=%s", error)
        return ()
    return images


def _numbers(outcome: UnlearningReport) -> dict[str, Json]:
    """Return what an unlearning changed."""
    before, after = outcome.log[0].metrics, outcome.log[-1].metrics
    return {
        "steps": len(outcome.log) - 2,
        "seconds": outcome.seconds,
        "samples_read": outcome.samples_read,
        **{f"{name}_before": value for name, value in before.items()},
        **after,
    }
