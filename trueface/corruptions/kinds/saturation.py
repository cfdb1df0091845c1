"""Stronger or weaker colours."""

import random

from PIL.ImageEnhance import Color
from torch import Tensor

from trueface.corruptions.pillow import to_image, to_pixels
from trueface.corruptions.registry import register_corruption


@register_corruption(
    "saturation",
    summary="distance to the pixel's grey times this factor, by Pillow; 0: a grey image",
    strength="factor",
    low=0,
    high=10,
)
def saturation(pixels: Tensor, strength: float, chance: random.Random) -> Tensor:
    """Return the image with stronger or weaker colours."""
    del chance
    return to_pixels(Color(to_image(pixels)).enhance(strength))
