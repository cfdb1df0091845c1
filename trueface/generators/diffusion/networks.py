"""Networks that predict noise: what decides their shape, their parts, a U-Net, and an MLP for toys."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from trueface.generators.diffusion.token_spans import TokenSpans
from trueface.runtime.rng import stream_seed

NetworkName = Literal["unet", "mlp", "stable"]  # stable: that of an imported Stable Diffusion


SLOWEST = 10_000.0  # longest period of the sines, in steps (arXiv 1706.03762, section 3.5)
GROUPS = 8  # channels that are normalised together
HEAD = 32  # channels of one head of attention
SINES = 64
TIMES_WIDTH = 4  # the embedding of a step, in widths of the first level (arXiv 2006.11239)


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkShape:
    """All that is needed to build a network again, before its weights are filled in."""

    network: NetworkName
    size: int  # side of an image in pixels
    channels: int
    classes: int  # 0: unconditional
    embedding: int  # numbers a class
    widths: tuple[int, ...]  # unet: channels of each level, fine to coarse; mlp: of each block
    unshuffle: int = 1  # unet: pixels a side that become channels
    attention: bool = True  # unet: self-attention at the coarsest level


class CrossAttention(Protocol):
    """A layer of a text-to-image network in which pixels attend to the tokens of a text."""

    to_q: nn.Module  # pixels → heads * numbers of a head
    to_k: nn.Module  # the same for tokens
    heads: int
    scale: float  # factor of the products of queries and keys

    def parameters(self) -> Iterator[nn.Parameter]: ...  # noqa: D102


class EpsNetwork(nn.Module, ABC):
    """A network that says what noise an image holds, or its mixture with the image (v).

    A class is given as an embedding, a row of `table` or any other vector: the table plays the part of
    a text encoder. Its last row is the null token, which means no class.

    Attributes:
        shape: how to build it again.
        classes: number of classes; 0: unconditional.
        width_of_embedding: E.
        table: (classes + 1, E), row `classes` is null; None: unconditional.
        token_spans: tokens of the prompt of each class. None: classes are not prompts, or their tokens are unknown.
    """

    token_spans: TokenSpans | None = None

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        self.shape = shape
        self.classes = shape.classes
        self.width_of_embedding = shape.embedding
        self.table: nn.Embedding | None = (
            nn.Embedding(shape.classes + 1, shape.embedding) if shape.classes else None
        )

    def build_config(self) -> dict[str, Any]:
        """Return all that is needed to build it again, but the weights, as plain values."""
        return {**asdict(self.shape), "widths": list(self.shape.widths)}

    @abstractmethod
    def forward(self, x: Tensor, t: Tensor, embedding: Tensor | None) -> Tensor:
        """Return the noise (or v) in each image, like `x`.

        Args:
            x: N×C×H×W noisy images; a clean image is in [-1, 1].
            t: (N,) integers, 1 … T.
            embedding: (N, E) of each image's class; None for an unconditional network only.
        """

    def encode_images(self, images: Tensor) -> Tensor:
        """Return what the network works on, of images in [-1, 1]: here, themselves."""
        return images

    def decode_latents(self, latents: Tensor) -> Tensor:
        """Return images in [-1, 1] from latents. This network works on images, so they are returned unchanged."""
        return latents

    @abstractmethod
    def condition_maps(self) -> tuple[nn.Linear, ...]:
        """Return every linear map that takes an embedding, none of which has a bias.

        They play the part of the keys and values of a text-to-image network's cross-attention.
        """

    def cross_attentions(self) -> tuple[CrossAttention, ...]:
        """Return every layer of cross-attention between pixels and a text. A network of classes has none."""
        return ()


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

    def __init__(self, in_channels: int, out_channels: int, embedding: int) -> None:
        super().__init__()
        self.first = nn.Sequential(
            nn.GroupNorm(GROUPS, in_channels),
            nn.SiLU(),
            nn.Conv2d(in_channels, out_channels, 3, padding=1),
        )
        self.modulation = nn.Linear(embedding, 2 * out_channels)
        self.norm = nn.GroupNorm(GROUPS, out_channels)
        self.second = zero_init(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        self.skip = (
            nn.Identity()
            if in_channels == out_channels
            else nn.Conv2d(in_channels, out_channels, 1)
        )

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
        self.out = zero_init(nn.Linear(channels, channels))

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


def zero_init(layer: nn.Conv2d | nn.Linear) -> nn.Conv2d | nn.Linear:
    """Return a layer whose weights are set to zero: a residual block begins as the identity."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


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
            raise ValueError(
                f"widths {shape.widths} differ, but all blocks of an mlp have the same width"
            )
        pixels = shape.channels * shape.size**2
        self.step = StepEmbedding(SINES, width)
        self.enter = nn.Linear(pixels, width)
        self.blocks = nn.ModuleList(
            _Block(width, shape.embedding if shape.classes else 0) for _ in shape.widths
        )
        self.share = zero_init(nn.Linear(width, 1))
        self.leave = nn.Sequential(
            nn.LayerNorm(width), nn.SiLU(), zero_init(nn.Linear(width, pixels))
        )

    def forward(self, x: Tensor, t: Tensor, embedding: Tensor | None) -> Tensor:
        """Return the noise (or v) in each image; see `EpsNetwork.forward`.

        Raises:
            ValueError: the images have another size.
        """
        shape = self.shape
        if x.shape[1:] != (shape.channels, shape.size, shape.size):
            raise ValueError(
                f"images have the shape {tuple(x.shape[1:])}, but the network takes {shape.size} pixels"
            )
        step = functional.silu(self.step(t))
        hidden = self.enter(x.flatten(1))
        for block in self.blocks:
            hidden = block(hidden, step, embedding)
        # the share of the image is much of the answer at large t
        share = self.share(step)[:, :, None, None]
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
            nn.Linear(width, width), nn.SiLU(), zero_init(nn.Linear(width, width))
        )

    def forward(self, hidden_maps: Tensor, step: Tensor, embedding: Tensor | None) -> Tensor:
        modulation = self.step(step)
        if self.film is not None:
            if embedding is None:
                raise ValueError(
                    "a network with classes needs an embedding, such as the null token's"
                )
            modulation = modulation + self.film(embedding)
        scale, shift = modulation.chunk(2, dim=1)
        modulated = torch.addcmul(shift, self.norm(hidden_maps), 1 + scale)
        result: Tensor = hidden_maps + self.maps(functional.silu(modulated))
        return result


class UNet(EpsNetwork):
    """U-Net with one residual block per level and direction, and two inputs for the class.

    The class embedding is added to that of the step, through a linear map. Each pixel of the
    coarsest level also attends to two tokens: the embedding and a learned neutral token. With
    attention alone, which begins at zero, small networks hardly learn to use the class.

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
            raise ValueError(f"a side of {shape.size} pixels is not a multiple of {unit}")
        packed, wide = shape.channels * shape.unshuffle**2, TIMES_WIDTH * widths[0]
        self.step = StepEmbedding(widths[0], wide)
        self.enter = nn.Conv2d(packed, widths[0], 3, padding=1)
        self.down = nn.ModuleList(
            ResidualBlock(in_channels, out_channels, wide)
            for in_channels, out_channels in zip((widths[0], *widths), widths, strict=False)
        )
        self.bottom = ResidualBlock(widths[-1], widths[-1], wide)
        self.pixels = Attention(widths[-1]) if shape.attention else None
        self.up = nn.ModuleList(
            ResidualBlock(below + width, width, wide)
            for below, width in zip((*widths[1:], widths[-1]), widths, strict=True)
        )
        self.norm = nn.GroupNorm(GROUPS, widths[0])
        self.leave = zero_init(nn.Conv2d(widths[0], packed, 3, padding=1))
        conditional = shape.classes > 0
        self.on_step = nn.Linear(shape.embedding, wide, bias=False) if conditional else None
        self.tokens = Attention(widths[-1], shape.embedding) if conditional else None
        self.silent = nn.Parameter(torch.zeros(shape.embedding)) if conditional else None

    def forward(self, x: Tensor, t: Tensor, embedding: Tensor | None) -> Tensor:
        """Return the noise (or v) in each image; see `EpsNetwork.forward`."""
        factor = self.shape.unshuffle
        step = self.step(t)
        if self.on_step is not None:
            step = step + self.on_step(_require_embedding(embedding))
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

    def _attend(self, hidden_maps: Tensor, embedding: Tensor | None) -> Tensor:
        if self.pixels is not None:
            hidden_maps = self.pixels(hidden_maps)
        if self.tokens is None:
            return hidden_maps
        named = _require_embedding(embedding)
        silent = cast(Tensor, self.silent).expand_as(named)
        attended: Tensor = self.tokens(hidden_maps, torch.stack([silent, named], dim=1))
        return attended


def unit_of(shape: NetworkShape) -> int:
    """Return the number of pixels of which an image's side must be a multiple."""
    return int(shape.unshuffle * 2 ** (len(shape.widths) - 1))


def _require_embedding(embedding: Tensor | None) -> Tensor:
    if embedding is None:
        raise ValueError("a network with classes needs an embedding, such as the null token's")
    return embedding


def build_network(shape: NetworkShape, *, seed: int = 0) -> EpsNetwork:
    """Return an untrained network; its weights follow from the seed.

    Raises:
        ValueError: no network has this shape.
    """
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(stream_seed("weights", seed))
        if shape.network == "mlp":
            return ResidualMlp(shape)
        if shape.network == "unet":
            return UNet(shape).to(memory_format=torch.channels_last)
    raise ValueError(f"unknown network {shape.network!r}. Choose unet or mlp.")
