"""Luma and chroma of pixels, as JPEG defines them, and pixels of half the size."""

import torch
from torch import Tensor

from trueface.runtime.errors import JobError

# ITU-T T.871, section 7: rows Y, Cb, Cr of columns R, G, B; Cb and Cr are centred at 0 here
FROM_RGB = (
    (0.299, 0.587, 0.114),
    (-0.168735892, -0.331264108, 0.5),
    (0.5, -0.418687589, -0.081312411),
)


def luma(pixels: Tensor) -> Tensor:
    """Return Y, (B, H, W) in 0 … 255, of pixels (B, 3, H, W) in 0 … 255."""
    return _combined(pixels, FROM_RGB[0])


def luma_chroma(pixels: Tensor) -> Tensor:
    """Return Y, Cb and Cr, (B, 3, H, W) contiguous, of pixels (B, 3, H, W) in 0 … 255."""
    # one image at a time, with its colours apart: both stay in the caches of a processor
    return torch.cat(
        [
            torch.stack([_combined(image.contiguous(), row) for row in FROM_RGB], 1)
            for image in torch.split(pixels, 1)
        ]
    )


def whole_luma_chroma(pixels: Tensor) -> Tensor:
    """Return Y, Cb and Cr in whole grey levels, (B, 3, H, W) contiguous.

    Sums and differences of whole numbers are exact, whatever their order. No gradient passes.
    """
    return luma_chroma(pixels.detach()).round_()


def _combined(pixels: Tensor, row: tuple[float, float, float]) -> Tensor:
    # element by element: a matrix product rounds otherwise in a batch than alone
    red, green, blue = pixels.unbind(1)
    return red * row[0] + green * row[1] + blue * row[2]


def halved_sums(planes: Tensor) -> Tensor:
    """Return the sums of 2-by-2 squares, (B, C, H // 2, W // 2); an odd last row or column is left out."""
    height, width = planes.shape[-2] // 2 * 2, planes.shape[-1] // 2 * 2
    even = planes[..., :height, :width]
    rows = even[..., ::2, :] + even[..., 1::2, :]
    return rows[..., ::2] + rows[..., 1::2]


def refuse_small(pixels: Tensor, least: int, what: str) -> None:
    """Refuse images whose shorter side is below `least` pixels.

    Raises:
        JobError: so it is.
    """
    height, width = pixels.shape[-2:]
    if min(height, width) < least:
        raise JobError(
            f"{what} need images of at least {least} by {least} pixels, and these are {width} by "
            f"{height}; set resize_size to {least} or more, or take a model without them"
        )
