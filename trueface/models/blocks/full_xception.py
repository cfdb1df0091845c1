"""The whole Xception: F. Chollet, CVPR 2017, arXiv 1610.02357.

Its parameters have the names of the published PyTorch weights, which timm calls `legacy_xception`.
`blocks.xception` has only the beginning, under names of its own.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise

from torch import Tensor, nn

FEATURES = 2048  # channels of the last maps
MIDDLE = 728  # channels of the maps of block 3 to 11
ENTRY = (64, 128, 256, MIDDLE)  # channels before, between and after the first three blocks
BLOCKS = 12
LAST_LAYERS = ("fc", "last_linear")  # names of the last layer in files


class SeparableConvolution(nn.Module):
    """A 3 × 3 convolution of each channel, then one of 1 × 1 over all channels."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width_in, 3, padding=1, groups=width_in, bias=False)
        self.pointwise = nn.Conv2d(width_in, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, width, H, W) of (B, width_in, H, W)."""
        return self.pointwise(self.conv1(x))  # type: ignore[no-any-return]  # torch


class SeparableBlock(nn.Module):
    """Separable convolutions, each after a ReLU, with a shortcut around all of them.

    Args:
        widths: channels before, between and after the convolutions.
        stride: of a pooling at the end, and of the shortcut. 1: no pooling.
        first_relu: whether a ReLU is before the first convolution, too.
    """

    def __init__(self, *widths: int, stride: int = 1, first_relu: bool = True) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width_in, width in pairwise(widths):
            # the first one would change the input of the shortcut
            layers.append(nn.ReLU(inplace=bool(layers)))
            layers += [SeparableConvolution(width_in, width), nn.BatchNorm2d(width)]
        if stride > 1:
            layers.append(nn.MaxPool2d(3, stride=stride, padding=1))
        self.rep = nn.Sequential(*layers[0 if first_relu else 1 :])
        self.skip: nn.Module = nn.Identity()
        self.skipbn: nn.Module = nn.Identity()
        if stride > 1 or widths[0] != widths[-1]:
            self.skip = nn.Conv2d(widths[0], widths[-1], 1, stride=stride, bias=False)
            self.skipbn = nn.BatchNorm2d(widths[-1])

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, widths[-1], H / stride, W / stride) of (B, widths[0], H, W)."""
        return self.rep(x).add_(self.skipbn(self.skip(x)))  # type: ignore[no-any-return]  # torch


class XceptionMaps(nn.Module):
    """Xception without its last layer.

    Args:
        channels: of the images.
        with_relu: whether a ReLU is after the second, third and fourth batch norm, as published. A list
            of its modules, taken for the network, lacks these three.
    """

    def __init__(self, channels: int = 3, *, with_relu: bool = True) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 32, 3, stride=2, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        self.conv2 = nn.Conv2d(32, ENTRY[0], 3, bias=False)
        self.bn2 = nn.BatchNorm2d(ENTRY[0])
        self.relu = nn.ReLU(inplace=True)
        self.act: nn.Module = self.relu if with_relu else nn.Identity()
        for number, (before, after) in enumerate(pairwise(ENTRY), start=1):
            block = SeparableBlock(before, after, after, stride=2, first_relu=number > 1)
            self.add_module(f"block{number}", block)
        for number in range(len(ENTRY), BLOCKS):
            self.add_module(f"block{number}", SeparableBlock(*[MIDDLE] * 4))
        self.block12 = SeparableBlock(MIDDLE, MIDDLE, 1024, stride=2)
        self.conv3 = SeparableConvolution(1024, 1536)
        self.bn3 = nn.BatchNorm2d(1536)
        self.conv4 = SeparableConvolution(1536, FEATURES)
        self.bn4 = nn.BatchNorm2d(FEATURES)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def first_maps(self, images: Tensor) -> Tensor:
        """Return the maps (B, 64, H/2 - 3, W/2 - 3) before the first block, H and W rounded up."""
        x = self.relu(self.bn1(self.conv1(images)))
        return self.act(self.bn2(self.conv2(x)))  # type: ignore[no-any-return]  # torch

    def through_blocks(self, x: Tensor, first: int, last: int) -> Tensor:
        """Return the maps of block `last` for the input of block `first`, counted from 1."""
        for number in range(first, last + 1):
            x = self.get_submodule(f"block{number}")(x)
        return x

    def last_maps(self, x: Tensor) -> Tensor:
        """Return maps (B, 2048, h, w) of those of the last block."""
        x = self.act(self.bn3(self.conv3(x)))
        return self.act(self.bn4(self.conv4(x)))  # type: ignore[no-any-return]  # torch

    def forward_maps(self, images: Tensor) -> Tensor:
        """Return maps (B, 2048, H/32, W/32) of images (B, channels, H, W)."""
        return self.last_maps(self.through_blocks(self.first_maps(images), 1, BLOCKS))


def insert_xception(
    network: nn.Module, part: str, state: Mapping[str, Tensor]
) -> dict[str, Tensor] | None:
    """Return the state of `network` with the tensors of an Xception's file in its part of that name.

    Args:
        network: with an `XceptionMaps`.
        part: name of this module in the network.
        state: tensors of a file. Their last layer is left out.

    Returns:
        None if the file is not one of an Xception alone.
    """
    own = set(_without_last_layer(state))
    names = set(_without_last_layer(network.get_submodule(part).state_dict()))
    counters = {name for name in names if name.endswith("num_batches_tracked")}
    if not own or own | counters != names:
        return None
    return {**network.state_dict(), **{f"{part}.{name}": state[name] for name in own}}


def _without_last_layer(names: Iterable[str]) -> Iterator[str]:
    return (name for name in names if name.partition(".")[0] not in LAST_LAYERS)


class Xception(XceptionMaps):
    """Xception with one logit."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__(channels)
        self.fc = nn.Linear(FEATURES, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (B, 1) of images (B, channels, H, W)."""
        return self.fc(self.forward_maps(images).mean((2, 3)))  # type: ignore[no-any-return]  # torch
