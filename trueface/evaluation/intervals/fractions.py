"""Intervals of fractions of independent images, and of areas under curves of so many images."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, ndtri

from trueface.evaluation.arrays import Floats
from trueface.evaluation.estimate import Interval
from trueface.evaluation.intervals.resampling import COVERAGE
from trueface.evaluation.intervals.scales import bounded_interval
from trueface.evaluation.metric import Scale

TAIL = (1 - COVERAGE) / 2
Z = float(ndtri((1 + COVERAGE) / 2))


def clopper_pearson(count: float, images: float) -> Interval:
    """Return the Clopper-Pearson interval of a fraction of independent images.

    Source: C. Clopper and E. Pearson, Biometrika 26(4), 1934.

    Args:
        count: images for which something holds; copies make it a fraction.
        images: all images.
    """
    unseen = 1 - TAIL ** (1 / max(images, 1))  # rate that shows in no image with a chance of 2.5 %
    if count <= 0:
        return Interval(0.0, unseen)
    if count >= images:
        return Interval(1 - unseen, 1.0)
    low = float(betaincinv(count, images - count + 1, TAIL))
    return Interval(low, float(betaincinv(count + 1, images - count, 1 - TAIL)))


def fraction_interval(value: float, count: float) -> Interval:
    """Return the interval of a fraction of so many independent images.

    Between 0 and 1 it is that of `wilson`, otherwise that of `clopper_pearson`.
    """
    certain = value <= 0 or value >= 1
    return clopper_pearson(value * count, count) if certain else wilson(value, count)


def wilson(value: float, count: float) -> Interval:
    """Return the 95 % interval of a fraction of independent images.

    Source: E. Wilson, Journal of the American Statistical Association 22(158), 1927.
    """
    low, high = wilson_bounds(np.array(value), np.array(max(count, 1)))
    return Interval(float(low), float(high))


def wilson_bounds(shares: Floats, images: NDArray[np.int64] | Floats) -> tuple[Floats, Floats]:
    """Return both ends of `wilson` of shares of so many images each, of any shape; NaN of none."""
    wide = Z**2
    middle = (images * shares + wide / 2) / (images + wide)
    half = np.sqrt(wide * (images * shares * (1 - shares) + wide / 4)) / (images + wide)
    # the ends of shares of 0 and 1 are these, up to rounding
    return np.fmin(np.maximum(middle - half, 0.0), shares), np.fmax(
        np.minimum(middle + half, 1.0), shares
    )


def hanley_mcneil(area: float, reals: int, fakes: int) -> Interval:
    """Return the 95 % interval of an AUC of so many images of each class.

    Source: J. Hanley and B. McNeil, Radiology 143(1), 1982, equation 2; the ends are taken on the
    logit scale, which keeps them within 0 … 1.
    """
    both, other = area / (2 - area), 2 * area**2 / (1 + area)
    spread = area * (1 - area) + (fakes - 1) * (both - area**2) + (reals - 1) * (other - area**2)
    error = math.sqrt(max(spread, 0.0) / (reals * fakes))
    if error == 0:  # without a wrong pair there is no spread: as of one pair in as many images
        error = 1 / (reals + fakes)
    low, high = bounded_interval(area, Z * error, Scale.SHARE)
    return Interval(min(low, area), max(high, area))
