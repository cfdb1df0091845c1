"""CADDM: S. Dong et al., "Implicit identity leakage", CVPR 2023. See `blocks.caddm`."""

from torch import nn

from trueface.models.blocks.caddm import Caddm
from trueface.models.registry import register_model

SIDE = 224  # pixels


@register_model(
    "caddm",
    summary="windows of swapped parts of a face on ResNet-34, CADDM",
    raw_pixels=True,
    input_size=SIDE,
    width=512,
    weights_url="https://download.pytorch.org/models/resnet34-b627a593.pth",
)
def caddm() -> nn.Module:
    """Return the network on ResNet-34, with random weights."""
    return Caddm()


@register_model(
    "caddm_b3",
    summary="CADDM on EfficientNet-B3",
    raw_pixels=True,
    input_size=SIDE,
    draws=True,
    width=1536,
)
def caddm_b3() -> nn.Module:
    """Return the network on EfficientNet-B3, with random weights."""
    return Caddm("b3")


@register_model(
    "caddm_b4",
    summary="CADDM on EfficientNet-B4",
    raw_pixels=True,
    input_size=SIDE,
    draws=True,
    width=1792,
)
def caddm_b4() -> nn.Module:
    """Return the network on EfficientNet-B4, with random weights."""
    return Caddm("b4")
