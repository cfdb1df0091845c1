"""Adaptive instance normalisation: maps that take over the mean and deviation of others."""

from torch import Tensor

EPSILON = 1e-5  # added to the variance


def adopt_statistics(maps: Tensor, others: Tensor) -> Tensor:
    """Return `maps` with the mean and standard deviation that `others` have, channel by channel.

    AdaIN of X. Huang and S. Belongie, ICCV 2017, arXiv 1703.06868, equation 8. The variance is over all
    positions and divided by their number, so that maps of one position have one, too; between maps of
    the same size that gives the same as dividing by one less, but for epsilon.

    What it leaves of `maps` in each channel is a pattern without a mean: the mean over positions is
    that of `others` alone.

    Args:
        maps: (B, C, H, W).
        others: (B, C, h, w).

    Returns:
        (B, C, H, W) float32.
    """
    mean, deviation = _statistics(maps)
    wanted_mean, wanted_deviation = _statistics(others)
    return (maps.float() - mean) / deviation * wanted_deviation + wanted_mean


def _statistics(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each channel, (B, C, 1, 1) float32 each."""
    variance = maps.float().var((2, 3), correction=0, keepdim=True)
    return maps.float().mean((2, 3), keepdim=True), (variance + EPSILON).sqrt()
