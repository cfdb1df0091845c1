"""AltFreezing: Z. Wang et al., "AltFreezing for more general video face forgery detection", CVPR 2023, arXiv 2307.08317.

An I3D of clips of 32 frames, published for faces of 224 by 224 pixels. Names and results are those of the published
code (github.com/ZhendongWang6/AltFreezing, MIT). The authors train it with the objective `altfreezing`.
"""

from torch import Tensor, nn

from trueface.models.blocks.i3d import I3d, I3dDetector
from trueface.models.registry import register_model

FRAMES = 32
SIDE = 224  # pixels
WIDTH = 2048  # channels of the last stage
DROPOUT = 0.5


class MeanHead(nn.Module):
    """A last layer on the mean over all frames and positions."""

    def __init__(self) -> None:
        super().__init__()
        self.projection = nn.Linear(WIDTH, 1)

    def forward(self, maps: Tensor) -> Tensor:
        """Return the logits (B, 1) of maps (B, 2048, T, H, W)."""
        return self.projection(maps.mean((2, 3, 4)))  # type: ignore[no-any-return]  # torch


@register_model(
    "altfreezing",
    summary="I3D of clips of 32 frames, AltFreezing",
    head="resnet.head.projection",
    head_dropout=DROPOUT,
    width=WIDTH,
    frames=FRAMES,
    most_frames=FRAMES,
    usual_side=SIDE,
)
def altfreezing() -> nn.Module:
    """Return the network, with random weights."""
    return I3dDetector(I3d(MeanHead()))
