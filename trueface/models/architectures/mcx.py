"""MCX-API: Y. Xu et al., "Learning pairwise interaction for generalizable DeepFake detection", WACVW 2023."""

from torch import nn

from trueface.models.blocks.mcx import HSV, RGB, YCBCR, Mcx
from trueface.models.registry import register_model


@register_model("mcx", summary="pairs of images on Xception, MCX-API", head=None, usual_side=448)
def mcx() -> nn.Module:
    """Return the network of colours, with random weights."""
    return Mcx()


@register_model(
    "mcx_hsv",
    summary="pairs of images in RGB and HSV, MCX-API",
    head=None,
    usual_side=448,
    raw_pixels=True,
)
def mcx_hsv() -> nn.Module:
    """Return the network of colours and HSV, with random weights."""
    return Mcx((RGB, HSV))


@register_model(
    "mcx_ycbcr",
    summary="pairs of images in RGB and YCbCr, MCX-API",
    head=None,
    usual_side=448,
    raw_pixels=True,
)
def mcx_ycbcr() -> nn.Module:
    """Return the network of colours and YCbCr, with random weights."""
    return Mcx((RGB, YCBCR))


@register_model(
    "mcx_hsv_ycbcr",
    summary="pairs of images in RGB, HSV and YCbCr, MCX-API",
    head=None,
    usual_side=448,
    raw_pixels=True,
)
def mcx_hsv_ycbcr() -> nn.Module:
    """Return the network of colours, HSV and YCbCr, with random weights."""
    return Mcx((RGB, HSV, YCBCR))
