"""The entry function of `purify`."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path

import torch

from launcher.api import Job, JobError, Json
from trueface.diffusion.checkpoint import load_diffuser
from trueface.diffusion.diffuser import Diffuser
from trueface.purification.denoiser import Denoiser, load_denoiser
from trueface.purification.folders import Purification, purify_folder
from trueface.purification.grammar import PurifierName, parse_purifier, refuse_untrained
from trueface.purification.purifier import Purifier, make_purifier
from trueface.purification.settings import PurifySettings
from trueface.runtime import gpu_memory, logs, paths


def purify(job: Job) -> Mapping[str, Json]:
    """Purify the job's folder of images; write it with what it took.

    A stop leaves nothing behind; the next attempt begins anew.
    """
    settings = PurifySettings.model_validate(job.settings)
    with logs.shown(logging.INFO):  # in the queue, stderr is the job's log
        torch.set_num_threads(job.cpus)
        return _purify(gpu_memory.hold(job, os.environ), settings)


def _purify(job: Job, settings: PurifySettings) -> Mapping[str, Json]:
    name = parse_purifier(settings.purifier)
    diffuser, denoiser = _models(job, settings, name)
    work = Purification(
        source=job.path(settings.source),
        source_text=settings.source,
        purifier=make_purifier(name, diffuser=diffuser, denoiser=denoiser),
        settings=settings.model_dump(mode="json"),
        seed=settings.seed,
        limit=settings.limit,
        batch_size=settings.batch_size,
        device=job.device,
        size=0 if diffuser is None else diffuser.size,
        channels=_channels(diffuser, denoiser),
    )
    facts = purify_folder(work, Path(job.outputs[0]), progress=job.progress, stop=job.stop)
    return {key: facts[key] for key in ("images", "net_calls", "seconds", "cpu_seconds")}


def purifier_of(job: Job, name: PurifierName, *, diffuser: str, denoiser: str) -> Purifier:
    """Return a purifier with the models of a job's run, on the job's device.

    Args:
        job: that works with it.
        name: the purifier.
        diffuser: model ID; '' where it needs none.
        denoiser: likewise.

    Raises:
        JobError: it lacks a model, or the diffuser did not learn the steps that it names.
        CheckpointError: a model cannot be read.
    """


def _models(
    job: Job, settings: PurifySettings, name: PurifierName
) -> tuple[Diffuser | None, Denoiser | None]:
    return None, None


def _channels(diffuser: Diffuser | None, denoiser: Denoiser | None) -> int:
    return 0
