"""The cosine transform of a whole image: J. Frank et al., arXiv 2003.08685, section 3.

Generators that enlarge by transposed convolutions leave peaks and a level of their own at high
frequencies. A linear layer on the log magnitudes is the paper's own simplest detector.
"""

import math

import torch
from torch import Tensor, nn

from trueface.models.statistics.colour import luma
from trueface.models.statistics.families import alike

EPSILON = 1e-2  # grey levels: above what float32 rounds a transform of 256 by 256 pixels


def cosine_matrix(size: int) -> Tensor:
    """Return the orthonormal DCT-II as a matrix (size, size): its rows are the frequencies."""
    place = torch.arange(size, dtype=torch.float64)
    angles = torch.pi / size * (place[None, :] + 0.5) * place[:, None]
    matrix = math.sqrt(2 / size) * torch.cos(angles)
    matrix[0] /= math.sqrt(2)
    return matrix.float()


class CosineTransform(nn.Module):
    """Log magnitudes of the 2-D DCT-II of the luma of square images of one size.

    Args:
        side: of an image, in pixels.
    """

    basis: Tensor

    def __init__(self, side: int) -> None:
        super().__init__()
        self.register_buffer("basis", cosine_matrix(side), persistent=False)

    @property
    def width(self) -> int:
        """How many numbers an image has."""
        return self.basis.shape[0] ** 2

    def weights(self) -> Tensor:
        """Return how much each number counts, (width,): all alike."""
        return alike(self.width)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return ln(|coefficient| + 0.01), (B, side²), of pixels (B, 3, side, side) in 0 … 255."""
        coefficients = self.basis @ luma(pixels) @ self.basis.T  # (B, side, side)
        return (coefficients.abs() + EPSILON).log().flatten(1)
