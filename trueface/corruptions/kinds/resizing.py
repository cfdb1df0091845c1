"""Resizing, and back."""

import random

from torch import Tensor

from trueface.corruptions.pillow import rescale_and_restore, to_image, to_pixels
from trueface.corruptions.registry import register_corruption


@register_corruption(
    "resize",
    summary="resized by this factor and back, bicubic and antialiased",
    strength="factor of the sides",
    low=0.05,
    high=4,
)
def resize(pixels: Tensor, strength: float, rng: random.Random) -> Tensor:
    """Return the image resized and brought back to its size."""
    del rng
    return to_pixels(rescale_and_restore(to_image(pixels), strength))


@register_corruption(
    "half",
    summary="resized to half of the sides and back, bicubic and antialiased, like resize0.5",
)
def half(pixels: Tensor, strength: float, rng: random.Random) -> Tensor:
    """Return the image in its old size after it had a half of the sides."""
    del strength, rng
    return to_pixels(rescale_and_restore(to_image(pixels), 0.5))


@register_corruption(
    "quarter",
    summary="resized to a quarter of the sides and back, bicubic and antialiased, like resize0.25",
)
def quarter(pixels: Tensor, strength: float, rng: random.Random) -> Tensor:
    """Return the image in its old size after it had a quarter of the sides."""
    del strength, rng
    return to_pixels(rescale_and_restore(to_image(pixels), 0.25))
