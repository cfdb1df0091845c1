"""The networks inside the detectors: bodies that turn images into features, and the last layer.

Every network is called with normalised images and returns logits; its last layer is `fc`, a `Head`,
and all that lies before it is its body. Parameters have torchvision's names.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models.resnet import BasicBlock, ResNet

SLIM_WIDTHS = (16, 32, 64, 128)


class Head(nn.Linear):
    """The last layer: dropout (in training only), then one logit."""

    def __init__(self, features: int, dropout: float) -> None:
        super().__init__(features, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # nn.Linear's own name
        """Return the logits (B, 1) of features (B, F)."""
        return super().forward(self.dropout(input))


class Slim18(nn.Module):
    """A ResNet-18 of widths 16 to 128 on what is left of an image without its 3-by-3 mean.

    Generators leave their traces in the residual; scenes, most of which a mean removes, would
    have to be learned away first (on plain input this network hardly learns in 20 epochs).
    Sources: blocks from K. He et al., arXiv 1512.03385, section 4.2; a fixed high-pass filter in
    front of a learner is the way of steganalysis, J. Fridrich and J. Kodovský, "Rich models for
    steganalysis of digital images", IEEE TIFS 7(3), 2012; here one plain filter stands for many.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, SLIM_WIDTHS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(SLIM_WIDTHS[0])
        self.layer1 = _stage(SLIM_WIDTHS[0], SLIM_WIDTHS[0], stride=1)
        self.layer2 = _stage(SLIM_WIDTHS[0], SLIM_WIDTHS[1], stride=2)
        self.layer3 = _stage(SLIM_WIDTHS[1], SLIM_WIDTHS[2], stride=2)
        self.layer4 = _stage(SLIM_WIDTHS[2], SLIM_WIDTHS[3], stride=2)
        self.fc = nn.Linear(SLIM_WIDTHS[3], 1)

    def body(self, images: Tensor) -> Tensor:
        """Return the features (B, 128) of images (B, 3, H, W)."""
        mean = functional.avg_pool2d(images, 3, stride=1, padding=1, count_include_pad=False)
        x = functional.relu(self.bn1(self.conv1(images - mean)))  # (B, 16, H, W)
        x = functional.max_pool2d(x, 3, stride=2, padding=1)  # (B, 16, H/2, W/2)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))  # (B, 128, H/16, W/16)
        return x.mean((2, 3))  # type: ignore[no-any-return]  # torch: modules return Any

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (B, 1) of images (B, 3, H, W)."""
        return self.fc(self.body(images))  # type: ignore[no-any-return]  # torch: as above


class Pooled(nn.Module):
    """Convolutions that torchvision keeps under `features`, their mean over the image, `fc`.

    SqueezeNet's own classifier is one more convolution; here its place is the last layer's.
    """

    def __init__(self, features: nn.Module, width: int) -> None:
        super().__init__()
        self.features = features
        self.fc = nn.Linear(width, 1)

    def body(self, images: Tensor) -> Tensor:
        """Return the features (B, width) of images (B, 3, H, W)."""
        x: Tensor = self.features(images)  # (B, width, h, w)
        return x.mean((2, 3))

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (B, 1) of images (B, 3, H, W)."""
        return self.fc(self.body(images))  # type: ignore[no-any-return]  # torch: Any


def body(network: nn.Module, images: Tensor) -> Tensor:
    """Return the features (B, F) of normalised images (B, 3, H, W): what `network.fc` gets."""
    if isinstance(network, Slim18 | Pooled):
        return network.body(images)
    if not isinstance(network, ResNet):
        raise TypeError(f"no detector has a {type(network).__name__} in it")
    for name, layer in network.named_children():
        if name != "fc":
            images = layer(images)
    return images.flatten(1)


def last(network: nn.Module) -> nn.Linear:
    """Return the last layer, which gets the features of an image."""
    layer = network.fc
    if not isinstance(layer, nn.Linear):
        raise TypeError(f"the last layer of a detector is linear, not {type(layer).__name__}")
    return layer


def folded(network: nn.Module) -> nn.Module:
    """Return a copy for inference alone, in which batch norms are part of their convolutions.

    A batch norm belongs to the convolution that was registered before it, as in every network
    here. Statistics are those of now. The copy agrees with the original to float tolerance.
    """
    twin = copy.deepcopy(network).eval().requires_grad_(requires_grad=False)
    with torch.no_grad():
        _fold(twin)
    return twin


def _fold(module: nn.Module) -> None:
    before: tuple[str, nn.Module] | None = None
    for name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm2d) and before and isinstance(before[1], nn.Conv2d):
            setattr(module, before[0], fuse_conv_bn_eval(before[1], child))
            setattr(module, name, nn.Identity())
        else:
            _fold(child)
        before = (name, child)


def _stage(width_in: int, width: int, *, stride: int) -> nn.Sequential:
    shortcut = None
    if stride != 1 or width_in != width:
        shortcut = nn.Sequential(
            nn.Conv2d(width_in, width, 1, stride, bias=False), nn.BatchNorm2d(width)
        )
    blocks = BasicBlock(width_in, width, stride, shortcut), BasicBlock(width, width)
    for block in blocks:
        # each block starts as the identity: P. Goyal et al., arXiv 1706.02677, section 5.1
        nn.init.zeros_(block.bn2.weight)
    return nn.Sequential(*blocks)
