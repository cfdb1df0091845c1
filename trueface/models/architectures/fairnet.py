"""The disentangling network that shall be fair to all groups: `fairnet`, `fairnet/NETWORK`.

The encoders of `fairnet` are narrow ones for CPUs, a quarter as wide as published: the forgery encoder
sees what a mean over neighbours leaves, as `slim18` does, the two others the image. Those of
`fairnet/NETWORK` are three copies of a network with its weights, and all else has the published width
of 512: `fairnet/timm/legacy_xception` is the published one. The objective `fairnet` is its training.
"""

import copy

from torch import Tensor, nn
from torch.nn import functional

from trueface.models.architectures.patch import Last, Reached
from trueface.models.architectures.slim18 import WIDTHS, Slim18
from trueface.models.disentangling import DisentanglingNetwork
from trueface.models.head import layers_of_maps
from trueface.models.registry import Made, register_family, register_model
from trueface.runtime.errors import JobError

RESIDUAL_SPREAD = 12 / 255  # of a photograph's high-pass residual, where pixels are in -1 … 1
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
        if self.residual:
            mean = functional.avg_pool2d(images, 3, stride=1, padding=1, count_include_pad=False)
            images = (images - mean) / RESIDUAL_SPREAD
        x = functional.relu(self.bn1(self.conv1(images)))  # (B, 16, H, W)
        x = functional.max_pool2d(x, 3, stride=2, padding=1)
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))  # type: ignore[no-any-return]


class MapsOf(nn.Module):
    """A network up to its last maps; what comes after is not computed."""

    def __init__(self, body: nn.Module, last: str) -> None:
        super().__init__()
        self.body = body
        body.set_submodule(last, Last(body.get_submodule(last)))

    def forward(self, images: Tensor) -> Tensor:
        """Return maps (B, C, h, w) of images (B, 3, H, W)."""
        try:
            self.body(images)
        except Reached as reached:
            return reached.maps
        raise AssertionError


def slim_encoder(width: int, *, residual: bool) -> nn.Module:
    """Return an encoder for CPUs to `width` channels, random; `residual`: of what a mean leaves."""
    return _widened(SlimEncoder(residual=residual), WIDTHS[-1], width)


def encoders_of(inner: Made, width: int, count: int) -> list[nn.Module]:
    """Return `count` encoders to `width` channels that all start from the weights of one network.

    Its last maps of more than one position are taken, which it would average next.

    Raises:
        JobError: the network has no such maps.
    """
    name, body = inner.spec.name, inner.network
    layers = layers_of_maps(body, name, inner.spec.input_size)
    last = next((layer for layer in reversed(layers) if layer.side > 1), None)
    # where maps are of another form from there on, one convolution is all that is left
    if last is None or isinstance(body.get_submodule(last.name), nn.Conv2d):
        raise JobError(
            f"model {name} has no maps at its end, and fairnet is made of three encoders to maps; "
            "take a network of convolutions, as timm/legacy_xception or baseline18"
        )
    body.set_submodule(inner.spec.head, nn.Identity())  # it would be in every checkpoint, unused
    encoder = MapsOf(body, last.name)
    return [_widened(copy.deepcopy(encoder), last.channels, width) for _ in range(count)]


def _widened(body: nn.Module, channels: int, width: int) -> nn.Module:
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
def fairnet_of(inner: Made) -> nn.Module:
    """Return the network whose three encoders start from the weights of another one.

    Raises:
        JobError: that one has no maps at its end.
    """
    forgery, content, demographic = encoders_of(inner, PUBLISHED_WIDTH, count=3)
    return DisentanglingNetwork(forgery, content, demographic, width=PUBLISHED_WIDTH)
