"""Intervals that stay within the limits of a measure."""

import math
import sys

from trueface.evaluation.estimate import Interval
from trueface.evaluation.metric import Scale

STEEPEST = 50.0  # on a logit or log scale: beyond it the end is the limit


def bounded_interval(value: float, half: float, scale: Scale) -> Interval:
    """Return both ends of an interval whose half width was `half` on the plain scale."""
    if half == 0:
        return Interval(value, value)
    match scale:
        case Scale.PLAIN:
            return Interval(value - half, value + half)
        case Scale.LOSS:
            if value <= 0:
                return Interval(0.0, half)
            factor = math.exp(min(half / value, STEEPEST))
            return Interval(value / factor, min(value * factor, sys.float_info.max))
        case Scale.SHARE | Scale.SHIFT:
            # map a shift in -1 … 1 to a fraction of its range
            share, width = (value, half) if scale is Scale.SHARE else ((value + 1) / 2, half / 2)
            steep = share * (1 - share)
            if steep <= 0:
                low, high = max(share - width, 0.0), min(share + width, 1.0)
            else:
                middle, move = math.log(share / (1 - share)), min(width / steep, STEEPEST)
                low, high = _share(middle - move), _share(middle + move)
            is_share = scale is Scale.SHARE
            return Interval(low, high) if is_share else Interval(2 * low - 1, 2 * high - 1)


def _share(logit: float) -> float:
    return 1 / (1 + math.exp(-logit)) if logit > -700 else 0.0
