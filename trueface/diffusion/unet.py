"""A plain U-Net that predicts noise: pixels packed into channels, residual blocks, attention at the bottom."""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from trueface.diffusion.blocks import GROUPS, Attention, ResidualBlock, StepEmbedding, zeroed
from trueface.diffusion.network import EpsNetwork, NetworkShape

TIMES_WIDTH = 4  # the embedding of a step, in widths of the first level (arXiv 2006.11239)


class UNet(EpsNetwork):
    """One residual block a level and way; a class is heard twice.

    Its embedding is added to that of the step, through a linear map; and every pixel of the
    coarsest level attends to two tokens: the embedding, and a learned one that says nothing. By
    attention alone, which begins at zero, small networks hardly begin to listen.

    Args:
        shape: its widths are channels of the levels, fine to coarse, multiples of 8; each level but
            the first has half the pixels of the one before.

    Raises:
        ValueError: the side cannot be halved that often.
    """

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__(shape)
        widths, unit = shape.widths, unit_of(shape)
        if shape.size % unit:
            raise ValueError(f"a side of {shape.size} pixels is no multiple of {unit}")
        packed, wide = shape.channels * shape.unshuffle**2, TIMES_WIDTH * widths[0]
        self.step = StepEmbedding(widths[0], wide)
        self.enter = nn.Conv2d(packed, widths[0], 3, padding=1)
        self.down = nn.ModuleList(
            ResidualBlock(before, after, wide)
            for before, after in zip((widths[0], *widths), widths, strict=False)
        )
        self.bottom = ResidualBlock(widths[-1], widths[-1], wide)
        self.pixels = Attention(widths[-1]) if shape.attention else None
        self.up = nn.ModuleList(
            ResidualBlock(below + width, width, wide)
            for below, width in zip((*widths[1:], widths[-1]), widths, strict=True)
        )
        self.norm = nn.GroupNorm(GROUPS, widths[0])
        self.leave = zeroed(nn.Conv2d(widths[0], packed, 3, padding=1))
        conditional = shape.classes > 0
        self.on_step = nn.Linear(shape.embedding, wide, bias=False) if conditional else None
        self.tokens = Attention(widths[-1], shape.embedding) if conditional else None
        self.silent = nn.Parameter(torch.zeros(shape.embedding)) if conditional else None

    def forward(self, x: Tensor, t: Tensor, embedding: Tensor | None) -> Tensor:
        """Return the noise (or v) in each image; see `EpsNetwork.forward`."""
        factor = self.shape.unshuffle
        step = self.step(t)
        if self.on_step is not None:
            step = step + self.on_step(_needed(embedding))
        step = functional.silu(step)
        hidden = functional.pixel_unshuffle(x, factor) if factor > 1 else x
        hidden = self.enter(hidden.contiguous(memory_format=torch.channels_last))
        kept = []
        for level, block in enumerate(self.down):
            if level:
                hidden = functional.avg_pool2d(hidden, 2)
            hidden = block(hidden, step)
            kept.append(hidden)
        hidden = self._attend(self.bottom(hidden, step), embedding)
        for level in reversed(range(len(kept))):
            hidden = self.up[level](torch.cat([hidden, kept[level]], dim=1), step)
            if level:
                hidden = functional.interpolate(hidden, scale_factor=2.0, mode="nearest")
        result: Tensor = self.leave(functional.silu(self.norm(hidden)))
        return functional.pixel_shuffle(result, factor) if factor > 1 else result

    def condition_maps(self) -> tuple[nn.Linear, ...]:
        """Return the keys and values over tokens, and the map into the embedding of the step."""
        if self.tokens is None or self.on_step is None:
            return ()
        return self.tokens.key, self.tokens.value, self.on_step

    def _attend(self, hidden: Tensor, embedding: Tensor | None) -> Tensor:
        if self.pixels is not None:
            hidden = self.pixels(hidden)
        if self.tokens is None:
            return hidden
        named = _needed(embedding)
        silent = cast(Tensor, self.silent).expand_as(named)
        attended: Tensor = self.tokens(hidden, torch.stack([silent, named], dim=1))
        return attended


def unit_of(shape: NetworkShape) -> int:
    """Return the number of pixels of which an image's side must be a multiple."""
    return int(shape.unshuffle * 2 ** (len(shape.widths) - 1))


def _needed(embedding: Tensor | None) -> Tensor:
    if embedding is None:
        raise ValueError("a network of classes needs an embedding, such as that of null")
    return embedding
