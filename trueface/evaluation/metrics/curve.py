"""Metrics of the order of the scores, whatever the threshold: areas and points of curves."""

from dataclasses import replace

from sklearn.metrics import average_precision_score, roc_auc_score

from trueface.evaluation import curves, operating_point
from trueface.evaluation.calibration import Labels
from trueface.evaluation.intervals import Floats, Measure
from trueface.evaluation.metric import Metric, SourceSample, jackknife


def _equal_error_rate(labels: Labels, logits: Floats) -> float:
    return float(curves.equal_error_rate(curves.plain_curve(labels == 1, logits))[0])


def _tpr_at_1_fpr(labels: Labels, logits: Floats) -> float:
    return float(curves.tpr_at_fpr(curves.plain_curve(labels == 1, logits))[0])


def _either_interval(metric: Metric, sample: SourceSample) -> Measure:
    """Return a value with all that its intervals over images and over sources hold.

    An equal error rate is a step function of its images: with a few images a source, leaving one
    source out moves it by nothing or by a step, which says too little about its spread.
    """
    sources, images = jackknife(metric, sample), sample.by_images
    return replace(sources, low=min(sources.low, images.low), high=max(sources.high, images.high))


def _of_threshold(_: Metric, sample: SourceSample) -> Measure:
    return operating_point.bracket(
        sample.by_images.value, sample.fake, sample.logits, sample.design
    )


AUC = Metric(
    name="auc",
    title="AUC",
    value=roc_auc_score,
    resampled=lambda scores: curves.area(scores.curve),
)
AP = Metric(
    name="ap",
    title="Average precision",
    short="AP",
    value=average_precision_score,
    resampled=lambda scores: curves.average_precision(scores.curve),
)
EER = Metric(
    name="eer",
    title="Equal error rate",
    short="EER",
    low=True,
    value=_equal_error_rate,
    resampled=lambda scores: curves.equal_error_rate(scores.curve),
    percent=True,
    source_interval=_either_interval,
)
TPR_AT_1_FPR = Metric(
    name="tpr_at_1fpr",
    title="TPR at 1% FPR",
    short="TPR at 1 % FPR",
    value=_tpr_at_1_fpr,
    resampled=lambda scores: curves.tpr_at_fpr(scores.curve),
    of_fakes=True,
    percent=True,
    source_interval=_of_threshold,
    difference=operating_point.shift,
)
