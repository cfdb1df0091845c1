"""Perturbations that disrupt an image-to-image generator, after N. Ruiz, S. Bargal, S. Sclaroff, arXiv 2003.01279.

FGSM (arXiv 1412.6572), BIM (1607.02533) and PGD (1706.06083) in L∞, and random signs as their control. An adaptive
attack goes through a purifier, and averages over the draws of a random one (A. Athalye et al., arXiv
1802.00420, sections 4.1 and 4.2); where the purifier has no gradient of its own, it gives that of the identity.
"""

from collections.abc import Callable
from dataclasses import dataclass
from threading import Event
from typing import Protocol

import torch
from torch import Tensor

from trueface.generators.made_folders import PerImageRNG, to_minus_one_one, to_uint8
from trueface.generators.purification.disruption_settings import (
    LEVELS,
    DisruptSettings,
    Over,
    eps_to_levels,
    largest_stored_change,
)
from trueface.generators.translation.disruption import (
    DisruptionObjective,
    Generator,
    project_to_bound,
    start_width,
)
from trueface.generators.translation.settings import STEPPED
from trueface.runtime.errors import JobError
from trueface.runtime.rng import stream_seed


def quantize_within(images: Tensor, originals: Tensor, levels: int) -> Tensor:
    """Round images to whole grey levels, each pixel at most `levels` from its original.

    Args:
        images: N×C×H×W in [-1, 1].
        originals: N×C×H×W, of whole levels.
        levels: largest change of a pixel, see `eps_to_levels`.
    """
    start, end = to_uint8(originals).int(), to_uint8(images).int()
    moved = (end - start).clamp(-levels, levels)
    return to_minus_one_one(start + moved)


@dataclass(frozen=True, slots=True, kw_only=True)
class PerturbationNorms:
    """How large the perturbations of some images are."""

    linf: float  # the largest change of a pixel, in units of [-1, 1]
    squares: float  # the sum over all pixels
    pixels: int
    at_bound: int  # pixels that moved as far as they may, or to the end of the range

    @property
    def rms(self) -> float:
        """Root of the mean square, in units of [-1, 1]."""
        return float((self.squares / self.pixels) ** 0.5) if self.pixels else 0.0

    def __add__(self, other: "PerturbationNorms") -> "PerturbationNorms":
        return PerturbationNorms(
            linf=max(self.linf, other.linf),
            squares=self.squares + other.squares,
            pixels=self.pixels + other.pixels,
            at_bound=self.at_bound + other.at_bound,
        )


NO_PERTURBATION = PerturbationNorms(linf=0.0, squares=0.0, pixels=0, at_bound=0)


def perturbation_norms(images: Tensor, originals: Tensor, levels: int) -> PerturbationNorms:
    """Return the size of the perturbation of images in whole grey levels."""
    moved = (to_uint8(images).int() - to_uint8(originals).int()).abs()
    at_end = (images.abs() >= 1) & (moved > 0)
    delta = moved.double() / LEVELS
    return PerturbationNorms(
        linf=float(delta.max()),
        squares=float(delta.square().sum()),
        pixels=delta.numel(),
        at_bound=int(((moved == levels) | at_end).sum()),
    )


def disruption_labels(own_labels: Tensor, flipped_labels: Tensor, label_scope: Over) -> Tensor:
    """Return the labels under which a generator is disrupted, S×N×K.

    Args:
        own_labels: of each image, N×K in {0, 1}.
        flipped_labels: for each attribute those with it flipped, K×N×K.
        label_scope: which of them.
    """
    if label_scope == "own":
        return own_labels[None]
    return (
        flipped_labels
        if label_scope == "flipped"
        else torch.cat([own_labels[None], flipped_labels])
    )


class PurifierProtocol(Protocol):
    """Interface of a purifier that an attack differentiates through."""

    @property
    def is_random(self) -> bool:
        """Whether the result depends on random noise."""

    def __call__(self, images: Tensor, noise: PerImageRNG) -> Tensor:
        """Return purified images, through which gradients reach `images`."""


def disrupt_images(
    generator: Generator,
    images: Tensor,
    labels: Tensor,
    settings: DisruptSettings,
    noise: PerImageRNG,
    *,
    purifier: PurifierProtocol | None = None,
    stop: Event | None = None,
) -> Tensor:
    """Return perturbed images, as they come back from a PNG: no pixel moves by more than eps.

    One perturbation per image serves all its outputs. The original recomputes the same perturbation for each
    target label. The result depends only on the image, its name and the seed.

    Args:
        generator: the disrupted generator.
        images: N×C×H×W in [-1, 1], of whole grey levels.
        labels: S×N×K, the sets of labels under which it is disrupted.
        settings: the attack.
        noise: random streams of the images' names, for start and signs.
        purifier: adaptive attack: what purifies the images before the generator gets them.
        stop: set when the job is to stop.

    Raises:
        JobError: a gradient is not finite, with step and image; or the job was stopped.
    """
    bound = largest_stored_change(settings.eps)
    if settings.attack == "random":
        signs = noise.uniform("disrupt/signs", images).sign()
        return _quantize_disrupted(images + bound * signs, images, settings)
    objective = DisruptionObjective(generator, images, labels, settings.target)
    disrupted = _start(images, settings, noise, bound)
    stepped = settings.attack in STEPPED
    for step in range(settings.steps if stepped else 1):
        if stop is not None and stop.is_set():
            raise JobError(
                f"stopped in step {step + 1} of a batch. The next attempt starts from the beginning."
            )
        gradient = _purified_gradient(
            objective.gradient, disrupted, noise, step, settings.eot, purifier
        )
        _refuse_broken(gradient, noise, step)
        size = settings.step_size if stepped else bound
        disrupted = project_to_bound(disrupted + size * gradient.sign(), images, bound)
    return _quantize_disrupted(disrupted, images, settings)


def _quantize_disrupted(
    disrupted_images: Tensor, images: Tensor, settings: DisruptSettings
) -> Tensor:
    return quantize_within(disrupted_images, images, eps_to_levels(settings.eps))


def _start(images: Tensor, settings: DisruptSettings, noise: PerImageRNG, radius: float) -> Tensor:
    size = start_width(settings.attack, settings.target, radius)
    if not size:
        return images
    return project_to_bound(images + size * noise.uniform("disrupt/start", images), images, radius)


def _purified_gradient(
    gradient: Callable[[Tensor], Tensor],
    images: Tensor,
    noise: PerImageRNG,
    step: int,
    draws: int,
    purifier: PurifierProtocol | None,
) -> Tensor:
    """Return the gradient with respect to images that are purified first, averaged over random draws."""
    if purifier is None:
        return gradient(images)
    count = draws if purifier.is_random else 1
    total = torch.zeros_like(images)
    for draw in range(count):
        # the attacker does not know the defender's
        seed = stream_seed(f"eot/{step}/{draw}", noise.seed)
        with torch.enable_grad():
            asked = images.detach().requires_grad_()
            purified = purifier(asked, PerImageRNG(noise.names, seed))
            (passed,) = torch.autograd.grad(purified, asked, gradient(purified.detach()))
        total += passed
    return total / count


def _refuse_broken(gradient: Tensor, noise: PerImageRNG, step: int) -> None:
    finite = torch.isfinite(gradient).flatten(1).all(1).tolist()
    broken = [name for name, is_whole in zip(noise.names, finite, strict=True) if not is_whole]
    if broken:
        raise JobError(
            f"the gradient of {broken[0]} is not finite in step {step + 1}, because the generator or the "
            "purifier returns infinite numbers. Train it again."
        )
