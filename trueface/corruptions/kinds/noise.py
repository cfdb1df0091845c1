"""Noise: Gaussian, and pixels that are lost."""

import random

import numpy as np
import torch
from torch import Tensor

from trueface.corruptions.registry import register_corruption
from trueface.runtime.rng import seeded_numpy_rng


@register_corruption(
    "noise",
    summary="Gaussian noise, independent in every pixel and channel",
    strength="standard deviation in grey levels",
    low=0.1,
    high=128,
    draws=True,
    frames="apart",
)
def noise(pixels: Tensor, strength: float, rng: random.Random) -> Tensor:
    """Return the image with noise, rounded and clipped."""
    drawn = seeded_numpy_rng(rng.getrandbits(64)).standard_normal(
        tuple(pixels.shape), dtype=np.float32
    )
    noisy = pixels + strength * torch.from_numpy(drawn)
    return noisy.round().clamp(0, 255).to(torch.uint8)


@register_corruption(
    "impulse",
    summary="salt and pepper, this percentage of the pixels becomes black or white, equally likely",
    strength="percent of the pixels",
    low=0.01,
    high=50,
    draws=True,
    frames="apart",
)
def impulse(pixels: Tensor, strength: float, rng: random.Random) -> Tensor:
    """Return the image with pixels that are lost, in all channels."""
    drawn = seeded_numpy_rng(rng.getrandbits(64)).random(tuple(pixels.shape[1:]))
    lost, white = torch.from_numpy(drawn < strength / 100), torch.from_numpy(drawn < strength / 200)
    return pixels.masked_fill(lost, 0).masked_fill(white, 255)
