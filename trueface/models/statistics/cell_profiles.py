"""Means and deviations of a map by place: faces are upright and aligned, and so are their parts."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from trueface.models.statistics.block_moments import CentredMap, log_deviation
from trueface.models.statistics.families import alike

CELLS = 4  # of the grid, on each side; an even number


class CellProfiles(nn.Module):
    """Mean and log deviation of each channel in each cell of a 4-by-4 grid, left and right alike.

    The two cells at the same distance from the vertical axis are averaged, so that a mirrored map
    has the same profiles. The deviation within a cell leaves out what changes slowly.

    Args:
        channels: of the map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.width = CELLS * CELLS * channels

    def weights(self) -> Tensor:
        """Return how much each number counts, (width,): all alike."""
        return alike(self.width)

    def forward(self, maps: CentredMap) -> Tensor:
        """Return the numbers of each map, (B, 16C)."""
        cells = functional.adaptive_avg_pool2d(maps.centred, CELLS)
        squares = functional.adaptive_avg_pool2d(maps.centred.square(), CELLS)
        means = cells + maps.mean[..., None, None]
        deviations = log_deviation(squares - cells.square())
        return torch.cat([_folded(means), _folded(deviations)], 1).flatten(1)


def _folded(cells: Tensor) -> Tensor:
    """Return the means of cells and their mirror images, (B, C, 4, 2)."""
    left, right = cells.chunk(2, 3)
    return (left + right.flip(3)) / 2
