"""A half of the size, and back."""

import random

from torch import Tensor

from trueface.corruptions.pillow import rescaled, to_image, to_pixels
from trueface.corruptions.registry import register_corruption

FACTOR = 0.5  # of the sides


@register_corruption(
    "half",
    summary="to a half of the sides and back, bicubic and antialiased: resize0.5",
)
def half(pixels: Tensor, strength: float, chance: random.Random) -> Tensor:
    """Return the image in its old size after it had a half of the sides."""
    del strength, chance
    return to_pixels(rescaled(to_image(pixels), FACTOR))
