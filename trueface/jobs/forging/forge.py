"""The entry function of `forge`."""

import logging
import time
from collections.abc import Mapping

from launcher.api import Job, Json
from trueface.data.forging.forged_set import make_forged
from trueface.data.forging.settings import ForgeSettings
from trueface.jobs.job_data import progress_callback
from trueface.runtime import logs


def forge(job: Job) -> Mapping[str, Json]:
    """Make the forged set of the job's settings, on every core that we may use.

    A stopped job leaves no files; the next attempt starts again.
    """
    settings = ForgeSettings.model_validate(job.settings)

    started = time.monotonic()
    with logs.log_to_stderr(logging.INFO):
        forged = make_forged(
            job.path(settings.data_root),
            job.path(settings.faces),
            settings,
            progress=progress_callback(job, "pairs"),
        )
    return {
        "images": forged["images"],
        "without_donor": forged["without_donor"],
        "seconds": time.monotonic() - started,
    }
