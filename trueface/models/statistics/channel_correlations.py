"""How the channels of a map go together: second-order texture statistics.

L. Gatys et al., arXiv 1505.07376, describe texture by the Gram matrices of a network's blocks; Z. Liu
et al., arXiv 2002.00133, tell generated faces by them. Correlations do not follow the contrast, as
Gram matrices do. Wide maps are first projected to 24 channels: a random orthonormal projection
keeps distances (W. Johnson, J. Lindenstrauss, 1984), and a matrix of 24 has 276 correlations.
"""

import numpy as np
import torch
from torch import Tensor, nn

from trueface.models.statistics.block_moments import CentredMap, log_deviation
from trueface.models.statistics.families import alike

PROJECTED = 24  # channels
EPSILON = 1e-6  # of a variance


class Correlations(nn.Module):
    """Correlations of the channels of a map: in one place, and between neighbouring places.

    The first family are the log deviations of the k projected channels and their correlations.
    The second are the correlations of a place with the next one in its row, both directions
    alike, and with the one below it; the correlation in one place is subtracted, so that they say
    how fast it falls off. A generator that enlarges its maps leaves a fall of its own.

    The projection depends on the number of channels alone, so that every network of these blocks
    has the same one, now and when its checkpoint is read.

    Args:
        channels: of the maps.
    """

    projection: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("projection", projection(channels), persistent=False)
        self.kept = self.projection.shape[1]

    @property
    def width(self) -> int:
        """How many numbers a map has."""
        return sum(self._widths)

    def weights(self) -> Tensor:
        """Return how much each number counts, (width,), in two families."""
        return torch.cat([alike(width) for width in self._widths])

    def forward(self, maps: CentredMap) -> Tensor:
        """Return the numbers of each map, (B, width)."""
        places = maps.centred.permute(0, 2, 3, 1) @ self.projection  # (B, h, w, k)
        same = _products(places, places)
        variances = same.diagonal(dim1=1, dim2=2)
        scale = (variances + EPSILON).rsqrt()
        scales = scale[:, :, None] * scale[:, None, :]
        right = _products(places[:, :, 1:], places[:, :, :-1])
        below = _products(places[:, 1:], places[:, :-1])
        upper = torch.triu_indices(self.kept, self.kept, 1, device=same.device)
        whole = torch.triu_indices(self.kept, self.kept, device=same.device)
        correlations = same * scales
        fall = (right + right.transpose(1, 2)) / 2 * scales - correlations
        numbers = (
            log_deviation(variances),
            correlations[:, upper[0], upper[1]],
            fall[:, whole[0], whole[1]],
            (below * scales - correlations).flatten(1),
        )
        return torch.cat(numbers, 1)

    @property
    def _widths(self) -> tuple[int, int]:
        triangle = self.kept * (self.kept + 1) // 2
        return triangle, triangle + self.kept**2


def _products(these: Tensor, those: Tensor) -> Tensor:
    """Return the mean products of channels, (B, k, k), of two maps (B, h, w, k) of mean 0."""
    first, second = these.flatten(1, 2), those.flatten(1, 2)
    return first.transpose(1, 2) @ second / first.shape[1]


def projection(channels: int, kept: int = PROJECTED) -> Tensor:
    """Return orthonormal columns (channels, kept), random but fixed; of few channels the identity."""
    if channels <= kept:
        return torch.eye(channels)
    draws = np.random.default_rng(channels).standard_normal((channels, kept))
    columns, triangle = np.linalg.qr(draws)
    return torch.from_numpy(columns * np.sign(np.diag(triangle))).float()
