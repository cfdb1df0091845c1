"""A quarter of the size, and back."""

import random

from torch import Tensor

from trueface.corruptions.pillow import rescaled, to_image, to_pixels
from trueface.corruptions.registry import register_corruption

FACTOR = 0.25  # of the sides


@register_corruption(
    "quarter",
    summary="to a quarter of the sides and back, bicubic and antialiased: resize0.25",
)
def quarter(pixels: Tensor, strength: float, chance: random.Random) -> Tensor:
    """Return the image in its old size after it had a quarter of the sides."""
    del strength, chance
    return to_pixels(rescaled(to_image(pixels), FACTOR))
