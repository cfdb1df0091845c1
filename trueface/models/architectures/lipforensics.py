"""LipForensics: A. Haliassos et al., "Lips don't lie", CVPR 2021, arXiv 2012.07657.

A ResNet-18 on grey crops of the mouth in 25 frames, and a multi-scale temporal network on its features (B.
Martinez et al., "Lipreading using temporal convolutional networks", ICASSP 2020, arXiv 2001.08702).

Names and results are those of the published code (github.com/ahaliassos/LipForensics, MIT), from the crops
on. Pixels become grey as Pillow converts them, rounded to 8 bits; the gradient passes the rounding.
"""

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from trueface.models.registry import register_model

FRAMES = 25
SIDE = 88  # pixels
STORED_SIDE = 96  # pixels of the crops that `trueface import mouths` writes
GREY_PARTS = (19_595, 38_470, 7_471)  # red, green and blue of 65,536, as Pillow weighs them
GREY_WHOLE = 65_536
MEAN, STD = 0.421, 0.165  # mean and deviation of grey pixels in 0 … 1
WIDTHS = (64, 128, 256, 512)  # channels of the stages of the ResNet
KERNELS = (3, 5, 7)  # frames
BRANCH = 256  # channels of each kernel
WIDTH = 768  # features: the channels of all kernels
DEPTH = 4  # temporal blocks
DROPOUT = 0.2  # after each half of a temporal block


class Residual(nn.Module):
    """Two 3 × 3 convolutions, and a shortcut around them."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = nn.PReLU(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu2 = nn.PReLU(width)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or width_in != width:
            self.downsample = nn.Sequential(
                nn.Conv2d(width_in, width, 1, stride=stride, bias=False), nn.BatchNorm2d(width)
            )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, width, H / stride, W / stride) of maps (B, width_in, H, W)."""
        maps = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        return self.relu2(maps + self.downsample(x))  # type: ignore[no-any-return]  # torch


class TemporalConvolution(nn.Module):
    """A dilated convolution over the frames, with batch norm and PReLU.

    Args:
        width_in: channels before it.
        kernel: frames, odd.
        dilation: distance of two frames of the kernel.
    """

    def __init__(self, width_in: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.border = (kernel - 1) * dilation // 2  # frames
        # the published code pads twice the border and cuts half of it off again
        self.conv = nn.Conv1d(width_in, BRANCH, kernel, padding=2 * self.border, dilation=dilation)
        self.batchnorm = nn.BatchNorm1d(BRANCH)
        self.non_lin = nn.PReLU(BRANCH)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, 256, T) of features (B, width_in, T)."""
        if self.training:  # statistics are those of the padded frames, too
            normalised = self.batchnorm(self.conv(x))[..., self.border : -self.border]
        else:
            convolution = self.conv
            normalised = self.batchnorm(
                functional.conv1d(
                    x,
                    convolution.weight,
                    convolution.bias,
                    padding=self.border,
                    dilation=convolution.dilation,
                )
            )
        return self.non_lin(normalised)  # type: ignore[no-any-return]  # torch


class TemporalBlock(nn.Module):
    """Two rounds of convolutions of three kernels, and a shortcut around them."""

    def __init__(self, width_in: int, dilation: int) -> None:
        super().__init__()
        for half, width in enumerate((width_in, WIDTH)):
            for number, kernel in enumerate(KERNELS):
                self.add_module(
                    f"cbcr{half}_{number}", TemporalConvolution(width, kernel, dilation)
                )
        self.dropout = nn.Dropout(DROPOUT)
        self.downsample = nn.Conv1d(width_in, WIDTH, 1)
        self.relu_final = nn.PReLU(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, 768, T) of features (B, width_in, T)."""
        return self.relu_final(self._half(1, self._half(0, x)) + self.downsample(x))  # type: ignore[no-any-return]  # torch

    def _half(self, half: int, x: Tensor) -> Tensor:
        branches = [self.get_submodule(f"cbcr{half}_{number}")(x) for number in range(len(KERNELS))]
        return self.dropout(torch.cat(branches, 1))  # type: ignore[no-any-return]  # torch


class TemporalBlocks(nn.Module):
    """Temporal blocks of growing dilation."""

    def __init__(self) -> None:
        super().__init__()
        blocks = [TemporalBlock(WIDTH if at else WIDTHS[-1], 2**at) for at in range(DEPTH)]
        self.network = nn.Sequential(*blocks)

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, 768, T) of features (B, 512, T)."""
        return self.network(features)  # type: ignore[no-any-return]  # torch: modules return Any


class TemporalNetwork(nn.Module):
    """Temporal blocks, the mean over the frames, and the logit."""

    def __init__(self) -> None:
        super().__init__()
        self.mb_ms_tcn = TemporalBlocks()
        self.tcn_output = nn.Linear(WIDTH, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Return the logits (B, 1) of features (B, 512, T)."""
        return self.tcn_output(self.mb_ms_tcn(features).mean(2))  # type: ignore[no-any-return]  # torch


class Trunk(nn.Module):
    """A ResNet-18 without its first layers and its last one."""

    def __init__(self) -> None:
        super().__init__()
        for number, (before, width) in enumerate(pairwise((WIDTHS[0], *WIDTHS)), start=1):
            stride = 1 if number == 1 else 2
            stage = nn.Sequential(Residual(before, width, stride), Residual(width, width, 1))
            self.add_module(f"layer{number}", stage)

    def forward(self, maps: Tensor) -> Tensor:
        """Return features (B, 512) of maps (B, 64, H, W)."""
        for stage in self.children():
            maps = stage(maps)
        return maps.mean((2, 3))


class LipForensics(nn.Module):
    """First maps of the clip, a ResNet-18 on each frame, and a temporal network."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = Trunk()
        self.frontend3D = nn.Sequential(*_first_layers(WIDTHS[0]))
        self.tcn = TemporalNetwork()

    def forward(self, clips: Tensor) -> Tensor:
        """Return the logits (B, 1) of clips (B, 3, T, 88, 88) in 0 … 255."""
        maps = self.frontend3D((to_grey(clips) / 255 - MEAN) / STD)  # (B, 64, T, 22, 22)
        features = self.trunk(maps.transpose(1, 2).flatten(0, 1))  # (B · T, 512)
        return self.tcn(features.unflatten(0, (-1, clips.shape[2])).transpose(1, 2))  # type: ignore[no-any-return]  # torch


def to_grey(clips: Tensor) -> Tensor:
    """Return grey clips (B, 1, T, H, W), whole numbers, of colours (B, 3, T, H, W) in 0 … 255."""
    parts = torch.tensor(GREY_PARTS, dtype=torch.float32, device=clips.device).view(1, 3, 1, 1, 1)
    grey = (clips.float() * parts).sum(1, keepdim=True) / GREY_WHOLE  # exact in float32
    return grey + ((grey + 0.5).floor() - grey).detach()


def _first_layers(width: int) -> Iterator[nn.Module]:
    yield nn.Conv3d(1, width, (5, 7, 7), stride=(1, 2, 2), padding=(2, 3, 3), bias=False)
    yield nn.BatchNorm3d(width)
    yield nn.PReLU(width)
    yield nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1))


@register_model(
    "lipforensics",
    summary="ResNet-18 and a temporal network on the mouths of 25 frames, LipForensics",
    head="tcn.tcn_output",
    draws=True,
    raw_pixels=True,
    input_size=SIDE,
    stored_side=STORED_SIDE,
    stored_as="crops of mouths",
    frames=FRAMES,
    most_frames=FRAMES,
    width=WIDTH,
)
def lipforensics() -> nn.Module:
    """Return the network, with random weights."""
    return LipForensics()
