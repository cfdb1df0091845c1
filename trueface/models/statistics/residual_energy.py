"""Where the noise of an image lies: mean magnitude of a residual on a grid.

A camera's noise follows the light, a generator's does not; in aligned faces its place tells more.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from trueface.models.statistics.colour import refuse_small, whole_luma_chroma
from trueface.models.statistics.families import alike

CELLS = 16  # of the usual grid, on each side
CELL_SIDE = 8  # of a cell, in pixels, at least
EPSILON = 0.05  # grey levels
SQUARE = ((-0.25, 0.5, -0.25), (0.5, -1.0, 0.5), (-0.25, 0.5, -0.25))  # of the spatial rich model


class ResidualEnergy(nn.Module):
    """Log mean magnitude of the 3-by-3 square residual of Y, Cb, Cr in cells.

    Args:
        cells: of the grid, on each side; an even number.
        folded: left and right count as the same cell, so that a mirrored image has the same numbers.
    """

    kernel: Tensor

    def __init__(self, cells: int = CELLS, *, folded: bool = True) -> None:
        super().__init__()
        self.register_buffer("kernel", torch.tensor(SQUARE)[None, None], persistent=False)
        self.cells, self.folded = cells, folded
        self.width = 3 * cells * cells // (2 if folded else 1)

    def extra_repr(self) -> str:
        """Return what a body's fingerprint cannot see, where it is not the usual."""
        return "" if self.cells == CELLS and self.folded else f"{self.cells}, folded={self.folded}"

    def weights(self) -> Tensor:
        """Return how much each number counts, (width,): all alike."""
        return alike(self.width)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the logs (B, width) of pixels (B, 3, H, W) in 0 … 255.

        Raises:
            JobError: a cell of an image is smaller than 8 by 8 pixels.
        """
        refuse_small(pixels, CELL_SIDE * self.cells, "energies of residuals")
        planes = whole_luma_chroma(pixels).flatten(0, 1)[:, None]  # (B·3, 1, H, W)
        magnitude = functional.conv2d(planes, self.kernel).abs()
        energies = functional.adaptive_avg_pool2d(magnitude, self.cells)
        if self.folded:
            left, right = energies.chunk(2, 3)
            energies = (left + right.flip(3)) / 2
        return (energies + EPSILON).log().reshape(len(pixels), self.width)
