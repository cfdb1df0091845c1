"""An image that was shared: coded by the one who sends it, resized and coded again by the platform."""

import random

from torch import Tensor

from trueface.corruptions.pillow import recoded, rescaled, to_image, to_pixels
from trueface.corruptions.registry import register_corruption

QUALITY = (70, 90)  # of both JPEGs, drawn apart
FACTOR = (0.5, 0.9)  # of the platform's resizing


@register_corruption(
    "share",
    summary="JPEG 70 to 90, resized by 0.5 to 0.9 and back, JPEG 70 to 90",
    draws=True,
)
def share(pixels: Tensor, strength: float, chance: random.Random) -> Tensor:
    """Return the image as a platform hands it on, in its old size; both qualities and the factor are drawn."""
    del strength
    sent, handed_on = chance.randint(*QUALITY), chance.randint(*QUALITY)
    small = rescaled(recoded(to_image(pixels), "JPEG", sent), chance.uniform(*FACTOR))
    return to_pixels(recoded(small, "JPEG", handed_on))
