"""Intervals that stay within the limits of their measure: a fraction within 0 … 1, a loss above 0."""

import math
from enum import StrEnum

from scipy.special import ndtri

from trueface.evaluation.bootstrap import COVERAGE, Measure
from trueface.evaluation.source_variance import Error

STEEPEST = 50.0  # on a logit or log scale: beyond it the end is the limit


class Scale(StrEnum):
    """The limits of a measure, and the scale on which its error is symmetric."""

    SHARE = "share"  # 0 … 1: logit
    LOSS = "loss"  # from 0 on: logarithm
    SHIFT = "shift"  # of fractions, -1 … 1: the inverse of the hyperbolic tangent
    PLAIN = "plain"


def by_source(value: float, error: Error, scale: Scale) -> Measure:
    """Return a value with its 95 % interval, within the limits of its scale."""
    low, high = ends(value, error.half, scale)
    return Measure(value=value, low=min(low, value), high=max(high, value))


def ends(value: float, half: float, scale: Scale) -> tuple[float, float]:
    """Return both ends of an interval whose half width was `half` on the plain scale."""
    if half == 0:
        return value, value
    match scale:
        case Scale.PLAIN:
            return value - half, value + half
        case Scale.LOSS:
            if value <= 0:
                return 0.0, half
            factor = math.exp(min(half / value, STEEPEST))
            return value / factor, value * factor
        case Scale.SHARE | Scale.SHIFT:
            # map a shift in -1 … 1 to a fraction of its range
            share, width = (value, half) if scale is Scale.SHARE else ((value + 1) / 2, half / 2)
            steep = share * (1 - share)
            if steep <= 0:
                low_high = max(share - width, 0.0), min(share + width, 1.0)
            else:
                middle, move = math.log(share / (1 - share)), min(width / steep, STEEPEST)
                low_high = _share(middle - move), _share(middle + move)
            return low_high if scale is Scale.SHARE else (2 * low_high[0] - 1, 2 * low_high[1] - 1)


def at_limit(value: float, pictures: int) -> Measure:
    """Return a fraction of 0 or 1 that did not vary, with the Clopper-Pearson interval.

    Source: C. Clopper and E. Pearson, Biometrika 26(4), 1934: no error on n images.
    """
    open_ = 1 - ((1 - COVERAGE) / 2) ** (1 / max(pictures, 1))
    return Measure(
        value=value, low=1 - open_ if value >= 1 else 0.0, high=1.0 if value >= 1 else open_
    )


def unvaried(value: float, pictures: int) -> Measure:
    """Return a fraction whose resamples are all equal, with the interval for so few images.

    Between 0 and 1 it is `wilson`'s, else that of `at_limit`.
    """
    return at_limit(value, pictures) if value <= 0 or value >= 1 else wilson(value, pictures)


def wilson(value: float, pictures: int) -> Measure:
    """Return a fraction of independent images with its 95 % interval.

    Source: E. Wilson, Journal of the American Statistical Association 22(158), 1927.
    """
    count, wide = max(pictures, 1), float(ndtri((1 + COVERAGE) / 2)) ** 2
    middle = (count * value + wide / 2) / (count + wide)
    half = math.sqrt(wide * (count * value * (1 - value) + wide / 4)) / (count + wide)
    return Measure(value=value, low=max(middle - half, 0.0), high=min(middle + half, 1.0))


def _share(logit: float) -> float:
    return 1 / (1 + math.exp(-logit)) if logit > -700 else 0.0
