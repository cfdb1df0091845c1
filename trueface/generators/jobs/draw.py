"""The entry function of `draw`."""

import time
from collections.abc import Mapping

from launcher.api import Job, Json
from trueface.data.settings import DrawSettings
from trueface.generators.drawn_set import make_drawn
from trueface.jobs.job_data import progress_callback


def draw(job: Job) -> Mapping[str, Json]:
    """Create the drawn set of the job's settings.

    A stopped job leaves no files; the next attempt starts again.
    """
    settings = DrawSettings.model_validate(job.settings)

    started = time.monotonic()
    drawn = make_drawn(
        job.path(settings.data_root),
        settings,
        source=job.path(settings.source) if settings.source else None,
        attributes=job.path(settings.attributes) if settings.attributes else None,
        progress=progress_callback(job),
    )
    return {
        "images": drawn["images"],
        "parts": drawn["parts"],
        "seconds": time.monotonic() - started,
    }
