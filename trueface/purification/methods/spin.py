"""The one-shot estimate, averaged over shifts of the image."""

import torch
from torch import Tensor
from torch.nn import functional

from trueface.purification.registry import register_purifier
from trueface.purification.steps import Tools

SHIFTS = ((1, 1), (0, 1), (1, 0), (0, 0))  # corners of the window in the padded image; (1, 1): none


@register_purifier(
    "spin",
    summary="mean of the estimates at step t over shifts by a pixel",
    number="step t",
    low=1,
    high=1000,
    whole=True,
    estimated=True,
    needs="diffuser",
)
def spin(images: Tensor, value: float | None, tools: Tools) -> Tensor:
    """Return the mean of estimates of the image and of it shifted by a pixel down, right and both.

    Source: cycle spinning (R. Coifman and D. Donoho, Translation-Invariant De-Noising, 1995). A
    network that reads blocks of pixels treats a shifted image otherwise; the mean depends less on
    where the blocks lie. The border is mirrored, and each pixel is the mean of the estimates that
    hold it.
    """
    t = tools.t_of(images, value)
    height, width = images.shape[-2:]
    padded = functional.pad(images, (1, 1, 1, 1), mode="reflect")
    total, count = torch.zeros_like(padded), torch.zeros_like(padded)
    for top, left in SHIFTS:
        edges = (left, 2 - left, top, 2 - top)
        window = padded[..., top : top + height, left : left + width]
        total = total + functional.pad(tools.estimate(window, t), edges)
        count = count + functional.pad(torch.ones_like(window), edges)
    inside = (..., slice(1, -1), slice(1, -1))
    return total[inside] / count[inside]
