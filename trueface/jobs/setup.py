"""What entry functions have in common: settings, log, cores, GPU memory; images, origin and folder of a model."""

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import torch

from launcher.api import Job, JobError, Json, Settings, parse_model, write_json
from trueface.jobs.job_data import model_name
from trueface.models import checkpoint
from trueface.poisoning import poison_record
from trueface.poisoning.poison_record import PoisonRecord
from trueface.runtime import gpu_memory, logs, paths
from trueface.runtime.heap import keep_freed_memory
from trueface.runtime.ids import DataId
from trueface.runtime.paths import SCHEMA
from trueface.runtime.progress import Watch
from trueface.training import provenance
from trueface.training.provenance import Run, Start
from trueface.training.settings import LearningSettings, TrainSettings

Model = TypeVar("Model", bound=Settings)
Result = Mapping[str, Json]


def start_of(job: Job, settings: TrainSettings) -> Start:
    """Return what a training starts from: its own earlier weights, its base, or a new model."""
    own = settings.warm_start and paths.checkpoint(job.model_folder(model_name(job))).exists()
    origin = job.model if own else job.base
    return replace(start_from(job, settings, origin), own=origin == job.model)


def start_from(job: Job, settings: LearningSettings, base: str | None) -> Start:
    """Return the start from another model of the job's run, or anew."""
    return Start.of(settings, base, path=job.path, model_folder=job.model_folder)


def run_of(job: Job, data: DataId) -> Run:
    """Return which run and model a job belongs to, for the provenance; `data` are its images."""
    return Run(
        job=job.name,
        model=job.model,
        base=job.base,
        images=str(data),
        device=job.device,
        threads=job.cpus,
        folder=job.run_folder,
    )


def entry(
    model: type[Model],
) -> Callable[[Callable[[Job, Model], Result]], Callable[[Job], Result]]:
    """Make an entry function of work with a job and its settings: they are checked, and its share is taken."""

    def entry_of(work: Callable[[Job, Model], Result]) -> Callable[[Job], Result]:
        @wraps(work)
        def begun(job: Job) -> Result:
            settings = model.model_validate(job.settings)
            with logs.shown(logging.INFO):  # in the queue, stderr is the job's log
                return work(settled(job), settings)

        return begun

    return entry_of


def settled(job: Job) -> Job:
    """Take the job's cores, and no more of its card than its share; return the job that keeps to it."""
    torch.set_num_threads(job.cpus)
    keep_freed_memory()
    return gpu_memory.hold(job, os.environ)


def poison_of(job: Job) -> tuple[PoisonRecord | None, Path | None]:
    """Return which labels of a training are wrong, and where that is written."""
    wanted = parse_model(model_name(job)).last.poison
    if wanted is None:
        return None, None
    path = paths.poison_record(job.model_folder(model_name(job)))
    record = poison_record.read_record(path)
    poison_record.refuse_other(record, wanted)
    return record, path


def watch_of(job: Job, precision: str = "fp32") -> Watch:
    """Return the job's device, and where its progress goes."""
    return Watch(device=job.device, precision=precision, progress=job.progress, stop=job.stop)


def progress_of(job: Job, noun: str = "images") -> Callable[[int, int], None]:
    """Return what the maker of a set tells how many of how many it has made; it ends with a stop."""

    def progress(made: int, total: int) -> None:
        job.progress(step=made, total=total)
        if job.stop.is_set():
            raise JobError(f"stopped after {made} of {total} {noun}; the next attempt begins anew")

    return progress


def folder_of(job: Job) -> Path:
    """Return the folder of the model that a job makes.

    Raises:
        JobError: it makes none.
    """
    if job.model is None:
        raise JobError(f"{job.name} names no model to make")
    return job.model_folder(job.model)


def made_folder_of(job: Job) -> Path:
    """Return the folder that a job of the role FOLDER makes.

    Raises:
        JobError: it was planned without one.
    """
    if not job.outputs:
        raise JobError(f"{job.name} has no folder to write; run it by a task file")
    return Path(job.outputs[0])


def checkpoint_of(job: Job, model: str) -> Path:
    """Return where the checkpoint of another model of a job's run lies."""
    return paths.checkpoint(job.model_folder(model))


def source_of(job: Job, settings: Settings, **facts: Any) -> dict[str, Json]:
    """Return what a model is made of and by what, for its provenance.

    Args:
        job: that makes it.
        settings: of the job; one of them is `seed`.
        facts: of the base, of the images and of the network.
    """
    values = settings.model_dump(mode="json")
    return {
        "job": job.name,
        "model": job.model,
        "images": job.data,
        "settings": values,
        "seed": values["seed"],
        "device": job.device,
        "threads": job.cpus,
        "versions": checkpoint.versions(),
        "git": checkpoint.git_commit(provenance.PACKAGE),
        "code": provenance.keep(job.run_folder),
        **facts,
    }


def write_facts(folder: Path, source: Mapping[str, Json], result: Mapping[str, Json]) -> None:
    """Write beside a model what it is made of, and the numbers of its making."""
    write_json(paths.provenance(folder), {"schema": SCHEMA, **source})
    write_json(paths.summary(folder), {"schema": SCHEMA, **result})
