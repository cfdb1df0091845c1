"""Capsule-Forensics v2: H. Nguyen et al., "Use of a capsule network …", 2019, arXiv 1910.12467."""

from torch import nn

from trueface.models.blocks.capsule import Capsule
from trueface.models.registry import register_model


@register_model(
    "capsule",
    summary="capsules on the beginning of VGG-19, Capsule-Forensics v2",
    head=None,
    usual_side=300,
    own_draws=True,
    weights_url="https://download.pytorch.org/models/vgg19-dcbb9e9d.pth",
)
def capsule() -> nn.Module:
    """Return the network, with random weights."""
    return Capsule()
