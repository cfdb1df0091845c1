"""What a perturbation drives a generator's outputs to, and the gradient of that, image by image."""

from collections.abc import Callable

import torch
from torch import Tensor

from trueface.disruption.settings import Over, Target

Generator = Callable[[Tensor, Tensor], Tensor]  # images N×C×H×W, targets N×K -> images
COLOURS = {"grey": 0.0, "black": -1.0}  # of targets that are one colour


def label_sets(own: Tensor, flipped: Tensor, over: Over) -> Tensor:
    """Return the labels under which a generator is disrupted, S×N×K.

    Args:
        own: of each image, N×K in {0, 1}.
        flipped: for each attribute those with it flipped, K×N×K.
        over: which of them.
    """
    if over == "own":
        return own[None]
    return flipped if over == "flipped" else torch.cat([own[None], flipped])


@torch.no_grad()
def outputs_of(generator: Generator, images: Tensor, labels: Tensor) -> Tensor:
    """Return what a generator makes of images under each set of labels, S×N×C×H×W."""
    return torch.stack([generator(images, row) for row in labels])


class Objective:
    """The mean squared error between outputs and what they are driven to, or away from.

    The loss of a batch is the sum of its images' losses: an image's gradient is its own, whatever stands beside it.

    Args:
        generator: what is disrupted; its parameters need no gradient.
        originals: the images, N×C×H×W.
        labels: S×N×K, see `label_sets`.
        target: what the outputs are driven to.
    """

    def __init__(
        self, generator: Generator, originals: Tensor, labels: Tensor, target: Target
    ) -> None:
        self.generator, self.labels = generator, labels
        self.sign = 1.0 if target == "away" else -1.0  # the attack climbs
        if target == "away":
            self.wanted = outputs_of(generator, originals, labels)
        else:
            self.wanted = torch.full_like(originals, COLOURS[target]).expand(
                len(labels), *originals.shape
            )

    def gradient(self, images: Tensor) -> Tensor:
        """Return the direction in which each image's loss rises, like `images`; the mean over the sets of labels."""
        total = torch.zeros_like(images)
        for labels, wanted in zip(self.labels, self.wanted, strict=True):
            asked = images.detach().requires_grad_()
            error = (self.generator(asked, labels) - wanted).square().flatten(1).mean(1).sum()
            (gradient,) = torch.autograd.grad(self.sign * error, asked)
            total += gradient
        return total / len(self.labels)
