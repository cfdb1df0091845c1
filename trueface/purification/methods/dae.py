"""The denoising auto-encoder."""

from torch import Tensor

from trueface.purification.registry import register_purifier
from trueface.purification.steps import Tools


@register_purifier("dae", summary="denoising auto-encoder", needs="denoiser")
def dae(images: Tensor, value: float | None, tools: Tools) -> Tensor:
    """Return what the denoiser makes of the images.

    Source: the reformer of MagNet (arXiv 1705.09064, section 4.2); see `denoiser.Denoiser`.
    """
    del value
    return tools.denoise(images)
