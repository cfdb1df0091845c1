"""Attacks along the gradient's sign, in the L-infinity norm.

FGSM: I. Goodfellow et al., arXiv 1412.6572, section 4. PGD: A. Madry et al., arXiv 1706.06083,
section 2.1.
"""

import torch
from torch import Tensor

from trueface.attacks.perturb import AttackInput
from trueface.attacks.registry import register_attack

STEPS = 10  # steps of PGD
STEP = 1 / 4  # fraction of the budget


@register_attack("fgsm", summary="one step along the sign of the gradient", access="full")
def fgsm(request: AttackInput) -> Tensor:
    """Return each level moved by the whole budget, as the gradient at the image says."""
    signs = request.target.gradient(request.images).sign()
    return request.project_to_budget(
        request.images + request.budget * request.per_image(request.directions) * signs
    )


@register_attack("pgd", summary="ten steps from a random start", access="full")
@register_attack("transfer", summary="pgd with the gradient of the surrogate", access="transfer")
def pgd(request: AttackInput) -> Tensor:
    """Return the images after ten steps of a quarter of the budget along the gradient's sign, within the budget.

    They start at random. The target of `transfer` is the surrogate, and another detector will be
    asked.
    """
    shape, budget = request.images.shape[1:], request.budget
    start = request.draw_per_image(lambda rng: torch.rand(shape, generator=rng) * 2 - 1)
    images = request.project_to_budget(request.images + budget * start)
    directions = request.per_image(request.directions)
    for _ in range(STEPS):
        signs = request.target.gradient(images).sign()
        images = request.project_to_budget(images + STEP * budget * directions * signs)
    return images
