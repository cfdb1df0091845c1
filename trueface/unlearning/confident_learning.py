"""Confident learning: likely classes from given labels and probabilities."""

import warnings

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

ITERATIONS = 200  # iterations of L-BFGS
LIGHT = 100.0  # inverse penalty of the calibration, which has K - 1 inputs
TINY = 1e-9  # a probability that is zero in float32 has a logarithm all the same
Floats = NDArray[np.float64]
Classes = NDArray[np.int64]


def apply_confident_learning(probabilities: Floats, labels: Classes) -> tuple[Classes, float]:
    """Return the likely classes (N,) by confident learning, and the estimated fraction of flipped labels.

    Args:
        probabilities: (N, K), out of fold.
        labels: (N,) as given, each class at least once.

    Source: arXiv 1911.00068 eq. 1 to 3; the fraction is the sum off the diagonal of the joint
        distribution. A sample that no class is confident of keeps its label and is not counted.
    """
    classes = probabilities.shape[1]
    enough = np.array([probabilities[labels == label, label].mean() for label in range(classes)])
    reached = np.where(probabilities >= enough, probabilities, -1.0)
    sure = reached.max(1) >= 0
    likely = np.where(sure, reached.argmax(1), labels)
    counts = np.zeros((classes, classes))
    np.add.at(counts, (labels[sure], likely[sure]), 1)
    shares = np.bincount(labels, minlength=classes) / len(labels)
    right = np.diag(counts) / np.maximum(counts.sum(1), 1)
    return likely, float(1 - shares @ right)


def label_transitions(labels: Classes, likely: Classes, classes: int) -> Floats:
    """Return the probability (K, K) of each label, given the true class of a row.

    Args:
        labels: (N,) as given.
        likely: (N,) the true class as it was thought to be. Half a sample is added to each pair.
        classes: number K of classes.
    """
    counts = np.full((classes, classes), 0.5)
    np.add.at(counts, (likely, labels), 1)
    transitions: Floats = counts / counts.sum(1, keepdims=True)
    return transitions


def true_label_posterior(probabilities: Floats, labels: Classes, transitions: Floats) -> Floats:
    """Return the probability (N, K) of each true class, given the features and the label.

    Args:
        probabilities: (N, K) of the true class, given the features.
        labels: (N,) as given.
        transitions: (K, K) of `label_transitions`.
    """
    joint = probabilities * transitions[:, labels].T
    posterior: Floats = joint / joint.sum(1, keepdims=True)
    return posterior


def calibrate_probabilities(
    probabilities: Floats, target: Classes, judged_probabilities: Floats | None = None
) -> Floats:
    """Return the probabilities of a penalised regression, calibrated: confident as often as right.

    Args:
        probabilities: (N, K) of the regression, out of fold.
        target: (N,) classes that it shall predict.
        judged_probabilities: (M, K) probabilities to calibrate. None calibrates those of the N samples.
    """
    fitted = fit_logistic_regression(_log_ratios(probabilities), target, LIGHT)
    calibrated: Floats = fitted.predict_proba(
        _log_ratios(probabilities if judged_probabilities is None else judged_probabilities)
    )
    return calibrated


def _log_ratios(probabilities: Floats) -> Floats:
    logs = np.log(probabilities + TINY)
    ratios: Floats = logs[:, 1:] - logs[:, :1]
    return ratios


def fit_logistic_regression(
    features: NDArray[np.floating], labels: Classes, strength: float
) -> LogisticRegression:
    """Return a logistic regression fitted with an inverse penalty of `strength`."""
    with warnings.catch_warnings():  # its last point is near enough: a calibration follows
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticRegression(C=strength, max_iter=ITERATIONS).fit(features, labels)
