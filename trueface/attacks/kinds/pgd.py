"""PGD: A. Madry et al., arXiv 1706.06083, section 2.1, in the L-infinity norm."""

import torch
from torch import Tensor

from trueface.attacks.perturb import Request
from trueface.attacks.registry import register_attack

STEPS = 10
STEP = 1 / 4  # of the budget


@register_attack("pgd", summary="ten steps from a random start", access="full")
def pgd(request: Request) -> Tensor:
    """Return what ten steps of a quarter of the budget along the gradient's sign lead to."""
    return descended(request)


@register_attack("transfer", summary="pgd on the surrogate", access="transfer")
def transfer(request: Request) -> Tensor:
    """Return the same; its target is the surrogate, and another detector will be asked."""
    return descended(request)


def descended(request: Request) -> Tensor:
    """Return the images after projected steps from a random start within the budget."""
    shape, budget = request.images.shape[1:], request.budget
    start = request.drawn(lambda chance: torch.rand(shape, generator=chance) * 2 - 1)
    images = request.within(request.images + budget * start)
    directions = request.directions.view(-1, 1, 1, 1)
    for _ in range(STEPS):
        signs = request.target.gradient(images).sign()
        images = request.within(images + STEP * budget * directions * signs)
    return images
