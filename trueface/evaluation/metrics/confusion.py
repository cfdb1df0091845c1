"""Metrics of the decisions: an image with a logit above 0 is classified as fake."""

from trueface.evaluation.metric import Metric
from trueface.evaluation.weighted_scores import FAKE

ACCURACY = Metric(
    name="accuracy",
    title="Accuracy",
    short="accuracy",
    compute=lambda scores: scores.hits.sum(1) / scores.images,
    needs=frozenset(),
    pooled=True,
    percent=True,
)
BALANCED_ACCURACY = Metric(
    name="balanced_accuracy",
    title="Balanced accuracy",
    short="balanced accuracy",
    compute=lambda scores: scores.recalls.mean(1),
    percent=True,
)
PRECISION = Metric(
    name="precision",
    title="Precision",
    compute=lambda scores: scores.true_positives / (scores.true_positives + scores.false_positives),
    undefined=lambda _, called: "" if called.any() else "no image was predicted fake",
    percent=True,
    in_report=False,  # its table has F1
)
RECALL = Metric(
    name="recall",
    title="Recall",
    compute=lambda scores: scores.true_positives / scores.fakes,
    needs=frozenset({FAKE}),
    of_fakes=True,
    percent=True,
    in_report=False,
)
F1 = Metric(
    name="f1",
    title="F1 score",
    short="F1",
    compute=lambda scores: (
        2 * scores.true_positives / (scores.fakes + scores.true_positives + scores.false_positives)
    ),
    percent=True,
)
