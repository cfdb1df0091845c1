"""CORE: Y. Ni et al., "Consistent representation learning", CVPRW 2022, arXiv 2206.02749.

The network is Xception; the objective `core` is what the paper adds. A published file
(github.com/niyunsheng/CORE, MIT) has two logits, real and fake, for images of 299 by 299 pixels.
"""

from torch import nn

from trueface.models.blocks.full_xception import Xception
from trueface.models.registry import register_model

HALF = (0.5, 0.5, 0.5)
WIDTH = 2048  # features of Xception


@register_model(
    "core",
    summary="consistency of two views on Xception, CORE",
    mean=HALF,
    std=HALF,
    width=WIDTH,
    usual_side=299,
)
def core() -> nn.Module:
    """Return the network, with random weights."""
    return Xception()
