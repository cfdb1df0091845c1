"""Metrics of the probabilities given by the logits."""

import numpy as np

from trueface.evaluation.metric import IntervalMethod, Metric, Scale

ECE = Metric(
    name="ece",
    title="Expected calibration error",
    short="ECE",
    low=True,
    compute=lambda scores: np.abs(scores.gaps).sum(1) / scores.images,
    needs=frozenset(),
    pooled=True,
    interval=IntervalMethod.CALIBRATION,
)
LOSS = Metric(
    name="loss",
    title="Loss",
    low=True,
    compute=lambda scores: scores.loss / scores.images,
    scale=Scale.LOSS,
    needs=frozenset(),
    pooled=True,
    interval=IntervalMethod.MEAN,
    in_report=False,  # it has no upper end, and ECE says more of two models' confidence
)
