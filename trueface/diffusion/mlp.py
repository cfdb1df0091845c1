"""The toy: a residual network of linear maps, for images of about ten pixels a side."""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from trueface.diffusion.blocks import StepEmbedding, zeroed
from trueface.diffusion.network import EpsNetwork, NetworkShape

SINES = 64


class ResidualMlp(EpsNetwork):
    """Residual blocks over the pixels as one vector; the embedding scales and shifts each block (FiLM).

    Args:
        shape: its widths are those of the blocks, all equal.

    Raises:
        ValueError: the widths differ.
    """

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__(shape)
        width = shape.widths[0]
        if set(shape.widths) != {width}:
            raise ValueError(f"the blocks of an mlp have one width, not {shape.widths}")
        pixels = shape.channels * shape.size**2
        self.step = StepEmbedding(SINES, width)
        self.enter = nn.Linear(pixels, width)
        self.blocks = nn.ModuleList(
            _Block(width, shape.embedding if shape.classes else 0) for _ in shape.widths
        )
        self.share = zeroed(nn.Linear(width, 1))
        self.leave = nn.Sequential(nn.LayerNorm(width), nn.SiLU(), zeroed(nn.Linear(width, pixels)))

    def forward(self, x: Tensor, t: Tensor, embedding: Tensor | None) -> Tensor:
        """Return the noise (or v) in each image; see `EpsNetwork.forward`.

        Raises:
            ValueError: the images have another size.
        """
        shape = self.shape
        if x.shape[1:] != (shape.channels, shape.size, shape.size):
            raise ValueError(f"images {tuple(x.shape[1:])} for a network of {shape.size} pixels")
        step = functional.silu(self.step(t))
        hidden = self.enter(x.flatten(1))
        for block in self.blocks:
            hidden = block(hidden, step, embedding)
        share = self.share(step)[:, :, None, None]  # of the image: much of the answer at large t
        result: Tensor = self.leave(hidden).reshape(x.shape) + share * x
        return result

    def condition_maps(self) -> tuple[nn.Linear, ...]:
        """Return the map from the embedding to scales and shifts of each block."""
        if self.table is None:
            return ()
        return tuple(cast(nn.Linear, cast(_Block, block).film) for block in self.blocks)


class _Block(nn.Module):
    def __init__(self, width: int, embedding: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.step = nn.Linear(width, 2 * width)
        self.film = nn.Linear(embedding, 2 * width, bias=False) if embedding else None
        self.maps = nn.Sequential(
            nn.Linear(width, width), nn.SiLU(), zeroed(nn.Linear(width, width))
        )

    def forward(self, hidden: Tensor, step: Tensor, embedding: Tensor | None) -> Tensor:
        modulation = self.step(step)
        if self.film is not None:
            if embedding is None:
                raise ValueError("a network of classes needs an embedding, such as that of null")
            modulation = modulation + self.film(embedding)
        scale, shift = modulation.chunk(2, dim=1)
        modulated = torch.addcmul(shift, self.norm(hidden), 1 + scale)
        result: Tensor = hidden + self.maps(functional.silu(modulated))
        return result
