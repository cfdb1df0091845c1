"""The one-shot estimate, averaged over several draws of forward noise."""

import torch
from torch import Tensor

from trueface.purification.registry import register_purifier
from trueface.purification.steps import Tools

DRAWS = 8


@register_purifier(
    "smooth",
    summary=f"mean of the estimates at step t over {DRAWS} draws of its forward noise",
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
    t = tools.t_of(images, value)
    drawn = [tools.estimate(tools.noised(images, t, f"draw{k}"), t) for k in range(DRAWS)]
    return torch.stack(drawn).mean(0)
