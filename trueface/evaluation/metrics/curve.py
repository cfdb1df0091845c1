"""Metrics of the order of the scores, whatever the threshold: areas and points of curves."""

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from trueface.evaluation import curves
from trueface.evaluation.intervals import (
    Floats,
    IntervalEstimate,
    JackknifeDesign,
    Scale,
    StandardError,
    ci_bounds,
    standard_error,
)
from trueface.evaluation.metric import Metric, SourceSample, jackknife

ALLOWED = curves.FPR_PERCENT / 100


def tpr_interval(
    value: float, fake: NDArray[np.bool_], logits: Floats, of: JackknifeDesign
) -> IntervalEstimate:
    """Return TPR at 1 % FPR with its 95 % interval over the population of sources.

    Args:
        value: the rate.
        fake: (N,) both classes.
        logits: (N,) higher = more fake.
        of: what is left out of the table.
    """
    reals = np.sort(logits[~fake])[::-1]
    above = logits > curves.threshold_at_fpr(reals)
    accused = _error_of(above, ~fake, of)
    least, most = ci_bounds(ALLOWED, accused.half, Scale.SHARE)
    last = len(reals) - 1
    low = (
        _share_above(logits[fake], reals[int(least * len(reals))])
        if least * len(reals) >= 1
        else 0.0
    )
    high = _share_above(logits[fake], reals[min(math.ceil(most * len(reals)), last)])
    under, over = ci_bounds(value, _rate(above, fake, of).half, Scale.SHARE)
    return IntervalEstimate(
        value=value,
        low=max(value - math.hypot(value - min(low, value), value - under), 0.0),
        high=min(value + math.hypot(max(high, value) - value, over - value), 1.0),
    )


def rate_difference(first: IntervalEstimate, second: IntervalEstimate) -> IntervalEstimate:
    """Return by how much one such rate exceeds another; models are taken to err independently."""
    value = second.value - first.value
    return IntervalEstimate(
        value=value,
        low=value - math.hypot(second.value - second.low, first.high - first.value),
        high=value + math.hypot(second.high - second.value, first.value - first.low),
    )


def _error_of(
    above: NDArray[np.bool_], reals: NDArray[np.bool_], of: JackknifeDesign
) -> StandardError:
    """Return the error of the fraction of reals above the threshold, as if it were 1 %."""
    error = _rate(above, reals, of)
    share = float(above[reals].mean())
    pictures = max(min(stratum.pictures for stratum in of.strata if stratum.label == 0), 1)
    if error.error == 0 or share == 0:
        binomial = math.sqrt(ALLOWED * (1 - ALLOWED) / pictures)
        return StandardError(error=binomial, freedom=error.freedom)
    return StandardError(error=error.error * ALLOWED / share, freedom=error.freedom)


def _rate(above: NDArray[np.bool_], rows: NDArray[np.bool_], of: JackknifeDesign) -> StandardError:
    weights = of.weights[:, rows].astype(np.float64)
    return standard_error(of, weights @ above[rows] / weights.sum(1))


def _share_above(logits: Floats, threshold: float) -> float:
    return float(np.mean(logits > threshold))


def _either_interval(metric: Metric, sample: SourceSample) -> IntervalEstimate:
    """Return a value with all that its intervals over images and over sources hold.

    An equal error rate is a step function of its images. With few images per source, leaving one source out
    changes it by zero or by a step, which says too little about its spread.
    """
    sources, images = jackknife(metric, sample), sample.by_images
    return replace(sources, low=min(sources.low, images.low), high=max(sources.high, images.high))


def _of_threshold(_: Metric, sample: SourceSample) -> IntervalEstimate:
    table = sample.table
    return tpr_interval(sample.by_images.value, table.fake, table.margins, sample.design)


AUC = Metric(
    name="auc",
    title="AUC",
    compute=lambda scores: curves.area(scores.curve),
)
AP = Metric(
    name="ap",
    title="Average precision",
    short="AP",
    compute=lambda scores: curves.average_precision(scores.curve),
)
EER = Metric(
    name="eer",
    title="Equal error rate",
    short="EER",
    low=True,
    compute=lambda scores: curves.equal_error_rate(scores.curve),
    percent=True,
    source_interval=_either_interval,
)
TPR_AT_1_FPR = Metric(
    name="tpr_at_1fpr",
    title="TPR at 1 % FPR",
    short="TPR at 1 % FPR",
    compute=lambda scores: curves.tpr_at_fpr(scores.curve),
    of_fakes=True,
    percent=True,
    source_interval=_of_threshold,
    difference=rate_difference,
)
