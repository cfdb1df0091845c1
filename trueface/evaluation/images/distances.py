"""Distances of each image to its partner, in units of [-1, 1]: one grey level is 2/255.

The original of seed 003 (seclab-yonsei/Anti-disrupt) counts batches with a large error and calls them
images, and its L∞ is the smallest difference. Here every measure is one number an image, so that no
batch size changes it.
"""

import torch
from torch import Tensor

PEAK = 2.0  # from black, -1, to white, 1
DISRUPTED = 0.05  # mean squared error from which an image counts as disrupted: the original's


def mse(first: Tensor, second: Tensor) -> Tensor:
    """Return the mean squared error of each image, (N,), float64.

    Args:
        first: N×C×H×W in [-1, 1].
        second: its partners, likewise.
    """
    return _difference(first, second).square().mean(1)


def l1(first: Tensor, second: Tensor) -> Tensor:
    """Return the mean absolute error of each image, (N,), float64."""
    return _difference(first, second).abs().mean(1)


def linf(first: Tensor, second: Tensor) -> Tensor:
    """Return the largest absolute difference of each image, (N,), float64."""
    return _difference(first, second).abs().amax(1)


def psnr(first: Tensor, second: Tensor) -> Tensor:
    """Return the peak signal-to-noise ratio of each image in dB, (N,), float64; equal images: inf."""
    return 10 * torch.log10(PEAK**2 / mse(first, second))


def share_above(values: Tensor, threshold: float = DISRUPTED) -> float:
    """Return the share of images whose value exceeds a threshold, in 0 … 1.

    Args:
        values: one an image, (N,).
        threshold: .05 of the mean squared error, as in the original.

    Raises:
        ValueError: there is no image.
    """
    if not values.numel():
        raise ValueError("no image: a share of none is no number")
    return float((values > threshold).double().mean())


def _difference(first: Tensor, second: Tensor) -> Tensor:
    if first.shape != second.shape:
        raise ValueError(f"images {tuple(first.shape)} have no partners {tuple(second.shape)}")
    return (first.double() - second.double()).flatten(1)
