"""Random signs: no attack, but the control of all others."""

import torch
from torch import Tensor

from trueface.attacks.perturb import AttackInput
from trueface.attacks.registry import register_attack


@register_attack("random", summary="random signs, for comparison", access="random")
def random(request: AttackInput) -> Tensor:
    """Return each level moved by the whole budget, up or down."""
    shape = request.images.shape[1:]
    signs = request.draw_per_image(lambda rng: torch.randint(0, 2, shape, generator=rng) * 2 - 1)
    return request.project_to_budget(request.images + request.budget * signs)
