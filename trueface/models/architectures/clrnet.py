"""CLRNet, a residual network of convolutional LSTMs: S. Tariq et al., 2020, arXiv 2009.07480, and WWW 2021.

Each convolution of a residual network is a convolutional LSTM (X. Shi et al., NeurIPS 2015, arXiv
1506.04214) that reads the frames in order. A block has batch norm and ReLU before each of them. The
paper's CL block has an LSTM in its shortcut, and its ID block has the identity.

This network was not compared with that of its authors (github.com/shahroztariq/CLRNet, BSD-3): their
program needs TensorFlow 1, and their files are refused. It differs in size. Theirs has 50 layers in
bottlenecks and 64 first channels. Here 18 layers have 32 first channels, a tenth of the weights. Their
dropout is between the layers of a bottleneck, and here it is before the last layer.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from trueface.models.registry import register_model

FRAMES = 5
WIDTHS = (32, 64, 128, 256)  # channels of the stages
WIDTH = 256  # channels of the last stage
BLOCKS = 2  # blocks of a stage
DROPOUT = 0.25  # before the last layer
GATES = 4  # input, forget, candidate, output
FORGET_BIAS = 1.0  # initial bias of the forget gate: a cell begins by keeping its state


class ConvLstm(nn.Module):
    """A convolutional LSTM without peepholes, whose output at each frame is kept.

    Args:
        width_in: channels before it.
        width: channels after it.
        kernel: side of both kernels, odd.
        stride: of the kernel of the inputs.
    """

    def __init__(self, width_in: int, width: int, kernel: int, *, stride: int = 1) -> None:
        super().__init__()
        padding = kernel // 2
        self.inputs = nn.Conv2d(width_in, GATES * width, kernel, stride=stride, padding=padding)
        self.states = nn.Conv2d(width, GATES * width, kernel, padding=padding, bias=False)
        nn.init.kaiming_normal_(self.inputs.weight, nonlinearity="linear")
        nn.init.kaiming_normal_(self.states.weight, nonlinearity="linear")
        bias = self.inputs.bias
        assert bias is not None
        nn.init.zeros_(bias)
        nn.init.constant_(bias.data[width : 2 * width], FORGET_BIAS)

    def forward(self, frames: Tensor) -> Tensor:
        """Return (B, T, width, H / stride, W / stride) of frames (B, T, width_in, H, W)."""
        count = frames.shape[1]
        gates = self.inputs(frames.flatten(0, 1)).unflatten(0, (-1, count))  # (B, T, 4 width, h, w)
        outputs = list[Tensor]()
        cell = hidden = torch.zeros(())
        for at in range(count):
            added = gates[:, at] + self.states(hidden) if at else gates[:, at]
            kept_input, forget, candidate, output = added.chunk(GATES, 1)
            cell = (
                forget.sigmoid() * cell if at else 0.0
            ) + kept_input.sigmoid() * candidate.tanh()
            hidden = output.sigmoid() * cell.tanh()
            outputs.append(hidden)
        return torch.stack(outputs, 1)


class FrameNorm(nn.BatchNorm2d):
    """A batch norm over the frames of all clips."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # torch's own name
        """Return normalised frames (B, T, C, H, W)."""
        return super().forward(input.flatten(0, 1)).view_as(input)


class Block(nn.Module):
    """Two convolutional LSTMs, and a shortcut around them.

    Args:
        width_in: channels before it.
        width: channels after it.
        stride: of the first LSTM. With 1, the shortcut is the identity (ID block); otherwise it is an LSTM
            (CL block).
    """

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *_norm(width_in),
            ConvLstm(width_in, width, 3, stride=stride),
            *_norm(width),
            ConvLstm(width, width, 3),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1:
            self.shortcut = nn.Sequential(
                ConvLstm(width_in, width, 1, stride=stride), FrameNorm(width)
            )

    def forward(self, frames: Tensor) -> Tensor:
        """Return (B, T, width, H / stride, W / stride) of frames (B, T, width_in, H, W)."""
        return self.shortcut(frames) + self.layers(frames)  # type: ignore[no-any-return]  # torch


class Clrnet(nn.Module):
    """Four stages of blocks on the first maps of each frame."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(ConvLstm(3, WIDTHS[0], 7, stride=2), *_norm(WIDTHS[0]))
        self.pool = nn.MaxPool3d((1, 3, 3), ceil_mode=True)
        self.blocks = nn.Sequential(*_blocks())
        self.norm = FrameNorm(WIDTHS[-1])
        self.fc = nn.Linear(WIDTHS[-1], 1)

    def forward(self, clips: Tensor) -> Tensor:
        """Return the logits (B, 1) of clips (B, 3, T, H, W)."""
        frames = self.pool(self.stem(clips.transpose(1, 2)))
        maps = self.norm(self.blocks(frames))  # (B, T, 256, H/96, W/96)
        return self.fc(maps.mean((1, 3, 4)))  # type: ignore[no-any-return]  # torch: modules return Any


def _norm(width: int) -> tuple[nn.Module, nn.Module]:
    return FrameNorm(width), nn.ReLU()


def _blocks() -> Iterator[Block]:
    width_in = WIDTHS[0]
    for width in WIDTHS:
        for number in range(BLOCKS):
            yield Block(width_in, width, stride=1 if number else 2)
            width_in = width


@register_model(
    "clrnet",
    summary="residual network of convolutional LSTMs, CLRNet, not compared with its authors' code",
    head_dropout=DROPOUT,
    mean=(0.0, 0.0, 0.0),
    std=(1.0, 1.0, 1.0),
    frames=FRAMES,
    most_frames=FRAMES,
    width=WIDTH,
    usual_side=240,
    compared=False,
)
def clrnet() -> nn.Module:
    """Return the network, with random weights."""
    return Clrnet()
