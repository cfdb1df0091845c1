"""Structural similarity (Z. Wang, A. Bovik, H. Sheikh, E. Simoncelli, IEEE TIP 13(4), 2004, eq. 13)."""

import torch
import torch.nn.functional as F  # noqa: N812  # its usual name
from torch import Tensor

WINDOW = 11  # pixels; the paper's
SIGMA = 1.5  # of the Gaussian window, in pixels; the paper's
K1, K2 = 0.01, 0.03  # the paper's


def ssim(first: Tensor, second: Tensor) -> Tensor:
    """Return the mean structural similarity of each image to its partner, (N,), float64, at most 1.

    The mean goes over channels and over the places where the whole window lies in the image, without
    any border added; others pad, and differ by some 1e-4. Images whose sides are below 11 pixels get the largest
    odd window that they hold. It is computed of intensities in 0 … 1: means of both signs, as in
    [-1, 1], would make its factor of luminance meaningless.

    Args:
        first: N×C×H×W in [-1, 1].
        second: its partners, likewise.
    """
    if first.shape != second.shape:
        raise ValueError(f"images {tuple(first.shape)} have no partners {tuple(second.shape)}")
    n, channels, height, width = first.shape
    side = min(WINDOW, height, width)
    window = _gaussian(side - 1 + side % 2).to(first.device)

    def blurred(maps: Tensor) -> Tensor:
        flat = maps.reshape(n * channels, 1, height, width)
        return F.conv2d(F.conv2d(flat, window[None, None, :, None]), window[None, None, None])

    a, b = (first.double() + 1) / 2, (second.double() + 1) / 2
    mean_a, mean_b = blurred(a), blurred(b)
    var_a = blurred(a * a) - mean_a**2
    var_b = blurred(b * b) - mean_b**2
    covariance = blurred(a * b) - mean_a * mean_b
    c1, c2 = K1**2, K2**2
    likeness = ((2 * mean_a * mean_b + c1) * (2 * covariance + c2)) / (
        (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    )
    return likeness.reshape(n, -1).mean(1)


def _gaussian(side: int) -> Tensor:
    offsets = torch.arange(side, dtype=torch.float64) - (side - 1) / 2
    weights = torch.exp(-(offsets**2) / (2 * SIGMA**2))
    return weights / weights.sum()
