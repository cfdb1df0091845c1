"""The disentangling network for fairness between groups: `fairnet`, `fairnet/NETWORK`.

The encoders of `fairnet` are narrow ones for CPUs, with a quarter of the published width. The
forgery encoder gets the residual of a local mean, as `slim18` does, the two others the image. The
encoders of `fairnet/NETWORK` are three copies of a network with its weights, and everything else
has the published width of 512. `fairnet/timm/legacy_xception` is the published one. The objective
`fairnet` trains it.

It separates forgery features from content and from demographic features. L. Lin et al., "Preserving
fairness generalization in deepfake detection", CVPR 2024, arXiv 2402.17229, after their program
(MIT):

    images → forgery encoder     → specific maps (which forgery) and shared maps (whether forged)
           → content encoder     → content maps                              ┐ reconstruction
           → demographic encoder → demographic maps (which group), which also┘
    fused = shared statistics on the demographic maps → whether forged (the detector's output)

Three properties of that program matter for comparisons:

1. Its tests use the logit of class 1 alone as the score of "fake" and ignore the other. Here the
   detector's logit is the difference, so that its sigmoid is the softmax's probability. 2. Its
   flags for the shares of the bi-level loss are not used. The objective `fairnet` has them. 3. Its
   fused maps are averaged over positions before the first layer. After AdaIN that average is the
   one of the shared maps. The demographic maps therefore have no influence on the output, nor the
   fused loss on them. Here the network is as published.
"""

import copy

from torch import Tensor, nn

from trueface.models.blocks.disentangling import DisentanglingNetwork
from trueface.models.blocks.narrow_resnet import WIDTHS, Slim18, high_pass
from trueface.models.blocks.truncation import MapsOf
from trueface.models.head import layers_of_maps
from trueface.models.registry import BuiltNetwork, register_family, register_model
from trueface.runtime.errors import JobError

RESIDUAL_SPREAD = 12 / 255  # spread of a photo's high-pass residual, where pixels are in -1 … 1
PUBLISHED_WIDTH = 512
NARROW_WIDTH = 128
HALF = (0.5, 0.5, 0.5)


class SlimEncoder(Slim18):
    """The narrow ResNet-18 for CPUs up to its last maps, on images in -1 … 1 or on their residual."""

    def __init__(self, *, residual: bool) -> None:
        super().__init__()
        del self.fc
        self.residual = residual

    def forward(self, images: Tensor) -> Tensor:
        """Return maps (B, 128, H/16, W/16) of images (B, 3, H, W)."""
        return self.maps(high_pass(images) / RESIDUAL_SPREAD if self.residual else images)


def slim_encoder(width: int, *, residual: bool) -> nn.Module:
    """Return a random encoder for CPUs to `width` channels, of the residual if `residual`."""
    return _widen_body(SlimEncoder(residual=residual), WIDTHS[-1], width)


def encoders_of(inner: BuiltNetwork, width: int, count: int) -> list[nn.Module]:
    """Return `count` encoders to `width` channels that all start from the weights of one network.

    Its last maps of more than one position are taken, which it would average next.

    Raises:
        JobError: the network has no such maps.
    """
    name, body = inner.spec.name, inner.network
    layers = layers_of_maps(body, name, inner.spec.input_size)
    last = next((layer for layer in reversed(layers) if layer.side > 1), None)
    # if maps have another form from there on, only one convolution is left
    if last is None or isinstance(body.get_submodule(last.name), nn.Conv2d):
        raise JobError(
            f"model {name} has no feature maps at its end, but fairnet consists of three encoders "
            "to feature maps. Choose a convolutional network, such as timm/legacy_xception or "
            "baseline18."
        )
    body.set_submodule(inner.head, nn.Identity())  # it would be in every checkpoint, unused
    encoder = MapsOf(body, last.name)
    return [_widen_body(copy.deepcopy(encoder), last.channels, width) for _ in range(count)]


def _widen_body(body: nn.Module, channels: int, width: int) -> nn.Module:
    return nn.Sequential(
        body, nn.Conv2d(channels, width, 1), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
    )


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
def fairnet_of(inner: BuiltNetwork) -> nn.Module:
    """Return the network whose three encoders start from the weights of another one.

    Raises:
        JobError: that one has no maps at its end.
    """
    forgery, content, demographic = encoders_of(inner, PUBLISHED_WIDTH, count=3)
    return DisentanglingNetwork(forgery, content, demographic, width=PUBLISHED_WIDTH)
