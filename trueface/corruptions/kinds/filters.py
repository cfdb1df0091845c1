"""Filters over the neighbourhood of each pixel: blur, median, sharpening."""

import math
import random

import torch
from PIL.ImageFilter import MedianFilter, UnsharpMask
from torch import Tensor
from torchvision.transforms.v2 import functional as image_ops

from trueface.corruptions.pillow import to_image, to_pixels
from trueface.corruptions.registry import register_corruption

REACH = 3  # standard deviations to each side: beyond lies less than 0.3 % of the weight
RADIUS = 2  # pixels of the unsharp mask: Pillow's and most editors' default


@register_corruption(
    "blur",
    summary="Gaussian blur, mirrored at the border",
    strength="standard deviation in pixels",
    low=0.1,
    high=20,
)
def blur(pixels: Tensor, strength: float, rng: random.Random) -> Tensor:
    """Return the image blurred: rows, then columns, rounded once."""
    del rng
    height, width = pixels.shape[-2:]
    across, down = (2 * min(math.ceil(REACH * strength), side - 1) + 1 for side in (width, height))
    sigma = [strength, strength]
    rows = image_ops.gaussian_blur(pixels.float(), [across, 1], sigma)
    both: Tensor = image_ops.gaussian_blur(rows, [1, down], sigma)
    return both.round().clamp(0, 255).to(torch.uint8)


@register_corruption(
    "median",
    summary="median of the square around each pixel, per channel, by Pillow",
    strength="reach in pixels to each side",
    low=1,
    high=5,
    whole=True,
)
def median(pixels: Tensor, strength: float, rng: random.Random) -> Tensor:
    """Return the image with each pixel replaced by the median around it."""
    del rng
    return to_pixels(to_image(pixels).filter(MedianFilter(2 * int(strength) + 1)))


@register_corruption(
    "sharpen",
    summary="unsharp mask of radius 2 by Pillow",
    strength="weight of the mask",
    low=0.1,
    high=10,
)
def sharpen(pixels: Tensor, strength: float, rng: random.Random) -> Tensor:
    """Return the image plus its difference from a blurred copy."""
    del rng
    mask = UnsharpMask(radius=RADIUS, percent=round(100 * strength), threshold=0)
    return to_pixels(to_image(pixels).filter(mask))
