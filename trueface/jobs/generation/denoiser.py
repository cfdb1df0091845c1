"""The entry function of `denoiser`."""

from collections.abc import Mapping

from launcher.api import Job, JobError, Json
from trueface.data.vocabulary import picture_folder
from trueface.diffusion.images import digest, load_images
from trueface.jobs.model_making import source_of, write_facts
from trueface.jobs.setup import entry, watch_of
from trueface.purification.denoiser import save_denoiser, train_denoiser
from trueface.purification.settings import DenoiserSettings
from trueface.runtime import paths


@entry(DenoiserSettings)
def denoiser(job: Job, settings: DenoiserSettings) -> Mapping[str, Json]:
    """Train the job's denoiser; write it with what it was made of.

    A training that was stopped goes on where it was, to the same bits.
    """
    if job.model is None or job.data is None:
        raise JobError(f"{job.name} names no model to make; give its data, such as noisy:A")
    folder = job.model_folder(job.model)
    root = picture_folder(job.path(settings.data_root), job.data)
    images = load_images(root, size=settings.size, channels=settings.channels, cpus=job.cpus)
    watch = watch_of(job)
    trained = train_denoiser(images, settings, watch=watch, state=paths.resume(folder))
    facts = source_of(
        job,
        settings,
        data_root=str(job.path(settings.data_root)),
        train_images=len(images),
        train_images_sha256=digest(images, None, ()),
    )
    save_denoiser(paths.checkpoint(folder), trained.denoiser, facts)
    result: dict[str, Json] = {"images": len(images), "loss": trained.loss}
    write_facts(folder, facts, result)
    paths.resume(folder).unlink(missing_ok=True)
    return result
