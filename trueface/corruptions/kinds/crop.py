"""Which part of the image is seen, and which way up."""

import random

import torch
from PIL.Image import Resampling
from torch import Tensor

from trueface.corruptions.pillow import to_image, to_pixels
from trueface.corruptions.registry import register_corruption


@register_corruption(
    "crop",
    summary="random crop with this fraction of the sides, enlarged to the old size (bicubic)",
    strength="fraction of the sides",
    low=0.1,
    high=1,
    draws=True,
)
def crop(pixels: Tensor, strength: float, rng: random.Random) -> Tensor:
    """Return a part of the image in the size of the whole."""
    image = to_image(pixels)
    width, height = (max(1, round(side * strength)) for side in image.size)
    left, top = rng.randint(0, image.width - width), rng.randint(0, image.height - height)
    box = (left, top, left + width, top + height)
    return to_pixels(image.resize(image.size, Resampling.BICUBIC, box=box))


@register_corruption(
    "turn",
    summary="rotated left by this number of quarter turns, and stretched to the old size",
    strength="quarter turns",
    low=1,
    high=3,
    whole=True,
)
def turn(pixels: Tensor, strength: float, rng: random.Random) -> Tensor:
    """Return the image turned, in its old size."""
    del rng
    turned = torch.rot90(pixels, int(strength), (1, 2))
    if turned.shape == pixels.shape:
        return turned
    height, width = pixels.shape[1:]
    return to_pixels(to_image(turned).resize((width, height), Resampling.BICUBIC))
