"""Metrics of the decisions: a logit above 0 calls an image fake."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    f1_score,
    precision_score,
    recall_score,
)

from trueface.evaluation.curves import Labels
from trueface.evaluation.intervals import Floats
from trueface.evaluation.metric import FAKE, Metric


def decided(
    score: Callable[[Labels, NDArray[np.bool_]], float],
) -> Callable[[Labels, Floats], float]:
    """Return a metric of labels and decisions as one of labels and logits."""
    return lambda labels, logits: score(labels, logits > 0)


ACCURACY = Metric(
    name="accuracy",
    title="Accuracy",
    short="accuracy",
    value=decided(accuracy_score),
    resampled=lambda scores: (scores.true_positives + scores.true_negatives) / scores.images,
    needs=frozenset(),
    pooled=True,
    percent=True,
)
BALANCED_ACCURACY = Metric(
    name="balanced_accuracy",
    title="Balanced accuracy",
    short="balanced accuracy",
    value=decided(balanced_accuracy_score),
    resampled=lambda scores: (
        (scores.true_positives / scores.fakes + scores.true_negatives / scores.reals) / 2
    ),
    percent=True,
)
PRECISION = Metric(
    name="precision",
    title="Precision",
    value=decided(precision_score),
    resampled=lambda scores: (
        scores.true_positives / (scores.true_positives + scores.false_positives)
    ),
    undefined=lambda _, called: "" if called.any() else "no image was called fake",
    percent=True,
    in_report=False,  # its table has F1
)
RECALL = Metric(
    name="recall",
    title="Recall",
    value=decided(recall_score),
    resampled=lambda scores: scores.true_positives / scores.fakes,
    needs=frozenset({FAKE}),
    of_fakes=True,
    percent=True,
    in_report=False,
)
F1 = Metric(
    name="f1",
    title="F1 score",
    short="F1",
    value=decided(f1_score),
    resampled=lambda scores: (
        2 * scores.true_positives / (scores.fakes + scores.true_positives + scores.false_positives)
    ),
    percent=True,
)
