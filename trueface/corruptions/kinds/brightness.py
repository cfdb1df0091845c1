"""More or less light."""

import random

from PIL.ImageEnhance import Brightness
from torch import Tensor

from trueface.corruptions.pillow import to_image, to_pixels
from trueface.corruptions.registry import register_corruption


@register_corruption(
    "brightness",
    summary="all levels times this factor, clipped, by Pillow",
    strength="factor",
    low=0.05,
    high=10,
)
def brightness(pixels: Tensor, strength: float, chance: random.Random) -> Tensor:
    """Return the image brighter or darker."""
    del chance
    return to_pixels(Brightness(to_image(pixels)).enhance(strength))
