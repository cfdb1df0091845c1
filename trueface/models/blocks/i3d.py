"""I3D: a ResNet-50 for clips. J. Carreira, A. Zisserman, CVPR 2017, arXiv 1705.07750.

Blocks are those of X. Wang et al., "Non-local neural networks", CVPR 2018, arXiv 1711.07971, section 5, without the
non-local ones. The first layer of a block looks at 3 frames in some blocks and at 1 frame in others. All layers keep
the number of frames, but after the second stage neighbouring frames are joined by their maximum.

With `temporal`, kernels have a width and height of 1, so that they look at single positions. A stride in space becomes
a maximum over 2 by 2 positions after the batch norm: Y. Zheng et al., ICCV 2021, arXiv 2108.06693, section 3.1.

Names are those of PySlowFast, which both detectors here use (github.com/facebookresearch/SlowFast, Apache-2.0).
"""

from collections.abc import Sequence

from torch import Tensor, nn

STEM, STEM_FRAMES, STEM_SIDE = 64, 5, 7  # channels and kernel of the first layer
EXPANSION = 4  # width of the outputs of a block, compared with its inner width
# frames of the kernel of the first layer, for each block of the stages s2 to s5
STAGES: Sequence[Sequence[int]] = ((3, 3, 3), (3, 1, 3, 1), (3, 1, 3, 1, 3, 1), (1, 3, 1))


class Stem(nn.Module):
    """The first layer, which divides width and height by 4."""

    def __init__(self, *, temporal: bool) -> None:
        super().__init__()
        self.conv, self.bn = _layer(
            3, STEM, frames=STEM_FRAMES, side=STEM_SIDE, stride=2, temporal=temporal
        )
        self.relu = nn.ReLU(inplace=True)
        self.pool_layer = nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))

    def forward(self, clips: Tensor) -> Tensor:
        """Return (B, 64, T, H/4, W/4) of clips (B, 3, T, H, W)."""
        return self.pool_layer(self.relu(self.bn(self.conv(clips))))  # type: ignore[no-any-return]  # torch


class Bottleneck(nn.Module):
    """Three layers: over frames, over positions, over channels."""

    def __init__(
        self, width_in: int, width: int, *, frames: int, stride: int, temporal: bool
    ) -> None:
        super().__init__()
        self.a, self.a_bn = _layer(width_in, width, frames=frames)
        self.a_relu = nn.ReLU(inplace=True)
        self.b, self.b_bn = _layer(width, width, side=3, stride=stride, temporal=temporal)
        self.b_relu = nn.ReLU(inplace=True)
        self.c, self.c_bn = _layer(width, EXPANSION * width)

    def forward(self, maps: Tensor) -> Tensor:
        """Return (B, 4 width, T, H/stride, W/stride) of maps (B, width_in, T, H, W)."""
        maps = self.a_relu(self.a_bn(self.a(maps)))
        maps = self.b_relu(self.b_bn(self.b(maps)))
        return self.c_bn(self.c(maps))  # type: ignore[no-any-return]  # torch: modules return Any


class Block(nn.Module):
    """A bottleneck and a shortcut, which is a layer if the shape of the maps changes."""

    def __init__(
        self, width_in: int, width: int, *, frames: int, stride: int, temporal: bool
    ) -> None:
        super().__init__()
        self.has_layer = width_in != EXPANSION * width or stride > 1
        if self.has_layer:
            self.branch1, self.branch1_bn = _layer(
                width_in, EXPANSION * width, stride=stride, temporal=temporal
            )
        self.branch2 = Bottleneck(width_in, width, frames=frames, stride=stride, temporal=temporal)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, maps: Tensor) -> Tensor:
        """Return (B, 4 width, T, H/stride, W/stride) of maps (B, width_in, T, H, W)."""
        shortcut = self.branch1_bn(self.branch1(maps)) if self.has_layer else maps
        return self.relu(shortcut + self.branch2(maps))  # type: ignore[no-any-return]  # torch


class I3d(nn.Module):
    """The stages of I3D, and a head of a detector, as `resnet` of the authors' files.

    Args:
        head: from maps (B, C, T/2, H/R, W/R) to logits (B, 1).
        stages: number of stages after the first layer. With 4, C is 2048 and R is 32; with 3, half of both.
        temporal: whether kernels look at single positions.
    """

    def __init__(
        self, head: nn.Module, *, stages: int = len(STAGES), temporal: bool = False
    ) -> None:
        super().__init__()
        self.s1 = _name_layers("stem", [Stem(temporal=temporal)])
        width_in, width = STEM, STEM
        self.stages = [f"s{number}" for number in range(2, 2 + stages)]
        for name, frames in zip(self.stages, STAGES[:stages], strict=True):
            blocks = []
            for place, each in enumerate(frames):
                stride = 2 if place == 0 and width > STEM else 1
                blocks.append(Block(width_in, width, frames=each, stride=stride, temporal=temporal))
                width_in = EXPANSION * width
            self.add_module(name, _name_layers("res", blocks))
            width *= 2
        self.pathway0_pool = nn.MaxPool3d((2, 1, 1), (2, 1, 1))
        _draw_weights(self)
        self.head = head

    def forward(self, clips: Tensor) -> Tensor:
        """Return the logits (B, 1) of clips (B, 3, T, H, W)."""
        maps = self.s1(clips)
        for number, name in enumerate(self.stages):
            maps = self.get_submodule(name)(maps)
            if number == 0:
                maps = self.pathway0_pool(maps)
        return self.head(maps)  # type: ignore[no-any-return]  # torch: modules return Any


class I3dDetector(nn.Module):
    """A network with the names of the authors' files, which begin with `resnet.`."""

    def __init__(self, resnet: I3d) -> None:
        super().__init__()
        self.resnet = resnet

    def forward(self, clips: Tensor) -> Tensor:
        """Return the logits (B, 1) of clips (B, 3, T, H, W)."""
        return self.resnet(clips)  # type: ignore[no-any-return]  # torch: modules return Any


def _name_layers(word: str, layers: Sequence[nn.Module]) -> nn.Sequential:
    """Return layers in turn, by the names of PySlowFast."""
    named = nn.Sequential()
    for place, layer in enumerate(layers):
        named.add_module("pathway0_stem" if word == "stem" else f"pathway0_res{place}", layer)
    return named


def _layer(
    width_in: int,
    width: int,
    *,
    frames: int = 1,
    side: int = 1,
    stride: int = 1,
    temporal: bool = False,
) -> tuple[nn.Conv3d, nn.Module]:
    """Return a convolution and its batch norm.

    Args:
        width_in: channels of the inputs.
        width: channels of the outputs.
        frames: of the kernel.
        side: of the kernel, in positions.
        stride: in space.
        temporal: whether the kernel looks at single positions.
    """
    norm = nn.BatchNorm3d(width)
    pools = temporal and stride > 1
    side, steps = (1 if temporal else side), (1 if pools else stride)
    convolution = nn.Conv3d(
        width_in,
        width,
        (frames, side, side),
        (1, steps, steps),
        (frames // 2, side // 2, side // 2),
        bias=False,
    )
    if pools:
        return convolution, nn.Sequential(norm, nn.MaxPool3d((1, stride, stride)))
    return convolution, norm


def _draw_weights(network: nn.Module) -> None:
    """Draw weights as K. He et al., arXiv 1502.01852; each block begins as its shortcut."""
    for module in network.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, Bottleneck):
            assert isinstance(module.c_bn, nn.BatchNorm3d)
            nn.init.zeros_(module.c_bn.weight)
