"""A purifier with the models of a job's run: for purifications, and for attacks that go through one."""

from launcher.api import Job, JobError
from trueface.diffusion.checkpoint import load_diffuser
from trueface.purification.denoiser import load_denoiser
from trueface.purification.grammar import PurifierName, refuse_untrained
from trueface.purification.purifier import Purifier, make_purifier
from trueface.runtime import paths

COLOURS = (1, 3)  # channels of images


def purifier_of(job: Job, name: PurifierName, *, diffuser: str, denoiser: str) -> Purifier:
    """Return a purifier on the job's device; a model that it does not need is not read.

    Args:
        job: that works with it.
        name: the purifier.
        diffuser: model ID; "": none.
        denoiser: likewise.

    Raises:
        JobError: it lacks a model, or the diffuser did not learn the steps that it names.
        CheckpointError: a model cannot be read.
    """
    given = {"diffuser": diffuser, "denoiser": denoiser}
    for setting in name.needs:
        if not given[setting]:
            raise JobError(f"purifier {name.text} needs a {setting}: give the ID of one")
    learned, denoising = None, None
    if "diffuser" in name.needs:
        learned = load_diffuser(paths.checkpoint(job.model_folder(diffuser)), job.device)
        if reason := refuse_untrained(name, learned.t_max, diffuser):
            raise JobError(reason)
        if learned.channels not in COLOURS:
            raise JobError(
                f"{diffuser} works on {learned.channels} channels, such as latents, and not on images; "
                "train a diffuser of images to purify them"
            )
    if "denoiser" in name.needs:
        denoising = load_denoiser(paths.checkpoint(job.model_folder(denoiser)), job.device)
    return make_purifier(name, diffuser=learned, denoiser=denoising)
