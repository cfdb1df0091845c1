"""The disentangling network that shall be fair to all groups: `fairnet`, `fairnet/NETWORK`.

The encoders of `fairnet` are narrow ones for CPUs, a quarter as wide as published: the forgery encoder
sees what a mean over neighbours leaves, as `slim18` does, the two others the image. Those of
`fairnet/NETWORK` are three copies of a network with its weights, and all else has the published width
of 512: `fairnet/timm/legacy_xception` is the published one. The objective `fairnet` is its training.
"""

from torch import nn

from trueface.models.architectures.encoders import encoders_of, slim_encoder
from trueface.models.disentangling.network import DisentanglingNetwork
from trueface.models.registry import Made, register_family, register_model

PUBLISHED_WIDTH = 512
NARROW_WIDTH = 128
HALF = (0.5, 0.5, 0.5)


@register_model(
    "fairnet",
    summary="disentangling network of three narrow encoders, for CPUs",
    mean=HALF,
    std=HALF,
    width=NARROW_WIDTH,
)
def fairnet() -> nn.Module:
    """Return the network for CPUs, with random weights."""
    forgery, content, demographic = (
        slim_encoder(NARROW_WIDTH, residual=residual) for residual in (True, False, False)
    )
    return DisentanglingNetwork(forgery, content, demographic, width=NARROW_WIDTH)


@register_family(
    "fairnet",
    summary="disentangling network of three encoders",
    widths={
        "timm/legacy_xception": PUBLISHED_WIDTH,
        "timm/xception41": PUBLISHED_WIDTH,
        "baseline": PUBLISHED_WIDTH,
        "baseline18": PUBLISHED_WIDTH,
        "slim18": PUBLISHED_WIDTH,
    },
)
def fairnet_of(inner: Made) -> nn.Module:
    """Return the network whose three encoders start from the weights of another one.

    Raises:
        JobError: that one has no maps at its end.
    """
    forgery, content, demographic = encoders_of(inner, PUBLISHED_WIDTH, count=3)
    return DisentanglingNetwork(forgery, content, demographic, width=PUBLISHED_WIDTH)
