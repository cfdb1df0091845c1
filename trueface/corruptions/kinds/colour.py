"""Light and colour: brightness, contrast, saturation, gamma, few colours."""

import random

import torch
from PIL.Image import Dither
from PIL.ImageEnhance import Brightness, Color, Contrast
from torch import Tensor

from trueface.corruptions.pillow import to_image, to_pixels
from trueface.corruptions.registry import register_corruption


@register_corruption(
    "brightness",
    summary="all grey levels times this factor, clipped, by Pillow",
    strength="factor",
    low=0.05,
    high=10,
)
def brightness(pixels: Tensor, strength: float, rng: random.Random) -> Tensor:
    """Return the image brighter or darker."""
    del rng
    return to_pixels(Brightness(to_image(pixels)).enhance(strength))


@register_corruption(
    "contrast",
    summary="difference to the mean grey of the image times this factor, by Pillow",
    strength="factor",
    low=0.05,
    high=10,
)
def contrast(pixels: Tensor, strength: float, rng: random.Random) -> Tensor:
    """Return the image with another contrast."""
    del rng
    return to_pixels(Contrast(to_image(pixels)).enhance(strength))


@register_corruption(
    "saturation",
    summary="difference to the grey of the pixel times this factor (0 is a grey image), by Pillow",
    strength="factor",
    low=0,
    high=10,
)
def saturation(pixels: Tensor, strength: float, rng: random.Random) -> Tensor:
    """Return the image with stronger or weaker colours."""
    del rng
    return to_pixels(Color(to_image(pixels)).enhance(strength))


@register_corruption(
    "gamma",
    summary="each level, from 0 to 1, to this power (above 1 darker, below 1 brighter)",
    strength="exponent",
    low=0.1,
    high=10,
)
def gamma(pixels: Tensor, strength: float, rng: random.Random) -> Tensor:
    """Return the image after a power law, rounded."""
    del rng
    levels = (255 * (torch.arange(256, dtype=torch.float64) / 255) ** strength).round()
    return levels.to(torch.uint8)[pixels.long()]


@register_corruption(
    "palette",
    summary="palette of this number of colours (median cut) by Pillow, without dithering",
    strength="colours",
    low=2,
    high=256,
    whole=True,
)
def palette(pixels: Tensor, strength: float, rng: random.Random) -> Tensor:
    """Return the image in few colours."""
    del rng
    image = to_image(pixels)
    return to_pixels(image.quantize(int(strength), dither=Dither.NONE).convert("RGB"))
