"""The one-shot estimate, averaged over several steps of the diffusion."""

import torch
from torch import Tensor

from trueface.purification.registry import register_purifier
from trueface.purification.steps import Tools

FACTORS = (0.5, 1.0, 1.5)  # of t; the declaration's reach is the largest


@register_purifier(
    "ensemble",
    summary="mean of the estimates at steps t/2, t and 3t/2",
    number="step t",
    low=2,
    high=1000,
    whole=True,
    estimated=True,
    reach=1.5,
    needs="diffuser",
)
def ensemble(images: Tensor, value: float | None, tools: Tools) -> Tensor:
    """Return the mean of three estimates, each of which takes another strength of the noise for true."""
    t = tools.t_of(images, value)
    steps = [(t * factor).round().long().clamp(max=tools.t_max) for factor in FACTORS]
    return torch.stack([tools.estimate(images, each) for each in steps]).mean(0)
