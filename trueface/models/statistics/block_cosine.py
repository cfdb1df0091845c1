"""Statistics of the 8-by-8 cosine coefficients: after O. Giudice et al., arXiv 2101.09781.

They take the spread of each of the 63 AC coefficients over the blocks of JPEG's grid. Here it
stands beside the mean magnitude, and beside how often a coefficient vanishes, in luma and chroma.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from trueface.models.statistics.colour import luma_chroma, refuse_small
from trueface.models.statistics.cosine_transform import cosine_matrix
from trueface.models.statistics.families import alike

SIDE = 8  # of a block, in pixels
LEAST_SIDE = 64  # of an image, in pixels: 64 blocks
VANISHED = 0.5  # grey levels: a coefficient below it is 0 when rounded
EPSILON = 1e-2  # grey levels


class BlockCosine(nn.Module):
    """Of each coefficient of Y, Cb, Cr: log mean magnitude, log deviation, share below 0.5.

    Blocks start at the first pixel, as those of JPEG do; what is left at the right and at the
    bottom is not used. The shares have no gradient.
    """

    basis: Tensor
    width = 3 * 3 * SIDE * SIDE

    def __init__(self) -> None:
        super().__init__()
        row = cosine_matrix(SIDE)
        basis = torch.einsum("ui,vj->uvij", row, row).reshape(SIDE * SIDE, 1, SIDE, SIDE)
        self.register_buffer("basis", basis, persistent=False)

    def weights(self) -> Tensor:
        """Return how much each number counts, (width,): all alike."""
        return alike(self.width)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the statistics (B, 576) of pixels (B, 3, H, W) in 0 … 255.

        Raises:
            JobError: an image is smaller than 64 by 64 pixels.
        """
        refuse_small(pixels, LEAST_SIDE, "statistics of cosine blocks")
        return torch.cat([self._of_one(image) for image in torch.split(pixels, 1)])

    def _of_one(self, image: Tensor) -> Tensor:
        """Return the statistics (1, 576) of an image (1, 3, H, W): its blocks stay in the caches."""
        planes = luma_chroma(image).transpose(0, 1)  # (3, 1, H, W)
        blocks = functional.conv2d(planes, self.basis, stride=SIDE).flatten(2)  # (3, 64, blocks)
        magnitude = blocks.abs()
        # in two passes: torch's own deviation is ten times slower
        variance = (blocks - blocks.mean(2, keepdim=True)).square().mean(2)
        vanished = (magnitude < VANISHED).float().mean(2)
        logs = (magnitude.mean(2) + EPSILON).log(), (variance.sqrt() + EPSILON).log()
        return torch.stack([*logs, vanished], 1).reshape(1, self.width)
