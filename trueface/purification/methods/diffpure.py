"""DiffPure: forward noise, then the reverse chain."""

from torch import Tensor

from trueface.purification.registry import register_purifier
from trueface.purification.steps import Tools


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

    Source: DiffPure (arXiv 2205.07460, section 3.2), with the discrete chain of a DDPM in the place of
    their reverse SDE. The larger t, the more of the picture itself is drawn anew.
    """
    t = tools.t_of(images, value)
    return tools.chain(tools.noised(images, t, "forward"), t, draws=True)
