"""The diffusion's estimate of the clean image by one call of its network."""

from torch import Tensor

from trueface.purification.registry import register_purifier
from trueface.purification.steps import Tools


@register_purifier(
    "oneshot",
    summary="estimate of the clean image at step t by one call of the network",
    number="step t",
    low=1,
    high=1000,
    whole=True,
    estimated=True,
    needs="diffuser",
)
def oneshot(images: Tensor, value: float | None, tools: Tools) -> Tensor:
    """Return E[x_0 | x_t = image]: the perturbation is taken for the noise of step t.

    Source: arXiv 2006.11239, equation 15; as a denoiser against perturbations: arXiv 2206.10550,
    which adds forward noise before (here: `smooth`).
    """
    return tools.estimate(images, tools.t_of(images, value))
