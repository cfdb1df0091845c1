"""Metrics of the order of the scores, whatever the threshold: areas and points of curves."""

from trueface.evaluation import curves
from trueface.evaluation.metric import IntervalMethod, Metric

AUC = Metric(
    name="auc",
    title="AUC",
    compute=lambda scores: curves.area(scores.curve),
    interval=IntervalMethod.AREA,
)
AP = Metric(
    name="ap",
    title="Average precision",
    short="AP",
    compute=lambda scores: curves.average_precision(scores.curve),
    interval=IntervalMethod.PRECISION,
)
EER = Metric(
    name="eer",
    title="Equal error rate",
    short="EER",
    low=True,
    compute=lambda scores: curves.equal_error_rate(scores.curve),
    percent=True,
    interval=IntervalMethod.CROSSING,
)
TPR_AT_1_FPR = Metric(
    name="tpr_at_1fpr",
    title="TPR at 1 % FPR",
    short="TPR at 1 % FPR",
    compute=lambda scores: curves.tpr_at_fpr(scores.curve),
    of_fakes=True,
    percent=True,
    interval=IntervalMethod.FIXED_FPR,
)
