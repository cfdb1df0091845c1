"""StarGAN's losses: adversarial (Wasserstein with gradient penalty, or hinge), attributes, the way back."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional


def critic_loss(kind: str, real: Tensor, fake: Tensor) -> Tensor:
    """Return what the critic makes small, without its penalty.

    Args:
        kind: "wgan-gp": mean(fake) - mean(real), equation 1 of WGAN-GP; "hinge":
            mean(max(0, 1 - real)) + mean(max(0, 1 + fake)).
        real: realness of real images, of any shape.
        fake: realness of translated ones.
    """
    if kind == "hinge":
        return functional.relu(1 - real).mean() + functional.relu(1 + fake).mean()
    return fake.mean() - real.mean()


def generator_loss(fake: Tensor) -> Tensor:
    """Return what the generator makes small: -mean(fake), of both kinds."""
    return -fake.mean()


def gradient_penalty(
    realness: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, share: Tensor
) -> Tensor:
    """Return the mean of (‖∇‖₂ - 1)² over points between real and fake images.

    I. Gulrajani et al., Improved Training of Wasserstein GANs, 2017, equation 3.

    Args:
        realness: the critic's.
        real: N×C×H×W.
        fake: likewise, of which no gradient is wanted.
        share: N×1×1×1 in 0 … 1, of the real image.
    """
    between = (share * real + (1 - share) * fake).detach().requires_grad_(True)
    outputs = realness(between)
    (slopes,) = torch.autograd.grad(outputs.sum(), between, create_graph=True)
    lengths: Tensor = slopes.flatten(1).norm(dim=1)
    return ((lengths - 1) ** 2).mean()


def attribute_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return binary cross entropy, summed over the attributes, its mean over the images.

    Args:
        logits: N×K.
        labels: N×K, 0 or 1.
    """
    entropy = functional.binary_cross_entropy_with_logits(logits, labels, reduction="sum")
    return entropy / len(logits)


def reconstruction_loss(images: Tensor, back: Tensor) -> Tensor:
    """Return the mean absolute difference of images and their translation back."""
    return (images - back).abs().mean()
