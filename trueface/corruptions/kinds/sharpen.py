"""Sharpening."""

import random

from PIL.ImageFilter import UnsharpMask
from torch import Tensor

from trueface.corruptions.pillow import to_image, to_pixels
from trueface.corruptions.registry import register_corruption

RADIUS = 2  # pixels: Pillow's and most editors' default


@register_corruption(
    "sharpen",
    summary="unsharp mask of radius 2 by Pillow",
    strength="weight of the mask",
    low=0.1,
    high=10,
)
def sharpen(pixels: Tensor, strength: float, chance: random.Random) -> Tensor:
    """Return the image with what a blur takes away added to it."""
    del chance
    mask = UnsharpMask(radius=RADIUS, percent=round(100 * strength), threshold=0)
    return to_pixels(to_image(pixels).filter(mask))
