"""A re-shared image: compressed by the sender, then resized and compressed by the platform."""

import random

from PIL.Image import Resampling
from torch import Tensor

from trueface.corruptions.pillow import reencode_lossy, rescale_and_restore, to_image, to_pixels
from trueface.corruptions.registry import register_corruption

QUALITY = (70, 90)  # quality of both JPEGs, drawn apart
FACTOR = (0.5, 0.9)  # factor of the platform's resizing
KEPT = (60, 95)  # quality of the one JPEG of a small image


@register_corruption(
    "share",
    summary="JPEG 70 to 90, resized by 0.5 to 0.9 and back, JPEG 70 to 90",
    draws=True,
)
def share(pixels: Tensor, strength: float, rng: random.Random) -> Tensor:
    """Return the image as a platform hands it on, in its old size; both qualities and the factor are drawn."""
    del strength
    sent, handed_on = rng.randint(*QUALITY), rng.randint(*QUALITY)
    small = rescale_and_restore(
        reencode_lossy(to_image(pixels), "JPEG", sent), rng.uniform(*FACTOR)
    )
    return to_pixels(reencode_lossy(small, "JPEG", handed_on))


@register_corruption(
    "small",
    summary="resized by this factor, JPEG 60 to 95 at that size, and back (bicubic)",
    strength="factor of the sides",
    low=0.05,
    high=4,
    draws=True,
)
def small(pixels: Tensor, strength: float, rng: random.Random) -> Tensor:
    """Return the image as it is seen again after it was kept in another size; the quality is drawn."""
    image = to_image(pixels)
    size = [max(1, round(side * strength)) for side in image.size]
    kept = image.resize((size[0], size[1]), Resampling.BICUBIC)
    again = reencode_lossy(kept, "JPEG", rng.randint(*KEPT))
    return to_pixels(again.resize(image.size, Resampling.BICUBIC))
