"""Means on a coarse grid and deviations of a few blocks of a frozen network, and where the noise lies.

With MobileNet v2 these are 2,776 numbers: three blocks of 24, 32 and 96 channels, 16 means and a
deviation a channel, and the energies of residuals of three planes in 64 cells. Aligned faces show the same
parts in the same cells, so that places tell.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from trueface.models.mlp_head import MlpHead
from trueface.models.statistics.block_moments import CentredMap, log_deviation
from trueface.models.statistics.families import Families, alike

REVISION = 1  # of what the numbers are: a change of any gets the next, so that no store mixes them
GRID = 4  # cells of a map, on each side
DEPTHS = (1 / 6, 1 / 3, 3 / 4)  # of a network: of MobileNet v2 its stages 2, 5 and 13
ENERGY_CELLS = 8  # of an image, on each side


class GridMoments(nn.Module):
    """Mean of each channel in each cell of a grid, and its log deviation over the map.

    Args:
        channels: of the map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.width = (GRID * GRID + 1) * channels

    def weights(self) -> Tensor:
        """Return how much each number counts, (width,): all alike."""
        return alike(self.width)

    def forward(self, maps: CentredMap) -> Tensor:
        """Return the numbers of each map, (B, 17C): the means channel by channel, then the deviations."""
        means = functional.adaptive_avg_pool2d(maps.centred, GRID) + maps.mean[..., None, None]
        deviations = log_deviation(maps.centred.square().mean((2, 3)))
        return torch.cat([means.flatten(1), deviations], 1)


class MomentsNetwork(nn.Module):
    """Families of numbers of a frozen network, and a last layer of two, which steps train.

    Args:
        families: modules from pixels to numbers, with `width`.
        dropout: before the last layer.
    """

    def __init__(self, *families: nn.Module, dropout: float = 0.0) -> None:
        super().__init__()
        self.features = Families(families)
        self.fc = MlpHead(self.features.width, dropout=dropout)

    def extra_repr(self) -> str:
        """Return what a body's fingerprint cannot see in tensors and layers."""
        return f"revision={REVISION}"

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the logits (B, 1) of pixels (B, 3, H, W) in 0 … 255, float32."""
        with torch.autocast(pixels.device.type, enabled=False):
            features = self.features(pixels)
        return self.fc(features)  # type: ignore[no-any-return]  # torch: modules return Any
