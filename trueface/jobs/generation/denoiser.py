"""The entry function of `denoiser`."""

import logging
import os
from collections.abc import Mapping

import torch

from launcher.api import Job, JobError, Json, write_json
from trueface.data.picture_sets import picture_folder
from trueface.diffusion.images import digest, load_images
from trueface.models import checkpoint
from trueface.purification.denoiser import save_denoiser
from trueface.purification.denoiser_training import train_denoiser
from trueface.purification.settings import DenoiserSettings
from trueface.runtime import gpu_memory, logs, paths
from trueface.runtime.paths import SCHEMA
from trueface.runtime.progress import Watch
from trueface.training import provenance


def denoiser(job: Job) -> Mapping[str, Json]:
    """Train the job's denoiser; write it with what it was made of.

    A training that was stopped goes on where it was, to the same bits.
    """
    settings = DenoiserSettings.model_validate(job.settings)
    with logs.shown(logging.INFO):  # in the queue, stderr is the job's log
        torch.set_num_threads(job.cpus)
        return _train(gpu_memory.hold(job, os.environ), settings)


def _train(job: Job, settings: DenoiserSettings) -> Mapping[str, Json]:
    if job.model is None or job.data is None:
        raise JobError(f"{job.name} names no model to make; give its data, such as noisy:A")
    folder = job.model_folder(job.model)
    root = picture_folder(job.path(settings.data_root), job.data)
    images = load_images(root, size=settings.size, channels=settings.channels, cpus=job.cpus)
    watch = Watch(device=job.device, progress=job.progress, stop=job.stop)
    trained = train_denoiser(images, settings, watch=watch, state=paths.resume(folder))
    facts: dict[str, Json] = {
        "job": job.name,
        "model": job.model,
        "images": job.data,
        "settings": settings.model_dump(mode="json"),
        "seed": settings.seed,
        "device": job.device,
        "threads": job.cpus,
        "versions": checkpoint.versions(),
        "git": checkpoint.git_commit(provenance.PACKAGE),
        "code": provenance.keep(job.run_folder),
        "data_root": str(job.path(settings.data_root)),
        "train_images": len(images),
        "train_images_sha256": digest(images, None, ()),
    }
    save_denoiser(paths.checkpoint(folder), trained.denoiser, facts)
    write_json(paths.provenance(folder), {"schema": SCHEMA, **facts})
    result: dict[str, Json] = {"images": len(images), "loss": trained.loss}
    write_json(paths.summary(folder), {"schema": SCHEMA, **result})
    paths.resume(folder).unlink(missing_ok=True)
    return result
