"""Estimates of the clean image by a denoiser, or by calls of a diffusion's network alone."""

import torch
from torch import Tensor
from torch.nn import functional

from trueface.generators.purification.registry import register_purifier
from trueface.generators.purification.steps import Tools

FACTORS = (0.5, 1.0, 1.5)  # factors of t; the declaration's reach is the largest
DRAWS = 8
SHIFTS = ((1, 1), (0, 1), (1, 0), (0, 0))  # corners of the window in the padded image; (1, 1): none


@register_purifier("dae", summary="denoising autoencoder", needs="denoiser")
def dae(images: Tensor, value: float | None, tools: Tools) -> Tensor:
    """Return what the denoiser makes of the images.

    Source: the reformer of MagNet (arXiv 1705.09064, section 4.2); see `denoiser.Denoiser`.
    """
    del value
    return tools.denoise(images)


@register_purifier(
    "oneshot",
    summary="estimate of the clean image at step t, with one call of the network",
    number="step t",
    low=1,
    high=1000,
    whole=True,
    estimated=True,
    needs="diffuser",
)
def oneshot(images: Tensor, value: float | None, tools: Tools) -> Tensor:
    """Return E[x_0 | x_t = image]: the perturbation is taken for the noise of step t.

    Source: arXiv 2006.11239, equation 15. As a denoiser against perturbations: arXiv 2206.10550,
    which adds forward noise before (here `smooth`).
    """
    return tools.predict_x0(images, tools.timestep_for(images, value))


@register_purifier(
    "ensemble",
    summary="mean of the estimates at steps t/2, t and 3t/2",
    number="step t",
    low=2,
    high=1000,
    whole=True,
    estimated=True,
    reach=1.5,
    needs="diffuser",
)
def ensemble(images: Tensor, value: float | None, tools: Tools) -> Tensor:
    """Return the mean of three estimates, each of which takes another strength of the noise for true."""
    t = tools.timestep_for(images, value)
    steps = [(t * factor).round().long().clamp(max=tools.t_max) for factor in FACTORS]
    return torch.stack([tools.predict_x0(images, each) for each in steps]).mean(0)


@register_purifier(
    "smooth",
    summary=f"mean of the estimates at step t over {DRAWS} draws of the forward noise",
    number="step t",
    low=1,
    high=1000,
    whole=True,
    estimated=True,
    needs="diffuser",
    draws=True,
)
def smooth(images: Tensor, value: float | None, tools: Tools) -> Tensor:
    """Return the mean of estimates, each from the image with other noise of step t added.

    Source: denoised smoothing (arXiv 2003.01908) with a diffusion's network (arXiv 2206.10550); there
    the classifier's answers are averaged, here the images.
    """
    t = tools.timestep_for(images, value)
    drawn = [tools.predict_x0(tools.add_noise(images, t, f"draw{k}"), t) for k in range(DRAWS)]
    return torch.stack(drawn).mean(0)


@register_purifier(
    "spin",
    summary="mean of the estimates at step t over shifts by one pixel",
    number="step t",
    low=1,
    high=1000,
    whole=True,
    estimated=True,
    needs="diffuser",
)
def draw_direction(images: Tensor, value: float | None, tools: Tools) -> Tensor:
    """Return the mean of estimates of the image and of it shifted by a pixel down, right and both.

    Source: cycle spinning (R. Coifman and D. Donoho, Translation-Invariant De-Noising, 1995). A
    network that reads blocks of pixels treats a shifted image otherwise; the mean depends less on
    where the blocks lie. The border is mirrored, and each pixel is the mean of the estimates that
    hold it.
    """
    t = tools.timestep_for(images, value)
    height, width = images.shape[-2:]
    padded = functional.pad(images, (1, 1, 1, 1), mode="reflect")
    total, count = torch.zeros_like(padded), torch.zeros_like(padded)
    for top, left in SHIFTS:
        edges = (left, 2 - left, top, 2 - top)
        window = padded[..., top : top + height, left : left + width]
        total = total + functional.pad(tools.predict_x0(window, t), edges)
        count = count + functional.pad(torch.ones_like(window), edges)
    inside = (..., slice(1, -1), slice(1, -1))
    return total[inside] / count[inside]
