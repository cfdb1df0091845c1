"""Networks with K logits: torchvision's, each with first layers for small images or for large ones.

vgg16      K. Simonyan, A. Zisserman, arXiv 1409.1556, with batch norm
resnet18   K. He et al., arXiv 1512.03385; the small stem is that of its section 4.2: one
resnet50   convolution of 3x3 with stride 1, and no pooling
vit        A. Dosovitskiy et al., arXiv 2010.11929; small: the "tiny" of H. Touvron et al.,
           arXiv 2012.12877, on patches of 4 pixels; large: ViT-B/16
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torchvision.models import VisionTransformer, resnet18, resnet50, vgg16_bn, vit_b_16
from torchvision.models.resnet import ResNet

from trueface.models.registry import PATCH, Stem
from trueface.runtime.rng import derive

MEAN, STD = 0.5, 0.25  # of pixels in 0 … 1, about those of photographs; the same for every data set
VGG_WIDTH = 512  # of its last convolution
TINY = {"num_layers": 12, "num_heads": 3, "hidden_dim": 192, "mlp_dim": 768}  # arXiv 2012.12877


class Classifier(nn.Module):
    """A network with the preprocessing that belongs to it."""

    def __init__(self, network: nn.Module, *, channels_last: bool) -> None:
        super().__init__()
        self.network, self.channels_last = network, channels_last

    def forward(self, pixels: Tensor) -> Tensor:
        """Return K logits an image, (B, K).

        Args:
            pixels: (B, 3, S, S); uint8, or float in 0 … 1.
        """
        images = pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels
        form = torch.channels_last if self.channels_last else torch.contiguous_format
        logits: Tensor = self.network(((images - MEAN) / STD).contiguous(memory_format=form))
        return logits


class NetworkSettings(Protocol):
    """What decides the shape of a network, of a job's settings."""

    @property
    def model(self) -> str:
        """One of `models.registry.RECIPES`."""

    @property
    def stem(self) -> Stem:
        """The first layers."""

    @property
    def size(self) -> int:
        """Side of an image, in pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a network looks like."""

    model: str
    stem: Stem
    size: int  # pixels
    classes: int


def shape_of(settings: NetworkSettings, classes: int) -> Shape:
    """Return what the network of a training looks like."""
    return Shape(model=settings.model, stem=settings.stem, size=settings.size, classes=classes)


def build(shape: Shape, *, seed: int, channels_last: bool = True) -> Classifier:
    """Return an untrained network in evaluation mode; its weights follow from the seed."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(derive("weights", seed))
        network = _network(shape)
    if channels_last:
        network = network.to(memory_format=torch.channels_last)
    return Classifier(network, channels_last=channels_last).eval()


def _network(shape: Shape) -> nn.Module:
    small = shape.stem == "small"
    if shape.model == "vgg16":
        return _vgg(shape.classes, small=small)
    if shape.model == "vit":
        return _transformer(shape, small=small)
    make = {"resnet18": resnet18, "resnet50": resnet50}[shape.model]
    return _resnet(make(num_classes=shape.classes), small=small)


def _vgg(classes: int, *, small: bool) -> nn.Module:
    network = vgg16_bn(num_classes=classes)
    if small:
        network.avgpool = nn.AdaptiveAvgPool2d(1)
        network.classifier = nn.Sequential(nn.Linear(VGG_WIDTH, classes))
    return network  # type: ignore[no-any-return]  # torchvision is untyped


def _transformer(shape: Shape, *, small: bool) -> nn.Module:
    if not small:
        return vit_b_16(image_size=shape.size, num_classes=shape.classes)  # type: ignore[no-any-return]  # torchvision is untyped
    return VisionTransformer(  # type: ignore[no-any-return]  # torchvision is untyped
        image_size=shape.size, patch_size=PATCH["small"], num_classes=shape.classes, **TINY
    )


def _resnet(network: ResNet, *, small: bool) -> nn.Module:
    if small:
        first = nn.Conv2d(3, network.conv1.out_channels, 3, stride=1, padding=1, bias=False)
        nn.init.kaiming_normal_(first.weight, mode="fan_out", nonlinearity="relu")
        network.conv1, network.maxpool = first, nn.Identity()
    return network  # type: ignore[no-any-return]  # torchvision is untyped
