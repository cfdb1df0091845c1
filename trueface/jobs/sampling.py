"""The entry function of `sample`."""

import time
from collections.abc import Mapping

from launcher.api import Job, Json
from trueface.data.made.sample import SampleSpec, make_sample
from trueface.data.settings import SampleSettings
from trueface.jobs.job_data import progress_callback


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
    sampled = make_sample(job.path(settings.data_root), spec, progress=progress_callback(job))
    return {"images": sampled["images"], "seconds": time.monotonic() - started}
