"""Gaussian blur."""

import math
import random

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as image_ops

from trueface.corruptions.registry import register_corruption

REACH = 3  # standard deviations to each side: beyond lies less than 0.3 % of the weight


@register_corruption(
    "blur",
    summary="Gaussian blur, mirrored at the border",
    strength="standard deviation in pixels",
    low=0.1,
    high=20,
)
def blur(pixels: Tensor, strength: float, chance: random.Random) -> Tensor:
    """Return the image blurred: rows, then columns, rounded once."""
    del chance
    height, width = pixels.shape[-2:]
    across, down = (2 * min(math.ceil(REACH * strength), side - 1) + 1 for side in (width, height))
    sigma = [strength, strength]
    rows = image_ops.gaussian_blur(pixels.float(), [across, 1], sigma)
    both: Tensor = image_ops.gaussian_blur(rows, [1, down], sigma)
    return both.round().clamp(0, 255).to(torch.uint8)
