"""Comparison of a model's outputs with those of other models, with intervals."""

import contextlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from trueface.evaluation.estimates import clustered_mean
from trueface.predictions.predictions import Predictions
from trueface.unlearning.evaluation.measures import (
    PredictionsBySplit,
    UndefinedMetric,
    align_samples,
    unit_ids,
)

LEAST = 20  # samples; of fewer no interval is worth its name
Hits = NDArray[np.float64]


def best_permutation_gain(
    test: Predictions, others: Sequence[Predictions]
) -> tuple[tuple[float, float, float], NDArray[np.int64]]:
    """Return the accuracy that another naming of the classes gains, with its interval, and the naming.

    The naming (K,), class → predicted class, is the best on `others`, and its gain that on the test.

    Source: H. W. Kuhn, "The Hungarian method for the assignment problem", 1955, by scipy.
    """
    classes = test.class_count
    counts = np.zeros((classes, classes))
    for part in others:
        np.add.at(counts, (part.right_classes, part.predicted_classes), 1)
    # among equals the naming as it is: its gain must be real
    naming = linear_sum_assignment(counts + 1e-6 * np.eye(classes), maximize=True)[1]
    called, labels = test.predicted_classes, test.right_classes
    gain = (called == naming[labels]).astype(float) - (called == labels)
    return _with_ends(gain, unit_ids(test)), naming


def accuracy_loss(
    unlearned_predictions: Predictions, retrained_models: Sequence[tuple[str, Predictions]]
) -> tuple[float, float, float, str] | None:
    """Return the least loss of accuracy with its interval, and the model it is relative to.

    None: no other model has predictions for the same samples, or they are too few.
    """
    labels, losses = unlearned_predictions.right_classes, []
    for name, other in retrained_models:
        with contextlib.suppress(UndefinedMetric):
            hits = [
                (part.predicted_classes == labels).astype(float)
                for part in (align_samples(unlearned_predictions, other), unlearned_predictions)
            ]
            losses.append((*_with_ends(hits[0] - hits[1], unit_ids(unlearned_predictions)), name))
    return min(losses) if losses and len(unlearned_predictions) >= LEAST else None


def change(before_and_after: Sequence[tuple[Predictions, Predictions]]) -> float:
    """Return the mean total variation between predictions before and after, on the part that has most."""
    chances = [
        tuple(np.exp(part.log_probabilities()) for part in pair) for pair in before_and_after
    ]
    return max(float(np.abs(then - now).sum(1).mean()) / 2 for then, now in chances)


def pairs(
    parts: PredictionsBySplit, original: PredictionsBySplit
) -> list[tuple[Predictions, Predictions]] | None:
    """Return the predictions before and after, by part. None if the samples differ."""
    try:
        both = [
            (align_samples(now, original[name]), now) for name, now in parts.items() if len(now)
        ]
    except (UndefinedMetric, KeyError):
        return None
    return both or None


def _with_ends(differences: Hits, names: Sequence[str]) -> tuple[float, float, float]:
    """Return the mean of differences (N,) with the ends of its 95 % interval; copies of an image are one draw."""
    measure = clustered_mean(differences, names)
    low, high = measure.interval or (measure.value, measure.value)
    return measure.value, low, high
