"""The entry function of `sample`."""

import time
from collections.abc import Mapping

from launcher.api import Job, JobError, Json
from trueface.data.settings import SampleSettings
from trueface.data.synthetic.generate import SampleSpec, make_sample


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

    def progress(made: int, total: int) -> None:
        job.progress(step=made, total=total)
        if job.stop.is_set():
            raise JobError(f"stopped after {made} of {total} images; the next attempt begins anew")

    started = time.monotonic()
    made = make_sample(job.path(settings.data_root), spec, progress=progress)
    return {"images": made["images"], "seconds": time.monotonic() - started}
