"""LRNet: Z. Sun et al., "Improving the efficiency and robustness of deepfakes detection …", CVPR 2021."""

from torch import nn

from trueface.models.blocks.lrnet import LrNet
from trueface.models.registry import register_model

BLOCK = 30  # frames of a clip, in the authors' training and demo


@register_model(
    "lrnet",
    summary="moving landmarks of a face, LRNet",
    head=None,
    inputs="landmarks",
    frames=BLOCK,
    most_frames=BLOCK,
    differentiable=False,
    files=("points", "differences"),
)
def lrnet() -> nn.Module:
    """Return the network, with random weights."""
    return LrNet()
