"""What jobs have in common that make a model beside detectors, or take one: its folder, its checkpoint, what it is of."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launcher.api import Job, JobError, Json, Settings, write_json
from trueface.models import checkpoint
from trueface.runtime import paths
from trueface.runtime.paths import SCHEMA
from trueface.training import provenance


def folder_of(job: Job) -> Path:
    """Return the folder of the model that a job makes.

    Raises:
        JobError: it makes none.
    """
    if job.model is None:
        raise JobError(f"{job.name} names no model to make")
    return job.model_folder(job.model)


def made_folder_of(job: Job) -> Path:
    """Return the folder that a job of the role FOLDER makes.

    Raises:
        JobError: it was planned without one.
    """
    if not job.outputs:
        raise JobError(f"{job.name} has no folder to write; run it by a task file")
    return Path(job.outputs[0])


def checkpoint_of(job: Job, model: str) -> Path:
    """Return where the checkpoint of another model of a job's run lies."""
    return paths.checkpoint(job.model_folder(model))


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
