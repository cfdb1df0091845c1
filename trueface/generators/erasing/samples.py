"""Samples of a diffuser with noise by name, and revision of real images by inversion and sampling.

"cross/7" begins from the same noise in each model. Real images are inverted to noise by DDIM (arXiv 2010.02502,
section 4.3) and sampled by the edited model under the concept's name. This "purification of a real image" keeps
content that the edited model still represents, and replaces erased content. With equal embeddings, no guidance and the unedited model in both directions, an image is reproduced up to the error of the inversion.
This error falls with the number of steps and is the reference of the measure.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from trueface.generators.diffusion.diffuser import Diffuser, ddim_invert, ddim_sample
from trueface.generators.made_folders import PerImageRNG
from trueface.runtime.errors import JobError

STREAM = "sample"  # stream of the noise from which a sample begins
OTHER_STREAM = "other sample"  # stream of second samples, which show the variation of a measure

StepHook = Callable[[int, Tensor], None]  # sees t and z_t before each step


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """Settings of the sampler."""

    steps: int = 25
    guidance: float = 2.0  # 1: none
    seed: int = 1
    batch_size: int = 2048  # changes samples only by rounding
    stop: threading.Event = field(default_factory=threading.Event)


def noise_of(
    diffuser: Diffuser, class_name: str, n: int, seed: int, stream: str = STREAM
) -> Tensor:
    """Return the noise of the samples 0 … n - 1 of a class, n×C×H×W, standard normal."""
    names = [f"{class_name}/{number}" for number in range(n)]
    like = torch.empty((n, diffuser.channels, diffuser.size, diffuser.size))
    return PerImageRNG(names, seed).normal(stream, like)


def sample_classes(
    diffuser: Diffuser,
    labels: Sequence[int],
    n: int,
    sampling: Sampling,
    *,
    stream: str = STREAM,
) -> Tensor:
    """Return samples of some classes, K×n×C×H×W in [-1, 1], cut to that range.

    The noise of a sample depends on its class name, its number and the seed. So models are compared
    with equal seeds, and another class or sample changes no existing one.

    Raises:
        JobError: stopped, guidance without a null token, or a diffuser of early steps of noise only.
    """
    noise = torch.cat(
        [
            noise_of(diffuser, diffuser.class_names[label], n, sampling.seed, stream)
            for label in labels
        ]
    )
    rows = torch.as_tensor(labels, dtype=torch.int64).repeat_interleave(n)
    images = sample_images(diffuser, noise, diffuser.embed(rows), sampling)
    return images.reshape(len(labels), n, *images.shape[1:])


@torch.no_grad()
def sample_images(
    diffuser: Diffuser,
    noise: Tensor,
    embedding: Tensor,
    sampling: Sampling,
    *,
    step_hook: StepHook | None = None,
) -> Tensor:
    """Sample images from noise under embeddings: N×C×H×W in [-1, 1], on the CPU.

    If sampling diverged, images contain NaN; see `replace_nan_images`.

    Args:
        diffuser: the model.
        noise: N×… of the shape that its network works on.
        embedding: N×E, or N×tokens×E.
        sampling: settings of the sampler.
        step_hook: sees t and z_t before each step.

    Raises:
        JobError: stopped, guidance without a null token, a diffuser trained on early noise steps only, or
            pixels that are not finite.
    """
    diffuser.check_samples_from_noise()
    device = diffuser.device
    images = []
    for start in range(0, len(noise), sampling.batch_size):
        if sampling.stop.is_set():
            raise JobError(f"stopped after {start} of {len(noise)} samples. Nothing was written.")
        rows = slice(start, start + sampling.batch_size)
        batch = ddim_sample(
            diffuser,
            noise[rows].to(device),
            embedding[rows].to(device),
            steps=sampling.steps,
            guidance=sampling.guidance,
            step_hook=step_hook,
        )
        images.append(diffuser.network.decode_latents(batch).clamp(-1, 1).cpu())
        if bool(images[-1].isnan().any()):  # a classifier would call these pixels something
            raise JobError(
                "a diffuser draws pixels that are not numbers, so its training or erasing failed. Run it "
                "again with a smaller lr."
            )
    return torch.cat(images)


def replace_nan_images(images: Tensor) -> tuple[Tensor, float]:
    """Return images N×C×H×W with those that hold NaN as plain mid grey, and the share of these.

    A model that was damaged by erasing may diverge while sampling; then its samples are not images.
    """
    diverged = images.isnan().flatten(1).any(1)
    whole = torch.where(diverged.reshape(-1, *(1 for _ in images.shape[1:])), 0.0, images)
    return whole, float(diverged.double().mean())


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """How images are inverted and sampled again."""

    inverted_as: int | None  # class under which they are inverted; None: the null token
    drawn_as: int  # class under which they are sampled again
    steps: int = 50
    guidance: float = 1.0  # guidance of sampling; 1: none


@torch.no_grad()
def revise_images(
    images: Tensor, edited_diffuser: Diffuser, inverter: Diffuser, revision: Revision
) -> Tensor:
    """Invert images and sample them again, N×C×H×W in [-1, 1], on the CPU.

    Args:
        images: real ones, in [-1, 1].
        edited_diffuser: the model that samples.
        inverter: inverts; the edited model in the published experiment.
        revision: under which names, and in how many steps.

    Raises:
        JobError: null or guidance is requested, and a model has no null token.
    """
    n = len(images)
    named = inverter.repeat_embedding(revision.inverted_as, n)
    latents = ddim_invert(inverter, _encode_images(inverter, images), named, steps=revision.steps)
    drawn = ddim_sample(
        edited_diffuser,
        latents.to(edited_diffuser.device),
        edited_diffuser.repeat_embedding(revision.drawn_as, n),
        steps=revision.steps,
        guidance=revision.guidance,
    )
    return edited_diffuser.network.decode_latents(drawn).clamp(-1, 1).cpu()


@torch.no_grad()
def round_trip(images: Tensor, diffuser: Diffuser, label: int | None, steps: int) -> Tensor:
    """Return images after inversion and sampling by one model under one name, without guidance."""
    named = diffuser.repeat_embedding(label, len(images))
    latents = ddim_invert(diffuser, _encode_images(diffuser, images), named, steps=steps)
    drawn = ddim_sample(diffuser, latents, named, steps=steps)
    return diffuser.network.decode_latents(drawn).clamp(-1, 1).cpu()


def _encode_images(diffuser: Diffuser, images: Tensor) -> Tensor:
    return diffuser.network.encode_images(images.to(diffuser.device))


def rms(first: Tensor, second: Tensor) -> Tensor:
    """Return the root mean square difference of each image to its partner, (N,), in units of [-1, 1]."""
    return (first - second).double().square().mean((1, 2, 3)).sqrt()
