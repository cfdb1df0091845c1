"""The interval of the expected calibration error, a sum of absolute gaps: noise widens every gap.

No plain bootstrap contains both a true error of 0 and a large one: Y. Sun, P. Chaudhari, I. Barnett and E. Dobriban,
ICLR 2024, arXiv 2408.08998.
"""

import math

import numpy as np

from trueface.evaluation.estimate import Interval
from trueface.evaluation.intervals.fractions import Z, clopper_pearson
from trueface.evaluation.weighted_scores import ScoreTable
from trueface.runtime.rng import numpy_rng

DRAWS = 1000
CALIBRATED = 0.985  # the point of the errors that a calibrated model shows
STEEP = 2.3  # standard errors below the overall gap; together with CALIBRATED about 97.5 %
PSEUDO = 1.5  # images in each bin, at the bin's own confidence
SEEN = 0.3  # the same, right and wrong each, of an accuracy that is not that of the confidences


def calibration_interval(value: float, table: ScoreTable, effect: float) -> Interval:
    """Return the interval of a calibration error over images.

    Low: the larger one of two bounds. The first is the error minus the 98.5 % point of the errors of a calibrated
    model with these confidences. Right and wrong are drawn from them (consistency resampling, J. Bröcker and
    L. Smith, Weather and Forecasting 22(3), 2007). The second is |accuracy - mean confidence|, which is at most
    the error, minus 2.3 standard errors. It is tight for a detector that is unsure of itself throughout. The first
    one is at most the error minus 1.96 standard errors, because a sure model shows next to no errors of its own.
    High: the error plus 1.96 standard errors, from the variances of the bins' accuracies, with 1.5 pseudo images at
    the bin's own confidence, and of the bins' shares. It reaches the distances of the mean confidence from both
    ends of the accuracy's Clopper-Pearson interval, which counts for a sure model without an error.

    Args:
        value: the error.
        table: N images.
        effect: design effect of their copies.
    """
    images = len(table.labels)
    counted = np.bincount(table.bins)
    held = counted > 0
    count, gaps = counted[held], table.summed_gaps[: len(counted)][held]
    right = np.bincount(table.bins, table.correct)[held]
    expected = right - gaps
    mean = np.clip(expected / count, 0.0, 1.0)
    drawn = numpy_rng("calibrated model", 0).binomial(count, mean, (DRAWS, len(count)))
    calibrated = np.abs(drawn - expected).sum(1) / images
    accuracy = (right + PSEUDO * mean) / (count + PSEUDO)
    within = float(np.sum(count * accuracy * (1 - accuracy))) / images**2
    squares = float(np.sum(gaps**2 / count)) / images
    between = max(squares - value**2, 0.0) / images
    overall = float(gaps.sum()) / images
    spread = max(squares - overall**2, 0.0) / images
    wider = math.sqrt(effect)
    known = (right + SEEN) / (count + 2 * SEEN)  # an accuracy unlike the confidences
    noise = float(np.sum(count * known * (1 - known))) / images**2
    half = Z * wider * math.sqrt(noise + between)
    by_draws = value - max(wider * float(np.quantile(calibrated, CALIBRATED)), half)
    by_mean = abs(overall) - STEEP * wider * math.sqrt(max(within, noise) + spread)
    high = value + Z * wider * math.sqrt(within + between)
    hits = float(right.sum())
    least, most = clopper_pearson(hits / effect, images / effect)
    sure = float(expected.sum()) / images
    high = max(high, sure - least, most - sure)
    return Interval(min(max(by_draws, by_mean, 0.0), value), min(high, 1.0))
