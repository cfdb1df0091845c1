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
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from trueface.models.architectures.patch import Last, Reached
from trueface.models.architectures.slim18 import WIDTHS, Slim18
from trueface.models.head import layers_of_maps
from trueface.models.registry import BuiltNetwork, register_family, register_model
from trueface.runtime.errors import JobError

EPSILON = 1e-5  # added to the variance
DECODER_DROPOUT = 0.3  # of the input of each stage
STAGES = 3  # each doubles the resolution and halves the channels
DROPOUT = 0.2  # of output logits, as published, not of the input of the last layer
# of forgeries and of groups; a training uses the first logits, as many as there are
MOST_CLASSES = 64
RESIDUAL_SPREAD = 12 / 255  # of a photograph's high-pass residual, where pixels are in -1 … 1
PUBLISHED_WIDTH = 512
NARROW_WIDTH = 128
HALF = (0.5, 0.5, 0.5)


def adain(maps: Tensor, others: Tensor) -> Tensor:
    """Return `maps` with the mean and standard deviation of `others`, channel by channel.

    AdaIN of X. Huang and S. Belongie, ICCV 2017, arXiv 1703.06868, equation 8. The variance is over
    all positions and divided by their number, so that maps of one position have one, too. Between
    maps of the same size that gives the same as dividing by one less, except for epsilon.

    Only the pattern of `maps` without its mean remains in each channel. The mean over positions is
    that of `others` alone.

    Args:
        maps: (B, C, H, W).
        others: (B, C, h, w).

    Returns:
        (B, C, H, W) float32.
    """
    mean, deviation = _statistics(maps)
    wanted_mean, wanted_deviation = _statistics(others)
    return (maps.float() - mean) / deviation * wanted_deviation + wanted_mean


def _statistics(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each channel, (B, C, 1, 1) float32 each."""
    variance = maps.float().var((2, 3), correction=0, keepdim=True)
    return maps.float().mean((2, 3), keepdim=True), (variance + EPSILON).sqrt()


class Decoder(nn.Module):
    """A decoder whose content takes over the statistics of the forgery at three resolutions.

    The conditional U-Net of L. Lin et al., CVPR 2024, arXiv 2402.17229, after their program:
    content and forgery go through the same convolutions, 512 → 256 → 128 → 64 at a width of 512. It
    ends by enlarging to the size of the images, which at a stride of 32 is the published factor of
    4.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        widths = [width >> stage for stage in range(STAGES + 1)]
        self.stages = nn.ModuleList(map(_convolutions, widths[:-1], widths[1:]))
        self.dropout = nn.Dropout(DECODER_DROPOUT)
        self.colours = nn.Conv2d(widths[-1], 3, 1)

    def forward(self, forgery: Tensor, content: Tensor, size: tuple[int, int]) -> Tensor:
        """Return images (B, 3, *size) in -1 … 1.

        Args:
            forgery: (B, width, h, w), which says how; the condition.
            content: (B, width, h, w), which says what.
            size: height and width of the images, in pixels.
        """
        x, condition = content, forgery
        for number, stage in enumerate(self.stages):
            x = stage(self.dropout(_doubled(adain(x, condition))))
            if number < STAGES - 1:  # nothing takes the condition after the last
                condition = stage(self.dropout(_doubled(condition)))
        return _enlarged(self.colours(x), size).tanh()


def _convolutions(width_in: int, width: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(width_in, width, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, width, 3, padding=1),
        nn.ReLU(inplace=True),
    )


def _doubled(maps: Tensor) -> Tensor:
    height, width = maps.shape[-2:]
    return _enlarged(maps, (2 * height, 2 * width))


def _enlarged(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return functional.interpolate(maps, size, mode="bilinear", align_corners=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class FairnetOutputs:
    """The outputs of the network for images in training. Logits are after dropout."""

    logit: Tensor  # (B, 1), the detector's, without dropout
    fused: Tensor  # (B, 2) logits of real and fake
    shared: Tensor  # (B, 2) logits of the shared forgery maps
    specific: Tensor  # (B, 64) logits of forgeries, 0 real
    demographic: Tensor  # (B, 64) logits of groups
    shared_features: Tensor  # (B, width / 2), mean over positions
    specific_features: Tensor  # (B, width / 2) features of the specific maps
    forgery: Tensor  # (B, width, h, w), specific and shared
    content: Tensor  # (B, width, h, w)
    person: Tensor  # (B, width, h, w), of the demographic encoder

    def content_styled_features(self, chosen: Tensor) -> Tensor:
        """Return the demographic maps of some images with their content's statistics."""
        return adain(self.person[chosen], self.content[chosen])


class DisentanglingNetwork(nn.Module):
    """Three encoders, the heads of their maps, the fusion, and a decoder.

    The two logits of the fused head come from `fc` and `real`: `real` gives z0, and `fc` gives z1 -
    z0. The last layer of the detector therefore has one logit, as that of every other.

    Args:
        forgery: encoder of images (B, 3, H, W) to maps (B, width, h, w), like the two others.
        content: encoder of the content.
        demographic: encoder of the group.
        width: channels of their maps, a multiple of 8. Published: 512.
    """

    def __init__(
        self, forgery: nn.Module, content: nn.Module, demographic: nn.Module, *, width: int
    ) -> None:
        super().__init__()
        half = width // 2
        self.forgery_encoder, self.content_encoder = forgery, content
        self.demographic_encoder = demographic
        self.specific_block, self.shared_block = _stack(width, half), _stack(width, half)
        self.demographic_block = _stack(width, half)
        self.specific_head = _head(half, width, MOST_CLASSES)
        self.shared_head = _head(half, width, 2)
        self.demographic_head = _head(half, width, MOST_CLASSES)
        self.decoder = Decoder(width)
        self.fused_layer = nn.Sequential(nn.Linear(half, width), nn.LeakyReLU(inplace=True))
        self.dropout = nn.Dropout(DROPOUT)
        self.real = nn.Linear(width, 1)
        self.fc = nn.Linear(width, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (B, 1) of images (B, 3, H, W): z1 - z0 of the fused head."""
        shared = self.shared_block(self.forgery_encoder(images))
        demographic = self.demographic_block(self.demographic_encoder(images))
        return self.fc(self._fused(demographic, shared))  # type: ignore[no-any-return]  # torch

    def forward_parts(self, images: Tensor) -> FairnetOutputs:
        """Return all that the losses of a training need of images (B, 3, H, W), normalised."""
        forgery, content = self.forgery_encoder(images), self.content_encoder(images)
        person = self.demographic_encoder(images)
        specific, shared = self.specific_block(forgery), self.shared_block(forgery)
        demographic = self.demographic_block(person)
        fused = self._fused(demographic, shared)  # (B, width)
        logit, real = self.fc(fused), self.real(fused)
        features = shared.mean((2, 3)), specific.mean((2, 3))
        return FairnetOutputs(
            logit=logit,
            fused=self.dropout(torch.cat([real, real + logit], 1)),
            shared=self.dropout(self.shared_head(features[0])),
            specific=self.dropout(self.specific_head(features[1])),
            demographic=self.dropout(self.demographic_head(demographic.mean((2, 3)))),
            shared_features=features[0],
            specific_features=features[1],
            forgery=torch.cat([specific, shared], 1),
            content=content,
            person=person,
        )

    def _fused(self, demographic: Tensor, shared: Tensor) -> Tensor:
        maps = adain(demographic, shared)  # (B, width / 2, h, w)
        return self.fused_layer(maps.mean((2, 3)))  # type: ignore[no-any-return]  # torch


def _stack(width: int, half: int) -> nn.Module:
    """Return three convolutions of one position: maps of half as many channels."""
    return nn.Sequential(
        nn.Conv2d(width, half, 1),
        nn.LeakyReLU(inplace=True),
        nn.Conv2d(half, half, 1),
        nn.LeakyReLU(inplace=True),
        nn.Conv2d(half, half, 1),
    )


def _head(features: int, hidden: int, classes: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(features, hidden), nn.LeakyReLU(inplace=True), nn.Linear(hidden, classes)
    )


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
    """A network up to its last maps. Later layers are not computed."""

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
    """Return a random encoder for CPUs to `width` channels, of the residual if `residual`."""
    return _widened(SlimEncoder(residual=residual), WIDTHS[-1], width)


def encoders_of(inner: BuiltNetwork, width: int, count: int) -> list[nn.Module]:
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
            f"model {name} has no feature maps at its end, but fairnet consists of three encoders "
            "to feature maps. Choose a convolutional network, such as timm/legacy_xception or "
            "baseline18."
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
def fairnet_of(inner: BuiltNetwork) -> nn.Module:
    """Return the network whose three encoders start from the weights of another one.

    Raises:
        JobError: that one has no maps at its end.
    """
    forgery, content, demographic = encoders_of(inner, PUBLISHED_WIDTH, count=3)
    return DisentanglingNetwork(forgery, content, demographic, width=PUBLISHED_WIDTH)
