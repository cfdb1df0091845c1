"""Gaussian noise."""

import random

import numpy as np
import torch
from torch import Tensor

from trueface.corruptions.registry import register_corruption


@register_corruption(
    "noise",
    summary="Gaussian noise, independent in every pixel and channel",
    strength="standard deviation in grey levels",
    low=0.1,
    high=128,
    draws=True,
)
def noise(pixels: Tensor, strength: float, chance: random.Random) -> Tensor:
    """Return the image with noise, rounded and clipped."""
    drawn = np.random.default_rng(chance.getrandbits(64)).standard_normal(
        tuple(pixels.shape), dtype=np.float32
    )
    noisy = pixels + strength * torch.from_numpy(drawn)
    return noisy.round().clamp(0, 255).to(torch.uint8)
