"""The entry function of `diffuser`: from images to a checkpoint and numbers."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

from torch import Tensor

from launcher.api import Job, Json
from trueface.generators.diffusion.diffuser import save_diffuser
from trueface.generators.diffusion.settings import IMPORTER, DiffuserSettings, training_folder
from trueface.generators.diffusion.training import fit, load_classes
from trueface.generators.made_folders import digest_of_images, load_images
from trueface.jobs.job_data import folder_of
from trueface.jobs.setup import entry, job_provenance, run_context, write_facts
from trueface.runtime import paths


@entry(DiffuserSettings)
def train_diffuser(job: Job, settings: DiffuserSettings) -> Mapping[str, Json]:
    """Train the job's diffuser, or import one; write it with its history and cost."""
    if settings.weights:
        imported: Mapping[str, Json] = import_module(IMPORTER).import_diffuser(job, settings)
        return imported
    folder = folder_of(job)
    images, labels, names = _images(job, settings)
    source = job_provenance(
        job,
        settings,
        class_names=list(names),
        data_root=str(job.path(settings.data_root)),
        train_images=len(images),
        train_images_sha256=digest_of_images(images, labels, names),
    )
    watch = run_context(job, settings.precision)
    trained = fit(images, labels, settings, class_names=names, watch=watch, folder=folder)
    save_diffuser(paths.checkpoint(folder), trained.diffuser, source)
    parameters = sum(weight.numel() for weight in trained.diffuser.network.parameters())
    images_read = settings.num_steps * settings.batch_size
    result: dict[str, Json] = {
        "images": len(images),
        "classes": len(names),
        "steps": settings.num_steps,
        "loss": trained.loss,
        "parameters": parameters,
        "seconds": trained.seconds,
        "images_per_s": images_read / max(trained.seconds, 1e-9),
        **trained.acceleration,
    }
    write_facts(folder, source, result)
    paths.resume(folder).unlink(missing_ok=True)
    return result


def _images(job: Job, settings: DiffuserSettings) -> tuple[Tensor, Tensor | None, tuple[str, ...]]:
    data = job.data or ""
    root: Path = training_folder(job.path(settings.data_root), data)
    size, channels = settings.size, settings.channels
    if data.startswith("classes:"):
        return load_classes(root, size=size, channels=channels, cpus=job.cpus)
    return load_images(root, size=size, channels=channels, cpus=job.cpus), None, ()
