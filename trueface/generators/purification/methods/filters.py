"""Purifiers without a network: none, blur, median, total variation, JPEG."""

import io
import math

import numpy as np
import PIL.Image
import torch
from torch import Tensor
from torch.nn import functional
from torchvision.transforms.v2 import functional as image_ops

from trueface.corruptions.pillow import encode_lossy
from trueface.generators.made_folders import to_minus_one_one, to_uint8
from trueface.generators.purification.registry import register_purifier
from trueface.generators.purification.steps import Tools
from trueface.runtime.errors import JobError
from trueface.runtime.image_files import open_image

REACH = 3  # standard deviations to each side: 11 pixels for 1.5, as in Anti-disrupt (WISA 2023)
ROUNDS = 30  # rounds of total variation
STEP = 0.25  # step of the projection: converges in practice; proven up to 1/8 (theorem 3.1)
_TINY = 1e-12  # the root's slope at 0 has no end


@register_purifier("none", summary="unchanged images")
def none(images: Tensor, value: float | None, tools: Tools) -> Tensor:
    """Return the images themselves."""
    del value, tools
    return images


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


@register_purifier(
    "median",
    summary="median of the square around each pixel, per channel, mirrored at the border",
    number="side in pixels",
    low=3,
    high=11,
    whole=True,
    odd=True,
    gradient="identity",
)
def median(images: Tensor, value: float | None, tools: Tools) -> Tensor:
    """Return images with each pixel replaced by the median around it.

    Raises:
        JobError: the square is larger than the image.
    """
    del tools
    assert value is not None  # the grammar asks for it
    side, (height, width) = int(value), images.shape[-2:]
    reach = side // 2
    if reach >= min(height, width):
        raise JobError(
            f"median{side} is too large for images of {width}x{height} pixels. Use a smaller side."
        )
    padded = functional.pad(images, (reach,) * 4, mode="reflect")
    squares = padded.unfold(2, side, 1).unfold(3, side, 1).flatten(4)
    return squares.median(-1).values


@register_purifier(
    "tv",
    summary="total-variation denoising, by Chambolle's projection",
    number="weight lambda",
    low=0.001,
    high=10,
)
def tv(images: Tensor, value: float | None, tools: Tools) -> Tensor:
    """Return u that makes |u - image|² / 2 + lambda TV(u) small, each channel by itself.

    TV is isotropic: the sum over pixels of the length of the gradient, forward differences.

    Source: A. Chambolle, An Algorithm for Total Variation Minimization, JMIV 20, 2004, equation 9. It has
    a fixed number of rounds instead of a bound on the change, so that results do not depend on the batch.
    """
    del tools
    assert value is not None  # the grammar asks for it
    scaled = images / value
    dual_x, dual_y = torch.zeros_like(images), torch.zeros_like(images)
    for _ in range(ROUNDS):
        slope_x, slope_y = _gradient(_divergence(dual_x, dual_y) - scaled)
        length = 1 + STEP * (slope_x**2 + slope_y**2 + _TINY).sqrt()
        dual_x, dual_y = (dual_x + STEP * slope_x) / length, (dual_y + STEP * slope_y) / length
    return images - value * _divergence(dual_x, dual_y)


def _gradient(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the forward differences along rows and columns, 0 at the last pixel."""
    across = functional.pad(images[..., :, 1:] - images[..., :, :-1], (0, 1, 0, 0))
    down = functional.pad(images[..., 1:, :] - images[..., :-1, :], (0, 0, 0, 1))
    return across, down


def _divergence(x_gradient: Tensor, y_gradient: Tensor) -> Tensor:
    """Return the negative adjoint of `_gradient`. The value at the last pixel is ignored."""
    rows = functional.pad(x_gradient[..., :, :-1], (1, 1, 0, 0))
    columns = functional.pad(y_gradient[..., :-1, :], (0, 0, 1, 1))
    return rows[..., :, 1:] - rows[..., :, :-1] + columns[..., 1:, :] - columns[..., :-1, :]


@register_purifier(
    "jpeg",
    summary="JPEG by Pillow, colours at half resolution",
    number="quality",
    low=1,
    high=100,
    whole=True,
    gradient="identity",
)
def jpeg(images: Tensor, value: float | None, tools: Tools) -> Tensor:
    """Return images as JPEG of a quality leaves them, grey ones as grey."""
    del tools
    assert value is not None  # the grammar asks for it
    rows = [_recode_image(levels, int(value)) for levels in to_uint8(images).cpu()]
    return to_minus_one_one(torch.stack(rows)).to(images)


def _recode_image(levels: Tensor, quality: int) -> Tensor:
    """Return an image C×H×W uint8 after it was a file."""
    pixels = levels[0].numpy() if len(levels) == 1 else levels.permute(1, 2, 0).numpy()
    file = encode_lossy(PIL.Image.fromarray(pixels), "JPEG", quality)
    with open_image(io.BytesIO(file)) as image:
        read = torch.from_numpy(np.array(image))
    return read[None] if read.dim() == 2 else read.permute(2, 0, 1)
