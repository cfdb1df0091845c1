"""The reverse chain of a diffusion without its noise."""

from torch import Tensor

from trueface.purification.registry import register_purifier
from trueface.purification.steps import Tools


@register_purifier(
    "ddpmmean",
    summary="reverse chain from step t, the mean of each step in the place of a draw",
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
    return tools.chain(images, tools.t_of(images, value), draws=False)
