"""How the channels of a map go together: second-order texture statistics.

L. Gatys et al., arXiv 1505.07376, describe texture by the Gram matrices of a network's blocks; Z. Liu
et al., arXiv 2002.00133, tell generated faces by them. Covariance matrices lie on a curved space, which
their logarithm makes flat: V. Arsigny et al., "Geometric means in a novel vector space structure on
symmetric positive-definite matrices", SIAM J. Matrix Anal. Appl. 29(1), 2007. Wide maps are first
projected to 24 channels: a random orthonormal projection keeps distances.
"""

import numpy as np
import torch
from torch import Tensor, nn

from trueface.models.statistics.block_moments import CentredMap
from trueface.models.statistics.families import alike

PROJECTED = 24  # channels
EPSILON = 1e-6  # of a variance
SHRINKAGE = 1e-3  # of the mean variance, added to each: a logarithm needs eigenvalues above 0


class Correlations(nn.Module):
    """Logarithms of covariances, and how fast correlations fall off between neighbouring places.

    The first family is the logarithm of the covariance matrix of the k projected channels. The
    second is the correlations of a place with the next one in its row, both directions alike, and
    with the one below it, less those in one place. A generator that enlarges its maps leaves a
    fall of its own.

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
        same, right, below = _neighbour_products(places)
        variances = same.diagonal(dim1=1, dim2=2)
        scale = (variances + EPSILON).rsqrt()
        scales = scale[:, :, None] * scale[:, None, :]
        rows, columns = torch.triu_indices(self.kept, self.kept, device=same.device)
        correlations = same * scales
        fall = (right + right.transpose(1, 2)) / 2 * scales - correlations
        numbers = (
            log_matrix(same)[:, rows, columns],
            fall[:, rows, columns],
            (below * scales - correlations).flatten(1),
        )
        return torch.cat(numbers, 1)

    @property
    def _widths(self) -> tuple[int, int]:
        triangle = self.kept * (self.kept + 1) // 2
        return triangle, triangle + self.kept**2


def log_matrix(covariances: Tensor) -> Tensor:
    """Return the logarithms (B, k, k) of covariance matrices (B, k, k), shrunk by 0.1 %."""
    wide = covariances.double()  # small eigenvalues follow the rounding of large ones
    level = wide.diagonal(dim1=1, dim2=2).mean(1) * SHRINKAGE + EPSILON
    shrunk = wide + level[:, None, None] * torch.eye(wide.shape[1]).to(wide)
    values, vectors = torch.linalg.eigh(shrunk)
    logarithms = values.clamp_min(EPSILON).log()
    matrices: Tensor = vectors * logarithms[:, None, :] @ vectors.transpose(1, 2)
    return matrices.to(covariances.dtype)


def _neighbour_products(places: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean products of channels, (B, k, k) each, of maps (B, h, w, k) of mean 0.

    Of a place with itself, of the next one in its row with it, and of the one below with it. Next
    places are taken as they lie in memory, without copies; what runs over the end of a row is taken
    off again.
    """
    _, height, width, _ = places.shape
    flat = places.flatten(1, 2)
    over = _products(places[:, 1:, 0], places[:, :-1, -1])
    right = (_products(flat[:, 1:], flat[:, :-1]) - over) / (height * (width - 1))
    below = _products(flat[:, width:], flat[:, :-width]) / ((height - 1) * width)
    return _products(flat, flat) / (height * width), right, below


def _products(these: Tensor, those: Tensor) -> Tensor:
    products: Tensor = these.transpose(1, 2) @ those
    return products


def projection(channels: int, kept: int = PROJECTED) -> Tensor:
    """Return orthonormal columns (channels, kept), random but fixed; of few channels the identity."""
    if channels <= kept:
        return torch.eye(channels)
    draws = np.random.default_rng(channels).standard_normal((channels, kept))
    columns, triangle = np.linalg.qr(draws)
    return torch.from_numpy(columns * np.sign(np.diag(triangle))).float()
