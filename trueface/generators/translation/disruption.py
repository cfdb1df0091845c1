"""How an image-to-image generator is disrupted, and the disruptions of its adversarial training.

Start reading at `DisruptionObjective`, then at `disrupt_training_images`.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from trueface.generators.translation.settings import STEPPED, Target, TranslatorSettings

Generator = Callable[[Tensor, Tensor], Tensor]  # images N×C×H×W, targets N×K -> images
COLOURS = {"grey": 0.0, "black": -1.0}  # colours of targets of one colour
# width of the random start of FGSM, as in the authors' program; the gradient away from G(x) is zero at x
SMALL_START = 0.001


def start_width(attack: str, target: Target, radius: float) -> float:
    """Return how far from the image a pixel starts at most; 0 if an attack starts at the image itself."""
    if attack == "pgd":
        return radius
    return min(SMALL_START, radius) if target == "away" else 0.0


def project_to_bound(images: Tensor, originals: Tensor, radius: float) -> Tensor:
    """Return images within a bound around their originals, and within [-1, 1]."""
    return (originals + (images - originals).clamp(-radius, radius)).clamp(-1, 1)


@torch.no_grad()
def generate_outputs(generator: Generator, images: Tensor, labels: Tensor) -> Tensor:
    """Return what a generator makes of images under each set of labels, S×N×C×H×W."""
    return torch.stack([generator(images, row) for row in labels])


class DisruptionObjective:
    """The mean squared error between outputs and their target, or the outputs to move away from.

    The loss of a batch is the sum of its images' losses, so the gradient of an image is independent of the batch.

    Args:
        generator: the disrupted generator; its parameters need no gradient.
        originals: the images, N×C×H×W.
        labels: S×N×K, see `disruption_labels`.
        target: what the outputs are driven to.
    """

    def __init__(
        self, generator: Generator, originals: Tensor, labels: Tensor, target: Target
    ) -> None:
        self.generator, self.labels = generator, labels
        self.sign = 1.0 if target == "away" else -1.0  # the attack climbs
        if target == "away":
            self.target_outputs = generate_outputs(generator, originals, labels)
        else:
            self.target_outputs = torch.full_like(originals, COLOURS[target]).expand(
                len(labels), *originals.shape
            )

    def gradient(self, images: Tensor) -> Tensor:
        """Return the direction in which each image's loss rises, like `images`; the mean over the sets of labels."""
        total = torch.zeros_like(images)
        for labels, target_output in zip(self.labels, self.target_outputs, strict=True):
            asked = images.detach().requires_grad_()
            error = (
                (self.generator(asked, labels) - target_output).square().flatten(1).mean(1).sum()
            )
            (gradient,) = torch.autograd.grad(self.sign * error, asked)
            total += gradient
        return total / len(self.labels)


def disrupt_training_images(
    generator: Generator,
    images: Tensor,
    labels: Tensor,
    settings: TranslatorSettings,
    rng: torch.Generator,
) -> Tensor:
    """Return images as a step of adversarial training perturbs them, without gradients.

    It is the attack of `disrupt` against the generator as it is in this step. Pixels are not rounded to grey
    levels, and the largest change is eps itself. The result is float32 in every precision.

    Args:
        generator: the generator that is trained. The gradients of its weights do not change.
        images: N×3×H×W in [-1, 1], real or translated.
        labels: attributes under which the generator is disrupted, N×K.
        settings: the attack, `adversarial_*`.
        rng: random stream of the step, for the start of the attack.
    """
    bound, attack = settings.adversarial_eps, settings.adversarial_attack
    originals = images.detach().float()
    disrupted = originals
    width = start_width(attack, settings.adversarial_target, bound)
    if width:
        drawn = 2 * torch.rand(images.shape, generator=rng) - 1
        disrupted = project_to_bound(originals + width * drawn.to(originals), originals, bound)
    objective = DisruptionObjective(generator, originals, labels[None], settings.adversarial_target)
    stepped = attack in STEPPED
    size = settings.adversarial_step_size if stepped else bound
    for _ in range(settings.adversarial_steps if stepped else 1):
        moved = disrupted + size * objective.gradient(disrupted).sign()
        disrupted = project_to_bound(moved, originals, bound)
    return disrupted
