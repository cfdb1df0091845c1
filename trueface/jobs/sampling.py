"""The entry functions of `sample` and `forge`, which make sets of real and fake images.

A stop leaves nothing behind; the next attempt begins anew.
"""

import logging
import time
from collections.abc import Mapping

from launcher.api import Job, Json
from trueface.data.forging.forged_set import make_forged
from trueface.data.forging.plan import ForgeSettings
from trueface.data.sample import SampleSpec, make_sample
from trueface.data.settings import SampleSettings
from trueface.jobs.setup import progress_of
from trueface.runtime import logs


def sample(job: Job) -> Mapping[str, Json]:
    """Make the synthetic image set of the job's settings, on every core that we may use."""
    settings = SampleSettings.model_validate(job.settings)
    spec = SampleSpec(
        seed=settings.seed,
        size_px=settings.size,
        train=settings.train,
        val=settings.val,
        test=settings.test,
    )
    started = time.monotonic()
    made = make_sample(job.path(settings.data_root), spec, progress=progress_of(job))
    return {"images": made["images"], "seconds": time.monotonic() - started}


def forge(job: Job) -> Mapping[str, Json]:
    """Make the forged set of the job's settings, on every core that we may use."""
    settings = ForgeSettings.model_validate(job.settings)
    root, faces = job.path(settings.data_root), job.path(settings.faces)
    started = time.monotonic()
    with logs.shown(logging.INFO):
        made = make_forged(root, faces, settings, progress=progress_of(job, "pairs"))
    numbers = {name: made[name] for name in ("images", "without_donor")}
    return {**numbers, "seconds": time.monotonic() - started}
