"""Brighter or darker mid-tones."""

import random

import torch
from torch import Tensor

from trueface.corruptions.registry import register_corruption


@register_corruption(
    "gamma",
    summary="each level v in 0 … 1 becomes v to this power: above 1 darker, below 1 brighter",
    strength="exponent",
    low=0.1,
    high=10,
)
def gamma(pixels: Tensor, strength: float, chance: random.Random) -> Tensor:
    """Return the image after a power law, rounded."""
    del chance
    levels = (255 * (torch.arange(256, dtype=torch.float64) / 255) ** strength).round()
    return levels.to(torch.uint8)[pixels.long()]
