"""The entry function of `sample`."""

import time
from collections.abc import Mapping

from launcher.api import Job, Json
from trueface.data.made.sample import SampleSpec, make_sample
from trueface.data.made.sample_videos import VideoSpec, make_sample_videos
from trueface.data.settings import SampleSettings
from trueface.jobs.job_data import progress_callback


def sample(job: Job) -> Mapping[str, Json]:
    """Make the synthetic image set of the job's settings, on every core that we may use."""
    settings = SampleSettings.model_validate(job.settings)
    if settings.video_frames:
        return _sample_videos(job, settings)
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


def _sample_videos(job: Job, settings: SampleSettings) -> Mapping[str, Json]:
    spec = VideoSpec(
        seed=settings.seed,
        size_px=settings.size,
        frames=settings.video_frames,
        train=settings.train,
        val=settings.val,
        test=settings.test,
    )
    started = time.monotonic()
    root = job.path(settings.data_root)
    sampled = make_sample_videos(root, spec, progress=progress_callback(job, "videos"))
    return {"images": sampled["images"], "seconds": time.monotonic() - started}
