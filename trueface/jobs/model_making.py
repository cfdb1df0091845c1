"""What jobs have in common that make a model: where it starts, and what is written of it."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from launcher.api import Job, Json, Settings, write_json
from trueface.jobs.job_data import model_name
from trueface.models import checkpoint
from trueface.runtime import paths
from trueface.runtime.ids import DataId
from trueface.runtime.paths import SCHEMA
from trueface.training import provenance
from trueface.training.provenance import ModelOrigin, Start
from trueface.training.settings import LearningSettings, TrainSettings


def start_of(job: Job, settings: TrainSettings) -> Start:
    """Return what a training starts from: its own earlier weights, its base, or a new model."""
    own = settings.warm_start and paths.checkpoint(job.model_folder(model_name(job))).exists()
    origin = job.model if own else job.base
    return replace(start_from(job, settings, origin), own=origin == job.model)


def start_from(job: Job, settings: LearningSettings, base: str | None) -> Start:
    """Return the start from another model of the job's run, or anew."""
    return Start.of(settings, base, path=job.path, model_folder=job.model_folder)


def run_of(job: Job, data: DataId) -> ModelOrigin:
    """Return which run and model a job belongs to, for the provenance; `data` are its images."""
    return ModelOrigin(
        job=job.name,
        model=job.model,
        base=job.base,
        images=str(data),
        device=job.device,
        threads=job.cpus,
        folder=job.run_folder,
    )


def source_of(job: Job, settings: Settings, **facts: Any) -> dict[str, Json]:
    """Return what a model is made of and by what, for its provenance.

    Args:
        job: that makes it.
        settings: of the job; one of them is `seed`.
        facts: of the base, of the images and of the network.
    """
    values = settings.model_dump(mode="json")
    return {
        "job": job.name,
        "model": job.model,
        "images": job.data,
        "settings": values,
        "seed": values["seed"],
        "device": job.device,
        "threads": job.cpus,
        "versions": checkpoint.versions(),
        "git": checkpoint.git_commit(provenance.PACKAGE),
        "code": provenance.keep(job.run_folder),
        **facts,
    }


def write_facts(folder: Path, source: Mapping[str, Json], result: Mapping[str, Json]) -> None:
    """Write beside a model what it is made of, and the numbers of its making."""
    write_json(paths.provenance(folder), {"schema": SCHEMA, **source})
    write_json(paths.summary(folder), {"schema": SCHEMA, **result})
