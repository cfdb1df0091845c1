"""The entry function of `purify`."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path

import torch

from launcher.api import Job, Json
from trueface.jobs.generation.purifier_models import purifier_of
from trueface.purification.folders import Purification, purify_folder
from trueface.purification.grammar import parse_purifier
from trueface.purification.settings import PurifySettings
from trueface.runtime import gpu_memory, logs


def purify(job: Job) -> Mapping[str, Json]:
    """Purify the job's folder of images; write it with what it took.

    A stop leaves nothing behind; the next attempt begins anew.
    """
    settings = PurifySettings.model_validate(job.settings)
    with logs.shown(logging.INFO):  # in the queue, stderr is the job's log
        torch.set_num_threads(job.cpus)
        return _purify(gpu_memory.hold(job, os.environ), settings)


def _purify(job: Job, settings: PurifySettings) -> Mapping[str, Json]:
    work = Purification(
        source=job.path(settings.source),
        source_text=settings.source,
        purifier=purifier_of(
            job,
            parse_purifier(settings.purifier),
            diffuser=settings.diffuser,
            denoiser=settings.denoiser,
        ),
        settings=settings.model_dump(mode="json"),
        seed=settings.seed,
        limit=settings.limit,
        batch_size=settings.batch_size,
        device=job.device,
    )
    facts = purify_folder(work, Path(job.outputs[0]), progress=job.progress, stop=job.stop)
    return {key: facts[key] for key in ("images", "net_calls", "seconds", "cpu_seconds")}
