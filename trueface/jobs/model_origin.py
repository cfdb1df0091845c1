"""Where the model of a job comes from: its run, and the weights that it starts from."""

from dataclasses import replace

from launcher.api import Job
from trueface.jobs.job_data import model_name
from trueface.runtime import paths
from trueface.runtime.ids import DataId
from trueface.training.initialization import Start
from trueface.training.provenance import Run
from trueface.training.settings import LearningSettings, TrainSettings


def start(job: Job, settings: TrainSettings) -> Start:
    """Return what a training starts from: its own earlier weights, its base, or a new model."""
    own = settings.warm_start and paths.checkpoint(job.model_folder(model_name(job))).exists()
    origin = job.model if own else job.base
    return replace(start_from(job, settings, origin), own=origin == job.model)


def start_from(job: Job, settings: LearningSettings, base: str | None) -> Start:
    """Return the start from another model of the job's run, or anew."""
    return Start.of(settings, base, path=job.path, model_folder=job.model_folder)


def run(job: Job, data: DataId) -> Run:
    """Return which run and model a job belongs to, for the provenance; `data` are its images."""
    return Run(
        job=job.name,
        model=job.model,
        base=job.base,
        images=str(data),
        device=job.device,
        threads=job.cpus,
        folder=job.run_folder,
    )
