"""A ResNet-18 an eighth as wide, on a high-pass residual: the detector for CPUs."""

from torch import nn

from trueface.models.blocks.narrow_resnet import Slim18
from trueface.models.registry import register_model

RESIDUAL_STD = 6 / 255  # six grey levels: about the spread of a photograph's high-pass residual


@register_model(
    "slim18",
    summary="narrow ResNet-18 on a high-pass residual, for CPUs",
    mean=(0.0, 0.0, 0.0),
    std=(RESIDUAL_STD, RESIDUAL_STD, RESIDUAL_STD),
    width=128,
)
def slim18() -> nn.Module:
    """Return a narrow ResNet-18."""
    return Slim18()
