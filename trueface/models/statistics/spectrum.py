"""The azimuthal mean of the power spectrum: R. Durall et al., arXiv 2003.01826, section 3.

Upsampling in a generator bends the profile of an image's power over the spatial frequency.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from trueface.models.statistics.colour import luma_chroma, refuse_small
from trueface.models.statistics.families import alike

BINS = 180  # of a profile, from frequency 0 to the corner: a circle of its own each, at 256 pixels
LEAST_SIDE = 32  # of an image, in pixels
EPSILON = 1e-4  # of power; pixels are in grey levels and the transform is orthonormal


class RadialSpectrum(nn.Module):
    """Log power of Y, Cb, Cr by distance from frequency 0, at 180 places of images of any size."""

    width = 3 * BINS

    def weights(self) -> Tensor:
        """Return how much each number counts, (width,): all alike."""
        return alike(self.width)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return ln(power), (B, 540), of pixels (B, 3, H, W) in 0 … 255.

        Raises:
            JobError: an image is smaller than 32 by 32 pixels.
        """
        refuse_small(pixels, LEAST_SIDE, "power spectra")
        planes = luma_chroma(pixels)
        power = torch.fft.rfft2(planes, norm="ortho").abs().square().flatten(2)  # (B, 3, H·(W/2+1))
        circle, share = _circles(planes.shape[-2], planes.shape[-1])
        shares = share.to(power)
        sums = power.new_zeros(*power.shape[:2], int(circle.max()) + 1)
        sums = sums.index_add(2, circle.to(power.device), power * shares)
        counts = torch.zeros_like(sums[0, 0]).index_add(0, circle.to(power.device), shares)
        profile = (sums / counts + EPSILON).log()
        return functional.interpolate(profile, BINS, mode="linear", align_corners=True).flatten(1)


def _circles(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return the circle of each coefficient of `rfft2`, and how many coefficients it stands for."""
    longer = max(height, width)
    vertical = torch.fft.fftfreq(height)[:, None]
    horizontal = torch.fft.rfftfreq(width)[None, :]
    circle = (torch.hypot(vertical, horizontal) * longer).round().long()
    share = torch.full_like(circle, 2)
    share[:, 0] = 1  # columns that a real image's spectrum holds once
    if width % 2 == 0:
        share[:, -1] = 1
    return circle.flatten(), share.flatten()
