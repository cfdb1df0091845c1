"""Where the noise of an image lies: mean magnitude of a residual on a grid.

A camera's noise follows the light, a generator's does not; in aligned faces its place tells more.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from trueface.models.statistics.colour import refuse_small, whole_luma_chroma
from trueface.models.statistics.families import alike

CELLS = 16  # of the grid, on each side; an even number
LEAST_SIDE = 128  # of an image, in pixels: 8 by 8 in a cell
EPSILON = 0.05  # grey levels
SQUARE = ((-0.25, 0.5, -0.25), (0.5, -1.0, 0.5), (-0.25, 0.5, -0.25))  # of the spatial rich model


class ResidualEnergy(nn.Module):
    """Log mean magnitude of the 3-by-3 square residual of Y, Cb, Cr in cells, left and right alike."""

    kernel: Tensor
    width = 3 * CELLS * CELLS // 2

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", torch.tensor(SQUARE)[None, None], persistent=False)

    def weights(self) -> Tensor:
        """Return how much each number counts, (width,): all alike."""
        return alike(self.width)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the logs (B, 384) of pixels (B, 3, H, W) in 0 … 255.

        Raises:
            JobError: an image is smaller than 128 by 128 pixels.
        """
        refuse_small(pixels, LEAST_SIDE, "energies of residuals")
        planes = whole_luma_chroma(pixels).flatten(0, 1)[:, None]  # (B·3, 1, H, W)
        magnitude = functional.conv2d(planes, self.kernel).abs()
        left, right = functional.adaptive_avg_pool2d(magnitude, CELLS).chunk(2, 3)
        return ((left + right.flip(3)) / 2 + EPSILON).log().reshape(len(pixels), self.width)
