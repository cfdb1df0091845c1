"""Metrics of the decisions: an image with a logit above 0 is classified as fake."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from trueface.evaluation.curves import Labels
from trueface.evaluation.intervals import Floats
from trueface.evaluation.metric import FAKE, Metric


class Decisions(NamedTuple):
    """The numbers of correctly and wrongly classified images of either class."""

    true_positives: int  # fakes called fake
    false_positives: int
    true_negatives: int
    false_negatives: int


def metric_of_decisions(score: Callable[[Decisions], float]) -> Callable[[Labels, Floats], float]:
    """Return a metric of counts as one of labels and logits.

    The quotients are those of scikit-learn to the bit, whose checks of its input take twenty times as long.
    """

    def value(labels: Labels, logits: Floats) -> float:
        fake, called = labels == 1, logits > 0
        hits, fakes, calls = (int(np.count_nonzero(each)) for each in (fake & called, fake, called))
        reals = len(labels) - fakes
        return score(Decisions(hits, calls - hits, reals - (calls - hits), fakes - hits))

    return value


ACCURACY = Metric(
    name="accuracy",
    title="Accuracy",
    short="accuracy",
    value=metric_of_decisions(lambda of: (of.true_positives + of.true_negatives) / sum(of)),
    resampled=lambda scores: (scores.true_positives + scores.true_negatives) / scores.images,
    needs=frozenset(),
    pooled=True,
    percent=True,
)
BALANCED_ACCURACY = Metric(
    name="balanced_accuracy",
    title="Balanced accuracy",
    short="balanced accuracy",
    value=metric_of_decisions(
        lambda of: (
            (
                of.true_positives / (of.true_positives + of.false_negatives)
                + of.true_negatives / (of.true_negatives + of.false_positives)
            )
            / 2
        )
    ),
    resampled=lambda scores: (
        (scores.true_positives / scores.fakes + scores.true_negatives / scores.reals) / 2
    ),
    percent=True,
)
PRECISION = Metric(
    name="precision",
    title="Precision",
    value=metric_of_decisions(
        lambda of: of.true_positives / (of.true_positives + of.false_positives)
    ),
    resampled=lambda scores: (
        scores.true_positives / (scores.true_positives + scores.false_positives)
    ),
    undefined=lambda _, called: "" if called.any() else "no image was predicted fake",
    percent=True,
    in_report=False,  # its table has F1
)
RECALL = Metric(
    name="recall",
    title="Recall",
    value=metric_of_decisions(
        lambda of: of.true_positives / (of.true_positives + of.false_negatives)
    ),
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
    value=metric_of_decisions(
        lambda of: (
            2
            * of.true_positives
            / (2 * of.true_positives + of.false_positives + of.false_negatives)
        )
    ),
    resampled=lambda scores: (
        2 * scores.true_positives / (scores.fakes + scores.true_positives + scores.false_positives)
    ),
    percent=True,
)
