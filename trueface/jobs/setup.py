"""What entry functions have in common: settings, log, cores, GPU memory; where what a job makes lies."""

import logging
import os
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import TypeVar

import torch

from launcher.api import Job, JobError, Json, Settings
from trueface.runtime import gpu_memory, logs, paths
from trueface.runtime.heap import keep_freed_memory
from trueface.runtime.progress import Watch

Model = TypeVar("Model", bound=Settings)
Result = Mapping[str, Json]


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
