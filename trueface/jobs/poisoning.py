"""The entry function of `poison`."""

import logging
from collections.abc import Mapping, Sequence

from launcher.api import Job, JobError, Json, Poison, parse_model
from trueface.data.index import Image
from trueface.jobs import job_data
from trueface.jobs.job_data import model_name
from trueface.jobs.rule import refuse_broken_rules
from trueface.poisoning import poison_record
from trueface.poisoning.label_flips import choose_flips, read_list
from trueface.poisoning.poison_record import PoisonRecord, PoisonSettings
from trueface.runtime import logs, paths


def poison(job: Job) -> Mapping[str, Json]:
    """Choose which training labels are flipped, and write the record."""
    settings = PoisonSettings.model_validate(job.settings)
    refuse_broken_rules(job, settings, poison.__module__)
    with logs.log_to_stderr(logging.INFO):  # in the queue, stderr is the job's log
        return _flip_labels(job, settings)


def _flip_labels(job: Job, settings: PoisonSettings) -> Mapping[str, Json]:
    poison = parse_model(model_name(job)).last.poison
    if poison is None:
        raise JobError(f"{job.model} has no poison: its ID has no '%'")
    images, _ = job_data.load_split_images(
        job, settings, job_data.job_data_id(job), "train", settings.clips
    )
    record = choose_poison(job, settings, images, poison)
    own = paths.poison_record(job.model_folder(model_name(job)))
    for path in job.outputs or (own,):
        poison_record.write_record(path, record)
    fakes = sum(
        images[position].label for position in poison_record.poisoned_positions(images, record)
    )
    return {"images": len(images), "flipped": len(record.keys), "flipped_fake": fakes}


def choose_poison(
    job: Job, settings: PoisonSettings, images: Sequence[Image], poison: Poison
) -> PoisonRecord:
    """Choose the flipped labels."""
    listed = None
    if settings.poison_list:
        listed = read_list(job.path(settings.poison_list), images)
    return choose_flips(
        images,
        poison,
        settings.poison_seed,
        flip_unit=settings.poison_per,
        unit=settings.poison_unit,
        listed_names=listed,
    )
