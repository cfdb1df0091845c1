"""Intervals over the population of sources, or of the videos of one source: one method for each kind of metric.

Method: Student's t with the error of leaving one part out at a time, except where that says too little. A new source
also has new images, so the interval contains that over images. With few images per source, or few errors, leaving one
source out hardly changes the value.
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trueface.evaluation import curves
from trueface.evaluation.arrays import Floats
from trueface.evaluation.estimate import Interval
from trueface.evaluation.intervals.jackknife import (
    JackknifeDesign,
    StandardError,
    standard_error,
    variances,
)
from trueface.evaluation.intervals.scales import bounded_interval
from trueface.evaluation.metric import IntervalMethod, Metric, Scale
from trueface.evaluation.weighted_scores import ScoreTable, weight_scores

ALLOWED = curves.FPR_PERCENT / 100


class SourceSample(NamedTuple):
    """The data for an interval over sources."""

    value: float
    by_images: Interval | None  # over images of these sources; None: not known
    table: ScoreTable
    design: JackknifeDesign  # parts that are left out of the table
    left: Floats  # (F,) the metric on the remaining rows; the first is that of the whole table


def interval_over_sources(metric: Metric, sample: SourceSample) -> Interval:
    """Return the interval of a metric over the population of sources."""
    interval = _METHODS.get(metric.interval, _jackknife)(metric, sample)
    return interval if sample.by_images is None else interval.merge(sample.by_images)


def tpr_interval(
    value: float, fake: NDArray[np.bool_], logits: Floats, design: JackknifeDesign
) -> Interval:
    """Return the 95 % interval of TPR at 1 % FPR over the population of sources.

    Args:
        value: the rate.
        fake: (N,) both classes.
        logits: (N,) higher = more fake.
        design: rows of the table that are left out together.
    """
    reals = np.sort(logits[~fake])[::-1]
    above = logits > curves.threshold_at_fpr(reals)
    accused = _error_of(above, ~fake, design)
    least, most = bounded_interval(ALLOWED, accused.half, Scale.SHARE)
    last = len(reals) - 1
    low = (
        _share_above(logits[fake], reals[int(least * len(reals))])
        if least * len(reals) >= 1
        else 0.0
    )
    high = _share_above(logits[fake], reals[min(math.ceil(most * len(reals)), last)])
    under, over = bounded_interval(value, _rate(above, fake, design).half, Scale.SHARE)
    return Interval(
        max(value - math.hypot(value - min(low, value), value - under), 0.0),
        min(value + math.hypot(max(high, value) - value, over - value), 1.0),
    )


def _jackknife(metric: Metric, sample: SourceSample) -> Interval:
    error = standard_error(sample.design, sample.left, even=not metric.pooled)
    return error.interval(sample.value, metric.scale)


def _fixed_fpr(_: Metric, sample: SourceSample) -> Interval:
    table = sample.table
    return tpr_interval(sample.value, table.fake, table.margins, sample.design)


def _calibration(_: Metric, sample: SourceSample) -> Interval:
    """Return the interval of a calibration error: wide rather than narrow.

    It is a sum of absolute gaps, and noise widens every gap by an amount that depends on the true gap. The
    low end subtracts the largest amount, that of a gap of zero: the mean of |noise| in each bin.
    """
    design, value = sample.design, sample.value
    tables = weight_scores(sample.table, design.weights, design.scale)
    gaps = np.concatenate([scores.gaps / scores.images[:, None] for scores in tables])
    half = standard_error(design, sample.left, even=False).half
    widened = float(np.sqrt(2 * variances(design, gaps) / np.pi).sum())
    return Interval(max(value - widened - half, 0.0), min(value + half, 1.0))


_METHODS: Mapping[IntervalMethod, Callable[[Metric, SourceSample], Interval]] = {
    IntervalMethod.FIXED_FPR: _fixed_fpr,
    IntervalMethod.CALIBRATION: _calibration,
}


def _error_of(
    exceeds_threshold: NDArray[np.bool_], reals: NDArray[np.bool_], design: JackknifeDesign
) -> StandardError:
    """Return the error of the fraction of reals above the threshold, as if it were 1 %."""
    error = _rate(exceeds_threshold, reals, design)
    share = float(exceeds_threshold[reals].mean())
    counts = (stratum.videos or stratum.pictures for stratum in design.strata if stratum.label == 0)
    if error.error == 0 or share == 0:
        binomial = math.sqrt(ALLOWED * (1 - ALLOWED) / max(min(counts), 1))
        return StandardError(error=binomial, freedom=error.freedom)
    return StandardError(error=error.error * ALLOWED / share, freedom=error.freedom)


def _rate(
    exceeds_threshold: NDArray[np.bool_], rows: NDArray[np.bool_], design: JackknifeDesign
) -> StandardError:
    weights = design.weights[:, rows].astype(np.float64)
    return standard_error(design, weights @ exceeds_threshold[rows] / weights.sum(1))


def _share_above(logits: Floats, threshold: float) -> float:
    return float(np.mean(logits > threshold))
