"""Real images drawn anew by an edited model: DDIM inversion to noise, then its sampling.

The seed's "purification of a real image": what an edited model still tells of an image is kept, what it forgot
is drawn otherwise. Source of the inversion: arXiv 2010.02502, section 4.3; the sampling is that of the edited
model under the concept's name. With equal embeddings, no guidance and the unedited model on both ways an image
comes back but for the error of the inversion, which falls with the number of steps: the reference of the measure.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from trueface.diffusion.diffuser import Diffuser
from trueface.diffusion.sampling import ddim_invert, ddim_sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """How images are inverted and drawn anew."""

    inverted_as: int | None  # class under which they are inverted; None: the null token
    drawn_as: int  # class under which they are drawn anew
    steps: int = 50
    guidance: float = 1.0  # of sampling; 1: none


def embedding_of(diffuser: Diffuser, label: int | None, n: int) -> Tensor:
    """Return the embedding of a class, or of null, n times (n, E).

    Raises:
        JobError: null is asked for, and the diffuser has none.
    """
    return diffuser.null(n) if label is None else diffuser.embed(torch.full((n,), label))


@torch.no_grad()
def revised(images: Tensor, edited: Diffuser, inverter: Diffuser, revision: Revision) -> Tensor:
    """Return images drawn anew, N×C×H×W in [-1, 1], on the CPU.

    Args:
        images: real ones, in [-1, 1].
        edited: draws.
        inverter: inverts; the edited model in the published experiment.
        revision: under which names, and in how many steps.

    Raises:
        JobError: null or guidance is asked for, and a model has no null token.
    """
    n = len(images)
    named = embedding_of(inverter, revision.inverted_as, n)
    latents = ddim_invert(inverter, _encoded(inverter, images), named, steps=revision.steps)
    drawn = ddim_sample(
        edited,
        latents.to(edited.device),
        embedding_of(edited, revision.drawn_as, n),
        steps=revision.steps,
        guidance=revision.guidance,
    )
    return edited.network.decoded(drawn).clamp(-1, 1).cpu()


@torch.no_grad()
def round_trip(images: Tensor, diffuser: Diffuser, label: int | None, steps: int) -> Tensor:
    """Return images after inversion and sampling by one model under one name, without guidance."""
    named = embedding_of(diffuser, label, len(images))
    latents = ddim_invert(diffuser, _encoded(diffuser, images), named, steps=steps)
    drawn = ddim_sample(diffuser, latents, named, steps=steps)
    return diffuser.network.decoded(drawn).clamp(-1, 1).cpu()


def _encoded(diffuser: Diffuser, images: Tensor) -> Tensor:
    return diffuser.network.encoded(images.to(diffuser.device))


def rms(first: Tensor, second: Tensor) -> Tensor:
    """Return the root mean square difference of each image to its partner, (N,), in units of [-1, 1]."""
    return (first - second).double().square().mean((1, 2, 3)).sqrt()
