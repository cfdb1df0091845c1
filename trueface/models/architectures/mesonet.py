"""Meso-4: D. Afchar et al., "MesoNet", WIFS 2018, arXiv 1809.00888, section II.A and figure 2.

Four convolutions with strong pooling detect traces of medium size, between the noise of pixels,
which compression removes, and the content of an image. As published, each convolution is followed
by ReLU, then by batch norm; images have sides of 256 pixels and values in 0 … 1. There the last
pooling is over 4 by 4 and gives a grid of 8 by 8, whose 16 channels are the input of the first
dense layer. Here it gives that grid at any size: over 1 by 1 at 64 pixels. At 256 pixels everything
is as published: 27,977 parameters. Batch norms have torch's momentum and epsilon.
"""

from itertools import pairwise

from torch import Tensor, nn

from trueface.models.registry import register_model

WIDTHS = (3, 8, 8, 16, 16)  # channels before, between and after the convolutions
KERNELS = (3, 5, 5, 5)
GRID = 8  # places on each side of the last maps
UNITS = 16  # units of the first dense layer
DROPOUT = 0.5  # before either dense layer; that of the settings comes on top
SLOPE = 0.1  # slope of the leaky ReLU


class Meso4(nn.Module):
    """Four convolutions, each with a pooling, and two dense layers."""

    def __init__(self) -> None:
        super().__init__()
        pools = *(nn.MaxPool2d(2) for _ in KERNELS[1:]), nn.AdaptiveMaxPool2d(GRID)
        layers: list[nn.Module] = []
        for (in_channels, out_channels), kernel, pool in zip(
            pairwise(WIDTHS), KERNELS, pools, strict=True
        ):
            convolution = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2)
            layers += [convolution, nn.ReLU(inplace=True), nn.BatchNorm2d(out_channels), pool]
        self.blocks = nn.Sequential(*layers)
        self.dense = nn.Sequential(
            nn.Dropout(DROPOUT),
            nn.Linear(WIDTHS[-1] * GRID**2, UNITS),
            nn.LeakyReLU(SLOPE, inplace=True),
            nn.Dropout(DROPOUT),
        )
        self.fc = nn.Linear(UNITS, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (B, 1) of images (B, 3, H, W) of at least 8 by 8 pixels."""
        maps = self.blocks(images)  # (B, 16, 8, 8)
        return self.fc(self.dense(maps.flatten(1)))  # type: ignore[no-any-return]  # torch


@register_model(
    "mesonet",
    summary="Meso-4, four convolutions with strong pooling",
    draws=True,
    mean=(0.0, 0.0, 0.0),
    std=(1.0, 1.0, 1.0),
    width=UNITS,
)
def mesonet() -> nn.Module:
    """Return the network, with random weights."""
    return Meso4()
