"""The median of a neighbourhood."""

import random

from PIL.ImageFilter import MedianFilter
from torch import Tensor

from trueface.corruptions.pillow import to_image, to_pixels
from trueface.corruptions.registry import register_corruption


@register_corruption(
    "median",
    summary="median of a square around each pixel, in each channel, by Pillow",
    strength="reach in pixels to each side",
    low=1,
    high=5,
    whole=True,
)
def median(pixels: Tensor, strength: float, chance: random.Random) -> Tensor:
    """Return the image with each pixel replaced by the median around it."""
    del chance
    return to_pixels(to_image(pixels).filter(MedianFilter(2 * int(strength) + 1)))
