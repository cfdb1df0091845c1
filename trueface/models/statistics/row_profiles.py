"""Means and deviations of a map by height: faces are upright and aligned, and so are their parts."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from trueface.models.statistics.block_moments import CentredMap, log_deviation
from trueface.models.statistics.families import alike

CELLS = 4  # of the grid, on each side


class RowProfiles(nn.Module):
    """Mean and log deviation of each channel in each cell of a 4-by-4 grid, averaged over a row.

    A mirrored image has the same rows. The deviation within a cell leaves out what changes slowly.

    Args:
        channels: of the map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.width = 2 * CELLS * channels

    def weights(self) -> Tensor:
        """Return how much each number counts, (width,): all alike."""
        return alike(self.width)

    def forward(self, maps: CentredMap) -> Tensor:
        """Return the numbers of each map, (B, 8C)."""
        cells = functional.adaptive_avg_pool2d(maps.centred, CELLS)
        squares = functional.adaptive_avg_pool2d(maps.centred.square(), CELLS)
        deviations = log_deviation(squares - cells.square()).mean(3)  # (B, C, rows)
        means = cells.mean(3) + maps.mean[..., None]
        return torch.cat([means, deviations], 1).flatten(1)
