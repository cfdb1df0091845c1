"""More or less contrast."""

import random

from PIL.ImageEnhance import Contrast
from torch import Tensor

from trueface.corruptions.pillow import to_image, to_pixels
from trueface.corruptions.registry import register_corruption


@register_corruption(
    "contrast",
    summary="distance to the image's mean grey times this factor, by Pillow",
    strength="factor",
    low=0.05,
    high=10,
)
def contrast(pixels: Tensor, strength: float, chance: random.Random) -> Tensor:
    """Return the image with another contrast."""
    del chance
    return to_pixels(Contrast(to_image(pixels)).enhance(strength))
