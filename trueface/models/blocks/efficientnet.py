"""EfficientNet: M. Tan, Q. Le, ICML 2019, arXiv 1905.11946, with the names and padding of efficientnet_pytorch.

Padding belongs to the weights. TensorFlow pads for the size of the picture. efficientnet_pytorch pads for a
nominal side, that of its name, whatever the pictures are. Until version 0.6 each layer was padded as if its input
had that side. Since 0.7 the side is followed from layer to layer. At another side, or with another version, the
logits of the same weights differ by more than their spread.

Two libraries have files of the same tensors under different names: efficientnet_pytorch, whose names are those of
the parameters here, and timm (`tf_efficientnet_b4`). `efficientnet_names` renames the latter.
"""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

Version = Literal["0.6", "0.7"]  # version of efficientnet_pytorch
DROP_CONNECT = 0.2  # probability to drop the last block; it falls linearly to 0 at the first one
NORM_MOMENTUM, NORM_EPSILON = 0.01, 1e-3  # settings of batch norms, in torch's sense of momentum
WIDTH_STEP = 8  # widths are multiples of it
LEAST_RATIO = 0.9  # rounding a width must not make it smaller than that
STEM, HEAD = 32, 1280  # channels after the first and before the last layer, before scaling
REDUCTION = 4  # channels into a block per channel of its squeezed vector


class Variant(NamedTuple):
    """Scaling of a network."""

    width: float  # factor of all widths
    depth: float  # factor of the number of blocks
    side: int  # nominal side of its pictures, in pixels


class Stage(NamedTuple):
    """Blocks of one resolution, before scaling."""

    blocks: int
    kernel: int
    stride: int  # stride of the first block
    expansion: int  # factor between the channels into a block and those inside
    width: int


VARIANTS: Mapping[str, Variant] = {
    "b0": Variant(1.0, 1.0, 224),
    "b3": Variant(1.2, 1.4, 300),
    "b4": Variant(1.4, 1.8, 380),
}
STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


class EfficientNet(nn.Module):
    """A network up to its last maps, or up to one of its blocks, or with a last layer.

    Args:
        variant: a key of `VARIANTS`.
        side: nominal side of the padding, in pixels. None: that of the variant.
        version: version of efficientnet_pytorch whose padding is computed.
        logits: number of outputs of the last layer. 0: there is none.
        blocks: number of blocks. None: all, and the last convolution after them.
        drop_connect: probability to drop the last block of an image in training.
    """

    def __init__(
        self,
        variant: str,
        *,
        side: int | None = None,
        version: Version = "0.7",
        logits: int = 0,
        blocks: int | None = None,
        drop_connect: float = DROP_CONNECT,
    ) -> None:
        super().__init__()
        scale, self.variant = VARIANTS[variant], variant
        layers = _Padding(side or scale.side, version)
        width = _scaled_width(STEM, scale.width)
        self._conv_stem = PaddedConv2d(3, width, 3, stride=2, padding=layers.follow(3, 2))
        self._bn0 = _norm(width)
        self._blocks = nn.ModuleList()
        shapes = [*_block_shapes(scale)]
        for number, shape in enumerate(shapes[:blocks]):
            rate = drop_connect * number / len(shapes)
            self._blocks.append(MBConvBlock(width, shape, layers, rate))
            width = shape.width
        self.is_whole = blocks is None
        if self.is_whole:
            self._conv_head = nn.Conv2d(width, _scaled_width(HEAD, scale.width), 1, bias=False)
            width = self._conv_head.out_channels
            self._bn1 = _norm(width)
        self.width = width
        self._fc: nn.Linear | None = None
        if logits:
            self._fc = nn.Linear(width, logits)

    def forward(self, images: Tensor) -> Tensor:
        """Return the last maps (B, F, h, w) of images (B, 3, H, W), or logits if there is a last layer."""
        x = self.last_maps(self.run_blocks(self.stem(images)))
        if self._fc is None:
            return x
        return self._fc(x.mean((2, 3)))  # type: ignore[no-any-return]  # torch

    def stem(self, images: Tensor) -> Tensor:
        """Return the first maps, (B, C, ~H/2, ~W/2)."""
        return functional.silu(self._bn0(self._conv_stem(images)))

    def run_blocks(self, x: Tensor, first: int = 0, end: int | None = None) -> Tensor:
        """Return the maps after the blocks from number `first` to before number `end`."""
        for block in self._blocks[first:end]:
            x = block(x)
        return x

    def last_maps(self, x: Tensor) -> Tensor:
        """Return the maps of the last convolution for those of the last block."""
        return functional.silu(self._bn1(self._conv_head(x))) if self.is_whole else x


class BlockShape(NamedTuple):
    """Shape of a block, after scaling."""

    kernel: int
    stride: int
    expansion: int
    width: int


class MBConvBlock(nn.Module):
    """An inverted bottleneck with squeeze and excitation."""

    def __init__(self, width: int, shape: BlockShape, layers: "_Padding", rate: float) -> None:
        super().__init__()
        inner = width * shape.expansion
        self.expands = shape.expansion != 1
        if self.expands:
            self._expand_conv = nn.Conv2d(width, inner, 1, bias=False)
            self._bn0 = _norm(inner)
        self._depthwise_conv = PaddedConv2d(
            inner,
            inner,
            shape.kernel,
            stride=shape.stride,
            groups=inner,
            padding=layers.follow(shape.kernel, shape.stride),
        )
        self._bn1 = _norm(inner)
        squeezed = max(1, width // REDUCTION)
        self._se_reduce = nn.Conv2d(inner, squeezed, 1)
        self._se_expand = nn.Conv2d(squeezed, inner, 1)
        self._project_conv = nn.Conv2d(inner, shape.width, 1, bias=False)
        self._bn2 = _norm(shape.width)
        self.has_shortcut = shape.stride == 1 and width == shape.width
        self._drop = DropConnect(rate)

    def forward(self, images: Tensor) -> Tensor:
        """Return maps (B, width, h, w) of maps (B, C, H, W)."""
        x = images
        if self.expands:
            x = functional.silu(self._bn0(self._expand_conv(x)))
        x = functional.silu(self._bn1(self._depthwise_conv(x)))
        squeezed = self._se_reduce(functional.adaptive_avg_pool2d(x, 1))  # (B, C, 1, 1)
        x = x * torch.sigmoid(self._se_expand(functional.silu(squeezed)))
        x = self._bn2(self._project_conv(x))
        return self._drop(x) + images if self.has_shortcut else x  # type: ignore[no-any-return]  # torch


class DropConnect(nn.Module):
    """Set the maps of random images to 0, in training.

    Args:
        rate: probability of an image.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps (B, C, H, W), scaled so that their expected values remain."""
        if not self.training or not self.rate:
            return maps
        kept = torch.rand(len(maps), 1, 1, 1, dtype=maps.dtype, device=maps.device) >= self.rate
        return maps / (1 - self.rate) * kept

    def extra_repr(self) -> str:
        """Return what the tensors do not show."""
        return f"rate={self.rate:g}"


class PaddedConv2d(nn.Conv2d):
    """A convolution whose padding differs between the sides of the picture.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel: side of the kernel.
        stride: of the kernel.
        padding: pixels before the first and after the last row or column.
        groups: of channels.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        *,
        stride: int,
        padding: tuple[int, int],
        groups: int = 1,
    ) -> None:
        before, after = padding
        even = min(before, after)  # the convolution pads this much by itself, which is faster
        super().__init__(
            in_channels, out_channels, kernel, stride, padding=even, groups=groups, bias=False
        )
        self.added = (before - even, after - even)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # nn.Conv2d's own name
        """Return maps (B, out_channels, h, w) of maps (B, in_channels, H, W)."""
        padded = functional.pad(input, self.added * 2) if any(self.added) else input
        return super().forward(padded)

    def extra_repr(self) -> str:
        """Return what the tensors do not show."""
        own: str = super().extra_repr()  # type: ignore[no-untyped-call]  # torch
        return f"{own}, added={self.added}"


class _Padding:
    """The padding of layers in their order."""

    def __init__(self, side: int, version: Version) -> None:
        self._side, self._version = side, version

    def follow(self, kernel: int, stride: int) -> tuple[int, int]:
        """Return the pixels before and after the input of the next layer."""
        outputs = math.ceil(self._side / stride)
        total = max((outputs - 1) * stride + kernel - self._side, 0)
        if self._version == "0.7":
            self._side = outputs
        return total // 2, total - total // 2


def _block_shapes(scale: Variant) -> Iterator[BlockShape]:
    for stage in STAGES:
        for number in range(math.ceil(stage.blocks * scale.depth)):
            stride = 1 if number else stage.stride
            width = _scaled_width(stage.width, scale.width)
            yield BlockShape(stage.kernel, stride, stage.expansion, width)


def _scaled_width(width: int, factor: float) -> int:
    exact = width * factor
    rounded = max(WIDTH_STEP, int(exact + WIDTH_STEP / 2) // WIDTH_STEP * WIDTH_STEP)
    return rounded if rounded >= LEAST_RATIO * exact else rounded + WIDTH_STEP


def _norm(width: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(width, momentum=NORM_MOMENTUM, eps=NORM_EPSILON)


# --- names of timm

OF_TIMM = "conv_stem.weight"  # a name that only timm's files have
_BLOCK = re.compile(r"blocks\.(\d+)\.(\d+)\.(.+)")
_OUTER = {
    "conv_stem": "_conv_stem",
    "bn1": "_bn0",
    "conv_head": "_conv_head",
    "bn2": "_bn1",
    "classifier": "_fc",
}
_SQUEEZE = {"se.conv_reduce": "_se_reduce", "se.conv_expand": "_se_expand"}
# the first block does not expand, so that its layers have other numbers
_FIRST = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
_OTHERS = {
    "conv_pw": "_expand_conv",
    "bn1": "_bn0",
    "conv_dw": "_depthwise_conv",
    "bn2": "_bn1",
    "conv_pwl": "_project_conv",
    "bn3": "_bn2",
}


def efficientnet_names(state: Mapping[str, Tensor], variant: str) -> dict[str, Tensor]:
    """Return a state dict with the names of efficientnet_pytorch; one that has them stays as it is.

    Args:
        state: with the names of either library.
        variant: a key of `VARIANTS`.
    """
    if OF_TIMM not in state:
        return dict(state)
    depth = VARIANTS[variant].depth
    counts = [math.ceil(stage.blocks * depth) for stage in STAGES]
    starts = [sum(counts[:number]) for number in range(len(counts))]
    return {_file_name(name, starts): tensor for name, tensor in state.items()}


def _file_name(name: str, starts: list[int]) -> str:
    """Return the name of efficientnet_pytorch, or the same name for a tensor that is not of the network."""
    layer, _, tensor = name.rpartition(".")
    if layer in _OUTER:
        return f"{_OUTER[layer]}.{tensor}"
    found = _BLOCK.fullmatch(layer)
    if found is None or int(found[1]) >= len(starts):
        return name
    stage, block, inner = int(found[1]), int(found[2]), found[3]
    known = _SQUEEZE | (_OTHERS if stage else _FIRST)
    return f"_blocks.{starts[stage] + block}.{known[inner]}.{tensor}" if inner in known else name


# --- initial weights of networks that contain EfficientNets

_COUNTER = ".num_batches_tracked"
_STEM = "_conv_stem.weight"  # a name that every file of an EfficientNet has


def with_backbone(network: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """Return the state of a network whose EfficientNets start from a file of one; None if it is another file.

    The last layer of the file is left out. Layers that the file does not have keep their weights.

    Args:
        network: contains EfficientNets of one variant.
        state: the file, with the names of either library.
    """
    own = network.state_dict()
    for prefix, part in network.named_modules():
        if isinstance(part, EfficientNet):
            file = efficientnet_names(state, part.variant)
            if _STEM not in file:
                return None
            for name in part.state_dict():
                if name.startswith("_") and not name.endswith(_COUNTER):
                    del own[f"{prefix}.{name}"]  # a name that the file does not have is missing
            own |= {
                f"{prefix}.{name}": tensor
                for name, tensor in file.items()
                if not name.startswith("_fc.") and (part.is_whole or name in part.state_dict())
            }
    return own
