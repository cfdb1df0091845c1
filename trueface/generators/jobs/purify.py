"""The entry functions of `denoiser` and `purify`, and a purifier with the models of a job's run.

Attacks too may go through one.
"""

from collections.abc import Mapping

from launcher.api import Job, JobError, Json
from trueface.generators.diffusion.diffuser import load_diffuser
from trueface.generators.image_sets import picture_folder
from trueface.generators.made_folders import digest_of_images, load_images
from trueface.generators.purification.denoiser import load_denoiser, save_denoiser, train_denoiser
from trueface.generators.purification.purifier import Purifier, make_purifier, purify_folder
from trueface.generators.purification.registry import (
    DenoiserSettings,
    PurifierName,
    PurifySettings,
    parse_purifier,
    refuse_untrained,
)
from trueface.jobs.job_data import checkpoint_of, output_folder_of_job
from trueface.jobs.setup import entry, job_provenance, run_context, write_facts
from trueface.runtime import paths

COLOURS = (1, 3)  # channels of images


@entry(DenoiserSettings)
def denoiser(job: Job, settings: DenoiserSettings) -> Mapping[str, Json]:
    """Train the job's denoiser; write it with its provenance.

    A stopped training resumes bit-identically.
    """
    if job.model is None or job.data is None:
        raise JobError(f"{job.name} has no model to make. Give its data, such as noisy:A")
    folder = job.model_folder(job.model)
    root = picture_folder(job.path(settings.data_root), job.data)
    images = load_images(root, size=settings.size, channels=settings.channels, cpus=job.cpus)
    watch = run_context(job)
    trained = train_denoiser(images, settings, watch=watch, state=paths.resume(folder))
    facts = job_provenance(
        job,
        settings,
        data_root=str(job.path(settings.data_root)),
        train_images=len(images),
        train_images_sha256=digest_of_images(images),
    )
    save_denoiser(paths.checkpoint(folder), trained.denoiser, facts)
    result: dict[str, Json] = {
        "images": len(images),
        "loss": trained.loss,
        **trained.acceleration,
    }
    write_facts(folder, facts, result)
    paths.resume(folder).unlink(missing_ok=True)
    return result


def purifier_of(job: Job, name: PurifierName, *, diffuser: str, denoiser: str) -> Purifier:
    """Return a purifier on the job's device; a model that it does not need is not read.

    Args:
        job: that works with it.
        name: the purifier.
        diffuser: model ID; "" if the purifier needs none.
        denoiser: model ID; "" if the purifier needs none.

    Raises:
        JobError: the diffuser did not learn the steps that it names.
        CheckpointError: a model cannot be read.
    """
    diffusion, denoising = None, None
    if "diffuser" in name.needs:
        diffusion = load_diffuser(checkpoint_of(job, diffuser), job.device)
        if reason := refuse_untrained(name, diffusion.t_max, diffuser):
            raise JobError(reason)
        if diffusion.channels not in COLOURS:
            raise JobError(
                f"{diffuser} works on {diffusion.channels} channels, such as latents, not on images. Train a "
                "diffuser of images to purify them."
            )
    if "denoiser" in name.needs:
        denoising = load_denoiser(checkpoint_of(job, denoiser), job.device)
    return make_purifier(name, diffuser=diffusion, denoiser=denoising)


@entry(PurifySettings)
def purify(job: Job, settings: PurifySettings) -> Mapping[str, Json]:
    """Purify the job's folder of images; write it with its cost.

    A stopped job leaves no files; the next attempt starts again.
    """
    purifier = purifier_of(
        job,
        parse_purifier(settings.purifier),
        diffuser=settings.diffuser,
        denoiser=settings.denoiser,
    )
    source, output = job.path(settings.source), output_folder_of_job(job)
    facts = purify_folder(source, settings, purifier, output, run_context(job))
    return {key: facts[key] for key in ("images", "net_calls", "seconds", "cpu_seconds")}
