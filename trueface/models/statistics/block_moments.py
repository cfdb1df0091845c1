"""Mean and deviation of the channels of a map: what texture a block sees, wherever it lies.

The last layer of a network is about objects; the texture that a generator leaves shows in the
blocks before it. C. Koutlis and S. Papadopoulos, arXiv 2402.19091, read the blocks of CLIP so; Z. Liu
et al., arXiv 2002.00133, read texture in the middle of a network.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trueface.models.statistics.families import alike

EPSILON = 1e-6  # of a variance


@dataclass(frozen=True, slots=True)
class CentredMap:
    """A block's map and its mean, apart."""

    mean: Tensor  # (B, C)
    centred: Tensor  # (B, C, h, w), of mean 0 over the map


def centre(maps: Tensor) -> CentredMap:
    """Return maps (B, C, h, w) as float32 with their means apart."""
    maps = maps.float()
    mean = maps.mean((2, 3), keepdim=True)
    return CentredMap(mean.flatten(1), maps - mean)


def log_deviation(variance: Tensor) -> Tensor:
    """Return ln of the deviation, of variances that are >= 0 but for rounding."""
    return (variance.clamp_min(0) + EPSILON).log() / 2


class Moments(nn.Module):
    """Mean and log deviation of each channel.

    Args:
        channels: of the map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.width = 2 * channels

    def weights(self) -> Tensor:
        """Return how much each number counts, (width,): all alike."""
        return alike(self.width)

    def forward(self, maps: CentredMap) -> Tensor:
        """Return the numbers of each map, (B, 2C)."""
        return torch.cat([maps.mean, log_deviation(maps.centred.square().mean((2, 3)))], 1)
