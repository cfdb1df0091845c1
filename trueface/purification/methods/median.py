"""The median of a neighbourhood."""

from torch import Tensor
from torch.nn import functional

from trueface.purification.registry import register_purifier
from trueface.purification.steps import Tools
from trueface.runtime.errors import JobError


@register_purifier(
    "median",
    summary="median of a square around each pixel, in each channel, mirrored at the border",
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
        JobError: the square reaches over the whole image.
    """
    del tools
    assert value is not None  # the grammar asks for it
    side, (height, width) = int(value), images.shape[-2:]
    reach = side // 2
    if reach >= min(height, width):
        raise JobError(f"median{side} of images of {width}x{height} pixels; take a smaller side")
    padded = functional.pad(images, (reach,) * 4, mode="reflect")
    squares = padded.unfold(2, side, 1).unfold(3, side, 1).flatten(4)
    return squares.median(-1).values
