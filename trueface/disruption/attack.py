"""Perturbations that disrupt an image-to-image generator, after N. Ruiz, S. Bargal, S. Sclaroff, arXiv 2003.01279.

FGSM (arXiv 1412.6572), BIM (1607.02533) and PGD (1706.06083) in L∞, and random signs as their control. An adaptive
attack goes through a purifier, and averages over the draws of a random one (A. Athalye et al., arXiv
1802.00420, sections 4.1 and 4.2); where the purifier has no gradient of its own, it gives that of the identity.
"""

from collections.abc import Callable
from threading import Event
from typing import Protocol

import torch
from torch import Tensor

from trueface.data.made.folders import ImageNoise
from trueface.disruption.bounds import bound_of, levels_of
from trueface.disruption.levels import in_levels, projected
from trueface.disruption.objectives import Generator, Objective
from trueface.disruption.settings import STEPPED, DisruptSettings
from trueface.runtime.errors import JobError
from trueface.runtime.rng import derive

# the original's start of FGSM; away from G(x), whose gradient at x itself is zero, every attack needs one
SMALL_START = 0.001


class Purifies(Protocol):
    """What a purifier must be for an attack to go through it."""

    @property
    def is_random(self) -> bool:
        """Whether two draws of noise give two results."""

    def __call__(self, images: Tensor, noise: ImageNoise) -> Tensor:
        """Return purified images, through which gradients reach `images`."""


def disrupt_images(
    generator: Generator,
    images: Tensor,
    labels: Tensor,
    settings: DisruptSettings,
    noise: ImageNoise,
    *,
    through: Purifies | None = None,
    stop: Event | None = None,
) -> Tensor:
    """Return perturbed images, as they come back from a PNG: no pixel moves by more than eps.

    One perturbation an image serves all outputs of it; the original computes the same one anew for each
    label that it translates to. The result depends on the image, its name and the seed alone.

    Args:
        generator: what is disrupted.
        images: N×C×H×W in [-1, 1], of whole grey levels.
        labels: S×N×K, the sets of labels under which it is disrupted.
        settings: the attack.
        noise: of the images' names, from which start and signs are drawn.
        through: adaptive attack: what purifies the images before the generator gets them.
        stop: set when the job shall end.

    Raises:
        JobError: a gradient is not finite, with step and image; or the job was stopped.
    """
    bound = bound_of(settings.eps)
    if settings.attack == "random":
        signs = noise.uniform("disrupt/signs", images).sign()
        return _settled(images + bound * signs, images, settings)
    objective = Objective(generator, images, labels, settings.target)
    disrupted = _start(images, settings, noise, bound)
    stepped = settings.attack in STEPPED
    for step in range(settings.steps if stepped else 1):
        if stop is not None and stop.is_set():
            raise JobError(f"stopped in step {step + 1} of a batch; the next attempt begins anew")
        gradient = _through(objective.gradient, disrupted, noise, step, settings.eot, through)
        _refuse_broken(gradient, noise, step)
        size = settings.step_size if stepped else bound
        disrupted = projected(disrupted + size * gradient.sign(), images, bound)
    return _settled(disrupted, images, settings)


def _settled(disrupted: Tensor, images: Tensor, settings: DisruptSettings) -> Tensor:
    return in_levels(disrupted, images, levels_of(settings.eps))


def _start(images: Tensor, settings: DisruptSettings, noise: ImageNoise, bound: float) -> Tensor:
    if settings.attack == "pgd":
        size = bound
    elif settings.target == "away":
        size = min(SMALL_START, bound)
    else:
        return images
    return projected(images + size * noise.uniform("disrupt/start", images), images, bound)


def _through(
    gradient: Callable[[Tensor], Tensor],
    images: Tensor,
    noise: ImageNoise,
    step: int,
    draws: int,
    purifier: Purifies | None,
) -> Tensor:
    """Return the gradient with regard to images that are purified first; the mean over draws."""
    if purifier is None:
        return gradient(images)
    count = draws if purifier.is_random else 1
    total = torch.zeros_like(images)
    for draw in range(count):
        seed = derive(f"eot/{step}/{draw}", noise.seed)  # the attacker does not know the defender's
        with torch.enable_grad():
            asked = images.detach().requires_grad_()
            purified = purifier(asked, ImageNoise(noise.names, seed))
            (passed,) = torch.autograd.grad(purified, asked, gradient(purified.detach()))
        total += passed
    return total / count


def _refuse_broken(gradient: Tensor, noise: ImageNoise, step: int) -> None:
    finite = torch.isfinite(gradient).flatten(1).all(1).tolist()
    broken = [name for name, is_whole in zip(noise.names, finite, strict=True) if not is_whole]
    if broken:
        raise JobError(
            f"the gradient at {broken[0]} is not finite in step {step + 1}: "
            "the generator or the purifier gives numbers without end; train it again"
        )
