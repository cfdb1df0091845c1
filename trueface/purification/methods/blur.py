"""Gaussian blur."""

import math

from torch import Tensor
from torchvision.transforms.v2 import functional as image_ops

from trueface.purification.registry import register_purifier
from trueface.purification.steps import Tools

REACH = 3  # standard deviations to each side: 11 pixels for 1.5, as in Anti-disrupt (WISA 2023)


@register_purifier(
    "blur",
    summary="Gaussian blur, mirrored at the border",
    number="standard deviation in pixels",
    low=0.1,
    high=20,
)
def blur(images: Tensor, value: float | None, tools: Tools) -> Tensor:
    """Return blurred images; the kernel has 2 ceil(3 sigma) + 1 pixels a side, within the image's."""
    del tools
    assert value is not None  # the grammar asks for it
    reach = math.ceil(REACH * value)
    sides = [2 * min(reach, side - 1) + 1 for side in (images.shape[-1], images.shape[-2])]
    blurred: Tensor = image_ops.gaussian_blur(images, sides, [value, value])
    return blurred
