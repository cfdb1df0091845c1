"""Lossy formats of pictures: JPEG, WebP."""

import random

from torch import Tensor

from trueface.corruptions.pillow import reencode_lossy, to_image, to_pixels
from trueface.corruptions.registry import register_corruption


@register_corruption(
    "jpeg",
    summary="JPEG by Pillow, colours at half resolution",
    strength="quality",
    low=1,
    high=100,
    whole=True,
)
def jpeg(pixels: Tensor, strength: float, rng: random.Random) -> Tensor:
    """Return the image as JPEG of a quality leaves it."""
    del rng
    return to_pixels(reencode_lossy(to_image(pixels), "JPEG", int(strength)))


@register_corruption(
    "webp",
    summary="lossy WebP by Pillow",
    strength="quality",
    low=1,
    high=100,
    whole=True,
)
def webp(pixels: Tensor, strength: float, rng: random.Random) -> Tensor:
    """Return the image as WebP of a quality leaves it."""
    del rng
    return to_pixels(reencode_lossy(to_image(pixels), "WEBP", int(strength)))
