"""Samples of members and of others that a membership attack compares."""

import numpy as np
from numpy.typing import NDArray

from trueface.evaluation.arrays import Floats
from trueface.predictions.predictions import UNKNOWN, Predictions
from trueface.unlearning.evaluation.measures import (
    Classes,
    UndefinedMetric,
    unit_ids,
)

LEAST = 50  # samples of either side: with 100 in all a fraction is known to 10 points
FINEST = 50  # weights of classes are whole numbers up to this
SAME_OUTPUT = "the model gives all samples the same output"
Sides = tuple[NDArray[np.intp], NDArray[np.intp], Classes]  # places of members and others, labels


def matched_sides(forget: Predictions, nonmembers: Predictions, rng: np.random.Generator) -> Sides:
    """Return places of members, of as many others of the same true classes, and others' labels."""
    truth, classes = forget.right_classes, nonmembers.right_classes
    members, others, labels = [], [], np.full(len(nonmembers), UNKNOWN)
    for true in np.unique(truth):
        pool = rng.permutation(np.flatnonzero(classes == true))
        shuffled = rng.permutation(np.flatnonzero(truth == true))
        count = min(len(pool), len(shuffled))
        members.append(shuffled[:count])
        others.append(pool[:count])
        # each other sample is given the label that a member of the same class was trained with
        labels[pool[:count]] = forget.labels[shuffled[:count]]
    inside, beside = np.sort(np.concatenate(members)), np.sort(np.concatenate(others))
    return inside, beside, labels[beside]


def all_of_same_classes(
    forget: Predictions, nonmembers: Predictions, rng: np.random.Generator
) -> Sides:
    """Return places of members, of all others of the same true classes, and others' labels.

    Members of a class of which there are no others are left out.
    """
    truth, classes = forget.right_classes, nonmembers.right_classes
    shared = np.intersect1d(truth, classes)
    labels = np.full(len(nonmembers), UNKNOWN)
    for true in shared:
        pool = rng.permutation(np.flatnonzero(classes == true))
        # in the proportions of the members' labels, to the nearest whole sample
        labels[pool] = np.resize(rng.permutation(forget.labels[truth == true]), len(pool))
    members, others = (np.flatnonzero(np.isin(labels, shared)) for labels in (truth, classes))
    return members, others, labels[others]


def class_weights(member_classes: Classes, other_classes: Classes) -> Classes:
    """Return whole numbers (B,) by which classes weigh among others as among members; all 1 if so.

    Args:
        member_classes: (A,) classes of members.
        other_classes: (B,) of non-members, the same ones.
    """
    classes, class_index, count = np.unique(other_classes, return_inverse=True, return_counts=True)
    shares = np.array([np.count_nonzero(member_classes == true) for true in classes]) / count
    if not len(classes):
        return np.zeros(0, np.int64)
    whole = np.maximum(np.rint(FINEST * shares / shares.max()).astype(np.int64), 1)
    weights: Classes = (whole // np.gcd.reduce(whole))[class_index]
    return weights


def side_losses(
    forget: Predictions, nonmembers: Predictions, sides: Sides
) -> tuple[Floats, NDArray[np.int64], list[str]]:
    """Return losses (N, 1) of both sides, the mask of members, and their images."""
    members, others, labels = sides
    if not len(others):
        raise UndefinedMetric("no sample outside the training belongs to the forgotten classes")
    if len(members) < LEAST:
        raise UndefinedMetric(
            f"only {len(members)} forgotten samples have a counterpart of the same class outside the "
            f"training, and the attack needs {LEAST}"
        )
    inside, beside = forget.rows(members), nonmembers.rows(others)
    values, member = stack_features(inside.losses(forget.labels[members]), beside.losses(labels))
    names = [
        *(f"in/{name}" for name in unit_ids(inside)),
        *(f"out/{name}" for name in unit_ids(beside)),
    ]
    return values, member, names


def stack_features(
    members: Floats, others: Floats, *, rounding: float = 0.0, why_alike: str = SAME_OUTPUT
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the features (N, F) of both sides, and which are members (N,).

    Args:
        members: (A,) one feature, or (A, F) several.
        others: (B,) or (B, F).
        rounding: relative difference of a feature up to which it counts as the same for all samples.
        why_alike: the reason of the error if all features are.

    Raises:
        UndefinedMetric: too few, or all alike.
    """
    if min(len(members), len(others)) < LEAST:
        raise UndefinedMetric(
            f"there are {len(members)} members and {len(others)} non-members, and the attack needs "
            f"{LEAST} of each"
        )
    values = as_columns(np.concatenate([members, others]))
    limits = rounding * np.abs(values).max(axis=0) if rounding else 0.0
    if not (np.ptp(values, axis=0) > limits).any():
        raise UndefinedMetric(why_alike)
    member = np.repeat(np.array([1, 0]), [len(members), len(others)])
    return values, member


def as_columns(values: Floats) -> Floats:
    """Return features (N, F); one feature may be given as (N,)."""
    return values.reshape(len(values), -1)
