"""Metrics of the decisions: an image with a logit above 0 is classified as fake."""

from trueface.evaluation.metric import IntervalMethod, Metric, Rates
from trueface.evaluation.weighted_scores import FAKE


def _precision(rates: Rates) -> float:
    found, accused = rates.tpr * rates.fakes, rates.fpr * rates.reals
    return found / (found + accused) if found + accused else 0.0


ACCURACY = Metric(
    name="accuracy",
    title="Accuracy",
    short="accuracy",
    compute=lambda scores: scores.hits.sum(1) / scores.images,
    needs=frozenset(),
    pooled=True,
    percent=True,
    interval=IntervalMethod.RATES,
    of_rates=lambda rates: (
        (rates.tpr * rates.fakes + (1 - rates.fpr) * rates.reals) / (rates.fakes + rates.reals)
    ),
)
BALANCED_ACCURACY = Metric(
    name="balanced_accuracy",
    title="Balanced accuracy",
    short="balanced accuracy",
    compute=lambda scores: scores.recalls.mean(1),
    percent=True,
    interval=IntervalMethod.RATES,
    of_rates=lambda rates: (rates.tpr + 1 - rates.fpr) / 2,
)
PRECISION = Metric(
    name="precision",
    title="Precision",
    compute=lambda scores: scores.true_positives / (scores.true_positives + scores.false_positives),
    undefined=lambda _, predicted_fake: (
        "" if predicted_fake.any() else "no image was predicted fake"
    ),
    percent=True,
    in_report=False,  # its table has F1
    interval=IntervalMethod.RATES,
    of_rates=_precision,
)
RECALL = Metric(
    name="recall",
    title="Recall",
    compute=lambda scores: scores.true_positives / scores.fakes,
    needs=frozenset({FAKE}),
    of_fakes=True,
    percent=True,
    in_report=False,
    interval=IntervalMethod.RATES,
    of_rates=lambda rates: rates.tpr,
)
F1 = Metric(
    name="f1",
    title="F1 score",
    short="F1",
    compute=lambda scores: (
        2 * scores.true_positives / (scores.fakes + scores.true_positives + scores.false_positives)
    ),
    percent=True,
    interval=IntervalMethod.RATES,
    of_rates=lambda rates: (
        2
        * rates.tpr
        * rates.fakes
        / (rates.fakes + rates.tpr * rates.fakes + rates.fpr * rates.reals)
    ),
)
