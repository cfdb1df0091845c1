"""Parts of networks: the embedding of a step, residual blocks, attention over pixels and over tokens."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

SLOWEST = 10_000.0  # longest period of the sines, in steps (arXiv 1706.03762, section 3.5)
GROUPS = 8  # of channels that are normalised together
HEAD = 32  # channels of one head of attention


class StepEmbedding(nn.Module):
    """Embeds steps: sines and cosines of t, and two linear maps."""

    def __init__(self, sines: int, width: int) -> None:
        super().__init__()
        half = sines // 2
        rates = torch.exp(-math.log(SLOWEST) * torch.arange(half) / max(half, 1))
        self.register_buffer("rates", rates, persistent=False)
        self.rates: Tensor
        self.maps = nn.Sequential(nn.Linear(2 * half, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t: Tensor) -> Tensor:
        """Return (N, width) for steps (N,)."""
        angles = t.to(self.rates.dtype)[:, None] * self.rates
        embedded: Tensor = self.maps(torch.cat([angles.sin(), angles.cos()], dim=1))
        return embedded


class ResidualBlock(nn.Module):
    """Two convolutions with group normalisation, scaled and shifted by the embedding of a step."""

    def __init__(self, before: int, after: int, embedding: int) -> None:
        super().__init__()
        self.first = nn.Sequential(
            nn.GroupNorm(GROUPS, before), nn.SiLU(), nn.Conv2d(before, after, 3, padding=1)
        )
        self.modulation = nn.Linear(embedding, 2 * after)
        self.norm = nn.GroupNorm(GROUPS, after)
        self.second = zeroed(nn.Conv2d(after, after, 3, padding=1))
        self.skip = nn.Identity() if before == after else nn.Conv2d(before, after, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Return N×after×H×W of N×before×H×W; the embedding is (N, E)."""
        scale, shift = self.modulation(embedding)[:, :, None, None].chunk(2, dim=1)
        hidden = functional.silu(self.norm(self.first(x)) * (1 + scale) + shift)
        result: Tensor = self.skip(x) + self.second(hidden)
        return result


class Attention(nn.Module):
    """Attention of each pixel over all pixels, or over tokens; added to what comes in.

    Args:
        channels: of the images.
        tokens: numbers a token; 0: over the pixels themselves.
    """

    def __init__(self, channels: int, tokens: int = 0) -> None:
        super().__init__()
        self.heads = max(channels // HEAD, 1) if channels % HEAD == 0 else 1
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.query = nn.Linear(channels, channels, bias=False)
        self.key = nn.Linear(tokens or channels, channels, bias=False)
        self.value = nn.Linear(tokens or channels, channels, bias=False)
        self.out = zeroed(nn.Linear(channels, channels))

    def forward(self, x: Tensor, tokens: Tensor | None = None) -> Tensor:
        """Return N×C×H×W of the same shape; tokens are N×L×E."""
        count, channels, height, width = x.shape
        pixels = self.norm(x).permute(0, 2, 3, 1).reshape(count, height * width, channels)
        source = pixels if tokens is None else tokens
        query, key, value = (
            part.reshape(count, -1, self.heads, channels // self.heads).transpose(1, 2)
            for part in (self.query(pixels), self.key(source), self.value(source))
        )
        mixed = functional.scaled_dot_product_attention(query, key, value)
        mixed = self.out(mixed.transpose(1, 2).reshape(count, height * width, channels))
        result: Tensor = x + mixed.reshape(count, height, width, channels).permute(0, 3, 1, 2)
        return result


def zeroed(layer: nn.Conv2d | nn.Linear) -> nn.Conv2d | nn.Linear:
    """Return a layer whose weights are set to zero: a residual block begins as the identity."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
