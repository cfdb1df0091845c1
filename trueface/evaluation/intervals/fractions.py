"""Intervals of fractions of independent images."""

import math

from scipy.special import betaincinv, ndtri

from trueface.evaluation.estimate import Interval
from trueface.evaluation.intervals.resampling import COVERAGE

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
    images, wide = max(count, 1), Z**2
    middle = (images * value + wide / 2) / (images + wide)
    half = math.sqrt(wide * (images * value * (1 - value) + wide / 4)) / (images + wide)
    # the ends of fractions of 0 and 1 are these, up to rounding
    return Interval(min(max(middle - half, 0.0), value), max(min(middle + half, 1.0), value))
