"""What `diffuser` does with `weights`: a folder of Stable Diffusion becomes a diffuser of this run."""

import time
from collections.abc import Mapping

from launcher.api import Job, Json
from trueface.generators.diffusion.diffuser import save_diffuser
from trueface.generators.diffusion.settings import DiffuserSettings
from trueface.generators.diffusion.stable import import_stable, read_prompts, stable_folder
from trueface.jobs.job_data import folder_of
from trueface.jobs.setup import write_facts
from trueface.models import checkpoint
from trueface.runtime import paths


def import_diffuser(job: Job, settings: DiffuserSettings) -> Mapping[str, Json]:
    """Write the diffuser of a local folder, with the prompts as its classes.

    Nothing is downloaded: the folder is checked first, and the libraries that read it are set to offline mode.

    Raises:
        CheckpointError: the folder is absent or lacks a part.
        DataError: the file of prompts cannot be read.
        JobError: the extra `diffusion` is not installed.
    """
    target = folder_of(job)
    root = job.path(settings.weights)
    folder = stable_folder(root)
    start = time.perf_counter()
    prompts = read_prompts(job.path(settings.prompts))
    diffuser = import_stable(folder, prompts)
    source: dict[str, Json] = {
        "job": job.name,
        "model": job.model,
        "images": None,
        "settings": settings.model_dump(mode="json"),
        "class_names": list(prompts),
        "weights": str(root),
        "versions": checkpoint.versions(),
    }
    save_diffuser(paths.checkpoint(target), diffuser, source)
    result: dict[str, Json] = {
        "classes": len(prompts),
        "parameters": sum(weight.numel() for weight in diffuser.network.parameters()),
        "seconds": time.perf_counter() - start,
    }
    write_facts(target, source, result)
    return result
