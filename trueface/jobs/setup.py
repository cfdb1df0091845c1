"""The setup of entry functions: settings, log, cores, GPU memory; the poison of a training."""

import logging
import os
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import TypeVar

import torch

from launcher.api import Job, Json, Settings, parse_model
from trueface.jobs.job_data import model_name
from trueface.poisoning import poison_record
from trueface.poisoning.poison_record import PoisonRecord
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
