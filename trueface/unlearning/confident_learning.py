"""Confident learning: likely classes from given labels and probabilities."""

import warnings

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

ITERATIONS = 200  # of L-BFGS
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


def prune_by_noise_rate(
    probabilities: Floats, labels: Classes, likely: Classes, most: float
) -> Classes:
    """Return the likely classes (N,), but only so many other than the labels: those of the largest margin.

    Args:
        probabilities: (N, K), out of fold.
        labels: (N,) as given.
        likely: (N,) the likely class of each.
        most: number of labels that may be called flipped.

    Source: arXiv 1911.00068 section 3.2, "prune by noise rate", for all pairs of classes together.
    """
    rows = np.flatnonzero(likely != labels)
    margins = probabilities[rows, likely[rows]] - probabilities[rows, labels[rows]]
    chosen = rows[np.argsort(-margins, kind="stable")[: round(most)]]
    pruned = labels.copy()
    pruned[chosen] = likely[chosen]
    return pruned


def label_transitions(
    labels: Classes, likely: Classes, classes: int, most: float | None = None
) -> Floats:
    """Return the probability (K, K) of each label, given the true class of a row.

    Args:
        labels: (N,) as given.
        likely: (N,) the true class as it was thought to be. Half a sample is added to each pair.
        classes: number K of classes.
        most: number of flipped labels if it is known. More are scaled down to it. None if unknown.
    """
    counts = np.full((classes, classes), 0.5)
    np.add.at(counts, (likely, labels), 1)
    flips = counts * ~np.eye(classes, dtype=bool)
    if most is not None and flips.sum() > most:
        surplus = flips * (1 - most / flips.sum())
        counts += np.diag(surplus.sum(1)) - surplus
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
    probabilities: Floats, target: Classes, judged: Floats | None = None
) -> Floats:
    """Return the probabilities of a penalised regression, calibrated: confident as often as right.

    Args:
        probabilities: (N, K) of the regression, out of fold.
        target: (N,) classes that it shall predict.
        judged: (M, K) probabilities to calibrate. None calibrates those of the N samples.
    """
    fitted = fit_logistic_regression(_log_ratios(probabilities), target, LIGHT)
    calibrated: Floats = fitted.predict_proba(
        _log_ratios(probabilities if judged is None else judged)
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
    with warnings.catch_warnings():  # where it stops is near enough: what follows is calibrated
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticRegression(C=strength, max_iter=ITERATIONS).fit(features, labels)
