"""The setup of entry functions: cores, GPU memory, the poison of a training."""

import os
from pathlib import Path

import torch

from launcher.api import Job, parse_model
from trueface.jobs.job_data import model_name
from trueface.poisoning import poison_record
from trueface.poisoning.poison_record import PoisonRecord
from trueface.runtime import gpu_memory, paths
from trueface.runtime.heap import keep_freed_memory
from trueface.runtime.progress import Watch


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
