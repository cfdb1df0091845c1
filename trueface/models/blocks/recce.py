"""RECCE: J. Cao et al., "End-to-end reconstruction-classification learning", CVPR 2022.

The middle maps of an Xception are decoded to the image; the objective `recce` demands it of real
images only. The decoder's maps join the encoder's by graph reasoning, and the difference between
image and reconstruction guides an attention. Images are in -1 … 1, published with 299 by 299 pixels.

Names and results are those of the published code (github.com/VISION-SJTU/RECCE, MIT), with one
difference. Its encoder also has the last layer of ImageNet, which is not used; it is not part of this
network (`unused_parts`).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from trueface.models.blocks.full_xception import (
    BLOCKS,
    FEATURES,
    MIDDLE,
    SeparableBlock,
    SeparableConvolution,
    XceptionMaps,
    insert_xception,
)

WIDTH = 2048  # features of Xception
DROPOUT = 0.2
GRAPH = 256  # width of the graph's vertices
DECODED = (256, 128, 64)  # channels after each doubling of the maps' side
NOISE = 1e-6  # deviation of the noise of a training, in units of -1 … 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RecceOutputs:
    """The outputs of one forward pass that losses read."""

    logit: Tensor  # (B, 1)
    reconstruction: Tensor  # (B, 3, H, W) in -1 … 1
    similarities: tuple[Tensor, ...]  # (B, B) in 0 … 1 each, between images: of three maps


class GraphReasoning(nn.Module):
    """Joins the encoder's maps with maps of the decoder of two and four times their side.

    Each position of the first is a vertex with edges to the 4 and 16 positions that it covers.
    """

    def __init__(self) -> None:
        super().__init__()
        self.va_embedding = _two_layers(nn.Conv2d(MIDDLE, GRAPH, 1, bias=False), 1)
        self.va_gated_b = nn.Sequential(nn.Conv2d(MIDDLE, GRAPH, 1, bias=False), nn.Sigmoid())
        self.va_gated_c = nn.Sequential(nn.Conv2d(MIDDLE, GRAPH, 1, bias=False), nn.Sigmoid())
        self.vb_embedding = _two_layers(nn.Linear(DECODED[0], GRAPH, bias=False))
        self.vc_embedding = _two_layers(nn.Linear(DECODED[1], GRAPH, bias=False))
        self.reweight_ab = nn.Sequential(nn.Linear(2 * GRAPH, 1, bias=False), nn.ReLU(inplace=True))
        self.reweight_ac = nn.Sequential(nn.Linear(2 * GRAPH, 1, bias=False), nn.ReLU(inplace=True))
        self.reproject = nn.Sequential(
            nn.Conv2d(3 * GRAPH, MIDDLE, 1, bias=False),
            nn.ReLU(inplace=True),
            nn.Conv2d(MIDDLE, MIDDLE, 1, bias=False),
            nn.Dropout(DROPOUT),
        )

    def forward(self, maps: Tensor, double_maps: Tensor, fourfold_maps: Tensor) -> Tensor:
        """Return (B, 728, H, W) of (B, 728, H, W), (B, 256, 2H, 2W) and (B, 128, 4H, 4W)."""
        vertices = self.va_embedding(maps)  # (B, 256, H, W)
        near = _gather_neighbours(
            vertices, self.vb_embedding(_patches(double_maps, 2)), self.reweight_ab
        )
        far = _gather_neighbours(
            vertices, self.vc_embedding(_patches(fourfold_maps, 4)), self.reweight_ac
        )
        near = near * (1 - self.va_gated_b(maps))
        far = far * (1 - self.va_gated_c(maps))
        joined = torch.cat([near, far, vertices], 1).sigmoid()  # (B, 768, H, W)
        return self.reproject(joined)  # type: ignore[no-any-return]  # torch


class GuidedAttention(nn.Module):
    """Attention to positions where an image differs from its reconstruction."""

    def __init__(self) -> None:
        super().__init__()
        self.gated = nn.Sequential(
            nn.Conv2d(3, 3, 3, padding=1, bias=False),
            nn.ReLU(inplace=True),
            nn.Conv2d(3, 1, 1, bias=False),
            nn.Sigmoid(),
        )
        self.h = nn.Sequential(
            nn.Conv2d(MIDDLE, MIDDLE, 1, bias=False), nn.BatchNorm2d(MIDDLE), nn.ReLU(inplace=True)
        )
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, images: Tensor, reconstruction: Tensor, maps: Tensor) -> Tensor:
        """Return (B, 728, h, w) of images and reconstructions (B, 3, H, W) and maps (B, 728, h, w)."""
        residual = _resize_like((images - reconstruction).abs(), maps)
        return self.gated(residual) * self.h(maps) + self.dropout(maps)  # type: ignore[no-any-return]  # torch


class Recce(nn.Module):
    """An Xception with a decoder, and a last layer of one logit."""

    unused_parts = ("encoder.fc",)  # parts of the authors' file

    def __init__(self) -> None:
        super().__init__()
        first, second, third = DECODED
        self.encoder = XceptionMaps()
        self.dropout = nn.Dropout(DROPOUT)
        self.fc = nn.Linear(FEATURES, 1)
        self.attention = GuidedAttention()
        self.reasoning = GraphReasoning()
        self.decoder1 = _doubling(MIDDLE, first)
        self.decoder2 = SeparableBlock(*[first] * 4)
        self.decoder3 = _doubling(first, second)
        self.decoder4 = SeparableBlock(*[second] * 4)
        self.decoder5 = _doubling(second, third)
        self.decoder6 = nn.Sequential(nn.Conv2d(third, 3, 1, bias=False), nn.Tanh())

    def start_from_backbone(self, state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
        """Return the tensors with those of a file of an Xception; None if it is another file."""
        return insert_xception(self, "encoder", state)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (B, 1) of images (B, 3, H, W)."""
        return self.forward_parts(images).logit

    def forward_parts(self, images: Tensor) -> RecceOutputs:
        """Return logits, reconstructions and similarities of images (B, 3, H, W)."""
        encoder = self.encoder
        seen = with_white_noise(images) if self.training else images
        middle = encoder.through_blocks(encoder.first_maps(seen), 1, 4)  # (B, 728, h, w)
        twice = self.decoder2(self.decoder1(self.dropout(middle)))  # (B, 256, 2h, 2w)
        four_times = self.decoder4(self.decoder3(twice))  # (B, 128, 4h, 4w)
        drawn = _resize_like(self.decoder6(self.decoder5(four_times)), images)
        similarities = tuple(map(similarity, (middle, twice, four_times)))
        maps = encoder.through_blocks(middle, 5, 7)
        maps = self.reasoning(maps, twice, four_times) + maps
        maps = self.attention(images, drawn, encoder.through_blocks(maps, 8, 8))
        maps = encoder.last_maps(encoder.through_blocks(maps, 9, BLOCKS))  # (B, 2048, h/2, w/2)
        logit = self.fc(self.dropout(maps.mean((2, 3))))
        return RecceOutputs(logit=logit, reconstruction=drawn, similarities=similarities)


def with_white_noise(images: Tensor) -> Tensor:
    """Return images with weak noise on a random half of them, limited to -1 … 1."""
    # drawn on the CPU: a GPU has other random numbers
    chosen = (torch.rand(len(images), 1, 1, 1) > 0.5).to(images)
    noise = NOISE * torch.randn(images.shape).to(images)
    return (images + noise * chosen).clamp(-1, 1)


def similarity(maps: Tensor) -> Tensor:
    """Return the cosine between mean maps of images, mapped from -1 … 1 to 0 … 1, (B, B)."""
    means = functional.normalize(maps.mean((2, 3)), dim=1)
    return (means @ means.T + 1) / 2


def _two_layers(first: nn.Conv2d | nn.Linear, kernel: int = 0) -> nn.Sequential:
    second: nn.Module = (
        nn.Conv2d(GRAPH, GRAPH, kernel, bias=False)
        if kernel
        else nn.Linear(GRAPH, GRAPH, bias=False)
    )
    return nn.Sequential(first, nn.ReLU(inplace=True), second)


def _doubling(width_in: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.UpsamplingNearest2d(scale_factor=2),
        SeparableConvolution(width_in, width),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
    )


def _resize_like(maps: Tensor, template: Tensor) -> Tensor:
    """Return maps of the size of others."""
    size = (template.shape[-2], template.shape[-1])
    return functional.interpolate(maps, size=size, mode="bilinear", align_corners=True)


def _patches(maps: Tensor, side: int) -> Tensor:
    """Return the positions of patches of side², (B, H, W, side², C), of maps (B, C, side H, side W)."""
    batch, channels, height, width = maps.shape
    grid = maps.view(batch, channels, height // side, side, width // side, side)
    return grid.permute(0, 2, 4, 3, 5, 1).flatten(3, 4)


def _gather_neighbours(vertices: Tensor, neighbours: Tensor, reweight: nn.Module) -> Tensor:
    """Return the weighted mean (B, C, H, W) of each vertex' neighbours.

    Args:
        vertices: (B, C, H, W).
        neighbours: (B, H, W, N, C).
        reweight: from (…, 2C) to weights (…, 1) before their softmax.
    """
    own = vertices.permute(0, 2, 3, 1)[:, :, :, None].expand_as(neighbours)
    weights = reweight(torch.cat([own, neighbours], -1)).softmax(3)  # (B, H, W, N, 1)
    gathered: Tensor = (neighbours * weights).sum(3)  # (B, H, W, C)
    return gathered.permute(0, 3, 1, 2)
