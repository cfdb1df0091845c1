"""The reverse chain of a diffusion: from a disturbed image, of means, and after forward noise."""

from torch import Tensor

from trueface.generators.purification.registry import register_purifier
from trueface.generators.purification.steps import Tools


@register_purifier(
    "ddpm",
    summary="reverse chain from step t, without forward noise",
    number="step t",
    low=1,
    high=1000,
    whole=True,
    estimated=True,
    needs="diffuser",
    draws=True,
    gradient="identity",
)
def ddpm(images: Tensor, value: float | None, tools: Tools) -> Tensor:
    """Return images after the reverse steps t … 1: the perturbation is taken for the noise of step t.

    Source: the purification by a DDPM of WISA 2023 (Anti-disrupt), with t = 10 for perturbations of
    at most 0.05. With the diffuser's schedule "seed" the chain is numerically identical. Theirs keeps
    values outside of [-1, 1]; here they are clipped.
    """
    return tools.reverse_steps(images, tools.timestep_for(images, value), draws=True)


@register_purifier(
    "ddpmmean",
    summary="reverse chain from step t, with the mean of each step instead of a random draw",
    number="step t",
    low=1,
    high=1000,
    whole=True,
    estimated=True,
    needs="diffuser",
    gradient="identity",
)
def ddpmmean(images: Tensor, value: float | None, tools: Tools) -> Tensor:
    """Return images after the reverse steps t … 1, to none of which noise is added."""
    return tools.reverse_steps(images, tools.timestep_for(images, value), draws=False)


@register_purifier(
    "diffpure",
    summary="forward noise to step t, then the reverse chain",
    number="step t",
    low=1,
    high=1000,
    whole=True,
    estimated=True,
    needs="diffuser",
    draws=True,
    gradient="identity",
)
def diffpure(images: Tensor, value: float | None, tools: Tools) -> Tensor:
    """Return images after noise of step t and the reverse steps t … 1.

    Source: DiffPure (arXiv 2205.07460, section 3.2), with the discrete chain of a DDPM instead of
    their reverse SDE. The larger t, the more of the image content is resampled.
    """
    t = tools.timestep_for(images, value)
    return tools.reverse_steps(tools.add_noise(images, t, "forward"), t, draws=True)
