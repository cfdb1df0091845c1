"""Metrics of the probabilities given by the logits."""

import numpy as np

from trueface.evaluation.intervals import (
    Floats,
    IntervalEstimate,
    Scale,
    correct_bias,
    interval,
    standard_error,
    variances,
)
from trueface.evaluation.metric import Metric, SourceSample
from trueface.evaluation.weighted_scores import weighted


def _unbiased_interval(value: float, resampled: Floats) -> IntervalEstimate:
    return interval(value, correct_bias(value, resampled))


def _wide_interval(_: Metric, sample: SourceSample) -> IntervalEstimate:
    """Return a calibration error with its interval over sources: wide rather than narrow.

    It is a sum of absolute gaps, and noise widens every gap by an amount that depends on the true gap. The
    low end subtracts the largest amount, that of a gap of zero: the mean of |noise| in each bin.
    """
    design, value = sample.design, float(sample.by_images.value)
    tables = weighted(sample.table, design.weights, design.scale)
    gaps = np.concatenate([scores.gaps / scores.images[:, None] for scores in tables])
    half = standard_error(design, sample.left, even=False).half
    widened = float(np.sqrt(2 * variances(design, gaps) / np.pi).sum())
    return IntervalEstimate(
        value=value, low=max(value - widened - half, 0.0), high=min(value + half, 1.0)
    )


ECE = Metric(
    name="ece",
    title="Expected calibration error",
    short="ECE",
    low=True,
    compute=lambda scores: np.abs(scores.gaps).sum(1) / scores.images,
    needs=frozenset(),
    pooled=True,
    image_interval=_unbiased_interval,
    source_interval=_wide_interval,
)
LOSS = Metric(
    name="loss",
    title="Loss",
    low=True,
    compute=lambda scores: scores.loss / scores.images,
    scale=Scale.LOSS,
    needs=frozenset(),
    pooled=True,
    in_report=False,  # it has no upper end, and ECE says more of two models' confidence
)
