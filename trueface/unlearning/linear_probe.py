"""A linear probe: the accuracy with which features separate a forget set from the retain set."""

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from trueface.runtime.progress import RunContext
from trueface.unlearning.evaluation.planes import Features
from trueface.unlearning.experiment import PROBED, draw_row_numbers, penultimate
from trueface.unlearning.image_copies import Groups, first_rows, group_copies
from trueface.unlearning.record import Probe
from trueface.unlearning.task import IdentifiedExamples

LEAST_PROBED = 8  # images of either side: half of them are held out


def linear_probe(
    original: nn.Module,
    unlearned_model: nn.Module,
    forget: IdentifiedExamples,
    retain: IdentifiedExamples,
    watch: RunContext,
    *,
    seed: int = 0,
) -> Probe | None:
    """Return how well a linear classifier of features separates forget and retain set.

    Both sides have the same number of samples, at most 1,000. The classifier is trained on half of the images
    and tested on the other half, so that chance is one half. All copies of an image are in one half: samples
    with the same image name, or with equal features before. A retrained model shows how much is in the images
    themselves. None if there are too few images.

    Args:
        original: the model before unlearning.
        unlearned_model: the one that has unlearned.
        forget: what was forgotten: a class, or some samples.
        retain: the rest of the training set.
        watch: device, stop.
        seed: seed of the draw and of the held-out half.

    Raises:
        JobError: stopped, or a model has no last linear layer.
    """
    most = min(len(forget.ids), len(retain.ids), PROBED)
    if most < LEAST_PROBED:
        return None
    sides = [
        part.subset(draw_row_numbers(len(part.ids), most, f"afterwards/probe/{name}", seed))
        for name, part in (("forget", forget), ("retain", retain))
    ]
    read = [
        [_features(model, side, watch) for side in sides] for model in (original, unlearned_model)
    ]
    ids = [identity for _, side_ids in read[0] for identity in side_ids]
    groups = group_copies(ids, np.concatenate([features for features, _ in read[0]]))
    accuracies = [
        probe_accuracy(first, second, groups, seed=seed) for (first, _), (second, _) in read
    ]
    if accuracies[0] is None or accuracies[1] is None:
        return None
    return Probe(before=accuracies[0], after=accuracies[1], chance=0.5)


def probe_accuracy(
    first: Features, second: Features, groups: Groups | None = None, *, seed: int = 0
) -> float | None:
    """Return the balanced accuracy, on a held-out half, of a logistic regression on features.

    Args:
        first: (N, F) of one side.
        second: (M, F) of the other.
        groups: (N + M,) image of each row. All rows of an image are in one half. None if each row is one.
        seed: which half is held out.

    Returns:
        None if a side has too few images.
    """
    values = np.concatenate([first, second]).astype(np.float64)
    side = np.repeat(np.array([1, 0]), [len(first), len(second)])
    groups = np.arange(len(side)) if groups is None else groups
    firsts = first_rows(groups)
    if np.bincount(side[firsts], minlength=2).min() < LEAST_PROBED:
        return None
    _, held_out = train_test_split(
        groups[firsts], test_size=0.5, stratify=side[firsts], random_state=seed
    )
    is_asked = np.isin(groups, held_out)
    train_rows, test_rows = np.flatnonzero(~is_asked), np.flatnonzero(is_asked)
    model = make_pipeline(
        StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=5000)
    )
    right = (
        model.fit(values[train_rows], side[train_rows]).predict(values[test_rows])
        == side[test_rows]
    )
    return float((right[side[test_rows] == 1].mean() + right[side[test_rows] == 0].mean()) / 2)


def _features(
    model: nn.Module, samples: IdentifiedExamples, watch: RunContext
) -> tuple[Features, list[str]]:
    """Return the features of the samples that can be read, and their IDs."""
    features, positions = penultimate(model, samples.examples, watch)
    ids = dict(zip(samples.examples.positions, samples.ids, strict=True))
    return features, [ids[int(position)] for position in positions]
