"""RECCE, with its decoder: J. Cao et al., "End-to-end reconstruction-classification learning", CVPR 2022."""

from torch import nn

from trueface.models.blocks.recce import Recce
from trueface.models.registry import register_model

HALF = (0.5, 0.5, 0.5)
WIDTH = 2048  # features of Xception


@register_model(
    "recce",
    summary="a decoder that learns real images, on Xception, RECCE",
    mean=HALF,
    std=HALF,
    width=WIDTH,
    usual_side=299,
    own_draws=True,
)
def recce() -> nn.Module:
    """Return the network, with random weights."""
    return Recce()
