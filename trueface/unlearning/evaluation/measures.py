"""Measures of predictions after an unlearning, alone and against a retrained model: pure functions of saved logits.

Fractions and accuracies are in [0, 1]. A measure that cannot be computed is left out, with its reason
in `reasons`. Non-finite logits are rejected, since argmax assigns them class 0.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from trueface.evaluation.arrays import Floats
from trueface.evaluation.estimate import Estimate
from trueface.evaluation.estimates import (
    SourcedScores,
    estimates,
    function_of_means,
)
from trueface.evaluation.metric import Metric, Scale
from trueface.evaluation.metrics.confusion import ACCURACY
from trueface.evaluation.metrics.curve import AUC, EER
from trueface.evaluation.metrics.probability import ECE, LOSS
from trueface.evaluation.operating_threshold import most_accurate_threshold
from trueface.evaluation.weighted_scores import FAKE, WeightedScores
from trueface.predictions.predictions import UNKNOWN, Predictions
from trueface.runtime.errors import DataError
from trueface.unlearning.image_copies import image_name
from trueface.unlearning.registry import Goal

Classes = NDArray[np.int8 | np.int64]
LEAST_DAMAGE = 0.005  # half a point between clean and poisoned: below it recovery says nothing
OTHER_SAMPLES = "the reference model was tested on other samples"
WIDEST = 2.0  # interval of a recovery beyond which it says nothing


def sourced_scores(part: Predictions, labels: Classes) -> SourcedScores:
    """Return predictions with the sources of their images. Copies of an image, and frames of a video, are drawn together."""
    return SourcedScores(
        labels=labels, logits=part.logits, keys=picture_ids(part), videos=part.videos
    )


def picture_ids(part: Predictions) -> tuple[str, ...]:
    """Return the name of the image of each row, the same for its copies in several networks."""
    names = part.ids or tuple(map(str, range(len(part))))
    return tuple(map(image_name, names))


def unit_ids(part: Predictions) -> Sequence[str]:
    """Return the name of the independent unit of each row: the image, or the video of a frame."""
    return sourced_scores(part, part.labels).unit_keys


def name_videos(part: Predictions, sources: Collection[str]) -> Predictions:
    """Return predictions with the videos of their rows.

    Args:
        part: predictions.
        sources: sources of images in which each folder is a video.
    """
    videos = tuple(
        name.rpartition("/")[0] if name.partition("/")[0] in sources else ""
        for name in picture_ids(part)
    )
    return replace(part, videos=videos) if any(videos) else part


# "forget", "retain", "validation", "test": the last may be absent
PredictionsBySplit = Mapping[str, Predictions]


class UndefinedMetric(ValueError):
    """A measure cannot be computed; the message gives the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricDict:
    """Measures by name, and the reasons of those that cannot be computed."""

    values: Mapping[str, float]
    reasons: Mapping[str, str]

    def __or__(self, other: "MetricDict") -> "MetricDict":
        """Return both; the values of `other` take precedence."""
        values = {**self.values, **other.values}
        reasons = {**self.reasons, **other.reasons}
        unmeasured = {name: reason for name, reason in reasons.items() if name not in values}
        return MetricDict(values=values, reasons=unmeasured)

    def get(self, name: str) -> float | None:
        """Return a measure, or None."""
        return self.values.get(name)


def compute_metrics(makers: Mapping[str, Callable[[], float | Estimate]]) -> MetricDict:
    """Return the value of each function, with `_low` and `_high` or the reason of their absence if it has an interval.

    A function may raise `UndefinedMetric`.
    """
    values: dict[str, float] = {}
    reasons: dict[str, str] = {}
    ends = MetricDict(values={}, reasons={})
    for name, make in makers.items():
        try:
            measure = make()
        except UndefinedMetric as error:
            reasons[name] = str(error)
            continue
        value = measure.value if isinstance(measure, Estimate) else float(measure)
        if not math.isfinite(value):
            reasons[name] = f"the value is {value}"
            continue
        values[name] = value
        if isinstance(measure, Estimate):
            ends |= _ends(name, measure)
    return ends | MetricDict(values=values, reasons=reasons)


def _ends(name: str, measure: Estimate) -> MetricDict:
    names = f"{name}_low", f"{name}_high"
    if measure.interval is None:
        return MetricDict(values={}, reasons=dict.fromkeys(names, measure.why))
    return MetricDict(values=dict(zip(names, measure.interval, strict=True)), reasons={})


def refuse_broken(parts: PredictionsBySplit) -> None:
    """Reject invalid predictions.

    Raises:
        DataError: some logits are not finite.
    """
    for name, part in parts.items():
        broken = int((~np.isfinite(part.logits)).any(1).sum())
        if broken:
            raise DataError(
                f"{broken} of {len(part)} predictions on {name} are not finite, so the model is broken "
                "and is not measured"
            )


def unseen_predictions(parts: PredictionsBySplit) -> Predictions:
    """Return the predictions on images outside of training: the test, otherwise validation."""
    return parts["test"] if "test" in parts else parts["validation"]


def retained_class_rows(part: Predictions, forgotten_classes: Collection[int]) -> Predictions:
    """Return the rows whose class is not forgotten."""
    return (
        part.rows(~np.isin(part.right_classes, list(forgotten_classes)))
        if forgotten_classes
        else part
    )


def forgotten_class_rows(part: Predictions, forgotten_classes: Collection[int]) -> Predictions:
    """Return the rows of a forgotten class."""
    return part.rows(np.isin(part.right_classes, list(forgotten_classes)))


def accuracy(part: Predictions, labels: Classes) -> float:
    """Return the fraction of predictions that agree with labels (N,); UNKNOWN labels are left out.

    Raises:
        UndefinedMetric: no row, or no label is known.
    """
    labelled = labels != UNKNOWN
    if not len(part):
        raise UndefinedMetric("there are no such samples")
    if not labelled.any():
        raise UndefinedMetric("the true labels are unknown")
    known = slice(None) if labelled.all() else labelled
    return ACCURACY.value(WeightedScores.from_logits(labels[known], part.logits[known]))


def two_class_value(metric: Metric, scores: WeightedScores) -> float:
    """Return a metric that is only defined for two classes.

    Raises:
        UndefinedMetric: there are more classes, or the samples are of one only.
    """
    table = scores.table
    if table.classes != 2:
        raise UndefinedMetric(f"only defined for two classes, and there are {table.classes}")
    if len(table.present) < 2:
        raise UndefinedMetric("all samples belong to one class")
    return metric.value(scores)


def accuracy_at_val_threshold(test: Predictions, validation: Predictions) -> float:
    """Return the accuracy on the test with the threshold that is best on validation.

    Wrong labels shift the threshold of a detector; what this has over the plain accuracy is no
    more than such a shift.

    Raises:
        UndefinedMetric: there are more classes than two.
    """
    if test.class_count != 2:
        raise UndefinedMetric(f"only defined for two classes, and there are {test.class_count}")
    threshold = most_accurate_threshold(validation.right_classes == FAKE, validation.margin)
    return float(np.mean((test.margin > threshold) == (test.right_classes == FAKE)))


def accuracy_with_ci(part: Predictions) -> Estimate:
    """Return the accuracy of predictions with its 95 % interval.

    It is over sources if a class has several and they differ, otherwise over other images of these.

    Raises:
        UndefinedMetric: no row.
    """
    labels = part.right_classes
    accuracy(part, labels)
    table = sourced_scores(part, labels)
    if table.design.has_several_sources:
        hits = (part.predicted_classes == labels).astype(np.float32)[:, None]
        return function_of_means(
            hits, lambda means: means[:, 0], table, scale=Scale.SHARE, fraction=True
        )
    return estimates([ACCURACY], table)[ACCURACY.name]


def unlearning_score(retain: float, forget: float) -> float:
    """Return the unlearning score of accuracies on the test set, in percent: 1 is best.

    It rewards an accuracy of 0 on the forgotten, whatever a retrained model predicts there.

    Source: H. Kim, S. Lee, S. Woo, "Layer attack unlearning", AAAI 2024, arXiv 2312.16823.
    """
    return (math.exp(retain / 100) + math.exp(1 - forget / 100) - 2) / (2 * (math.e - 1))


def single_model_metrics(
    parts: PredictionsBySplit, *, goal: Goal, forgotten_classes: Collection[int] = ()
) -> MetricDict:
    """Return the measures that need only one model's predictions.

    Calibration, loss and ranking are of the test; where a class is forgotten, of all other classes.

    Args:
        parts: its predictions by split.
        goal: what was to be forgotten.
        forgotten_classes: classes, for goal "class".

    Raises:
        DataError: a logit is not finite.
    """
    refuse_broken(parts)
    of_class = goal == "class"
    forget, retain, validation = parts["forget"], parts["retain"], parts["validation"]
    test = unseen_predictions(parts)
    valid = retained_class_rows(test, forgotten_classes) if of_class else test
    scores = WeightedScores.from_logits(valid.right_classes, valid.logits)

    def test_of(selection: Predictions, *, split: bool = True) -> float:
        if "test" not in parts:
            raise UndefinedMetric("there is no test set")
        if split and not of_class:
            raise UndefinedMetric("the goal is not to forget a class")
        return accuracy(selection, selection.right_classes)

    def of_test(measure: Callable[[], float]) -> float:
        if not len(valid):
            raise UndefinedMetric("there are no such samples")
        return measure()

    lost = forgotten_class_rows(test, forgotten_classes)
    intervals = {"test_retain": valid, "test_forget": lost} if of_class else {"test": test}
    return _interval_ends(intervals if "test" in parts else {}) | compute_metrics(
        {
            "retain": lambda: accuracy(retain, retain.labels),
            "retain_true": lambda: accuracy(retain, retain.true_labels),
            "forget": lambda: accuracy(forget, forget.labels),
            "forget_true": lambda: accuracy(forget, forget.true_labels),
            "val": lambda: accuracy(validation, validation.right_classes),
            "test": lambda: test_of(test, split=False),
            "test_retain": lambda: test_of(valid),
            "test_forget": lambda: test_of(lost),
            "test_tuned": lambda: of_test(lambda: accuracy_at_val_threshold(valid, validation)),
            "us": lambda: unlearning_score(100 * test_of(valid), 100 * test_of(lost)),
            "auc": lambda: two_class_value(AUC, scores),
            "eer": lambda: two_class_value(EER, scores),
            "ece": lambda: of_test(lambda: ECE.value(scores)),
            "loss": lambda: of_test(lambda: LOSS.value(scores)),
        }
    )


def _interval_ends(parts: Mapping[str, Predictions]) -> MetricDict:
    """Return the ends of the intervals of some accuracies: `<name>_low`, `<name>_high`."""
    ends = MetricDict(values={}, reasons={})
    for name, part in parts.items():
        if len(part):
            ends |= _ends(name, accuracy_with_ci(part))
    return ends


def compare_with_retrained(
    unlearned_parts: PredictionsBySplit,
    reference: PredictionsBySplit,
    *,
    measures: MetricDict,
    reference_measures: MetricDict,
    test: str = "test",
) -> MetricDict:
    """Return the distance of a model from the same training without the forget set.

    Gaps are absolute differences in 0 … 1; `gap` is their mean (C. Fan et al., "SalUn", arXiv
    2310.12508, table 1). `tug_of_war` is the tug of war of K. Zhao et al., arXiv 2406.01257, equation 2:
    1 where both are equal. `kl_*` is the mean of KL(reference || ours), `distance_*` the mean
    Euclidean distance of their probabilities (V. Chundawat et al., arXiv 2205.08096).

    Args:
        unlearned_parts: predictions of the model.
        reference: predictions of the retrained one.
        measures: of the model.
        reference_measures: of the retrained one, by the same names.
        test: name of the test measure: "test_retain" if a class is forgotten.
    """
    unseen = "test" if "test" in unlearned_parts else "validation"
    read_by = {
        "retain": ("retain",),
        "forget": ("forget",),
        test: (unseen,),
        "mia_svc": ("retain", "forget", unseen),
    }

    def gap(name: str) -> float:
        for part in read_by[name]:
            if part not in reference or not are_same_samples(
                unlearned_parts[part], reference[part]
            ):
                raise UndefinedMetric(OTHER_SAMPLES)
        first, second = measures.get(name), reference_measures.get(name)
        if first is None or second is None:
            reasons = (source.reasons.get(name) for source in (measures, reference_measures))
            raise UndefinedMetric(next(filter(None, reasons), "not measured"))
        return abs(first - second)

    names = {"retain": "retain", "forget": "forget", "test": test, "mia": "mia_svc"}
    gaps = compute_metrics(
        {f"gap_{key}": lambda name=name: gap(name) for key, name in names.items()}  # type: ignore[misc]  # a default cannot be typed
    )

    def mean_gap() -> float:
        if gaps.reasons:
            raise UndefinedMetric("; ".join(f"{name}: {why}" for name, why in gaps.reasons.items()))
        return sum(gaps.values.values()) / len(gaps.values)

    def pair(name: str) -> tuple[Floats, Floats]:
        first, second = (
            unseen_predictions(parts) if name == "test" else parts[name]
            for parts in (unlearned_parts, reference)
        )
        if not len(first):
            raise UndefinedMetric("there are no such samples")
        return first.log_probabilities(), align_samples(first, second).log_probabilities()

    return gaps | compute_metrics(
        {
            "gap": mean_gap,
            "tow": lambda: tug_of_war(gap("forget"), gap("retain"), gap(test)),
            "kl_forget": lambda: divergence(*pair("forget")),
            "kl_test": lambda: divergence(*pair("test")),
            "distance_forget": lambda: distance(*pair("forget")),
            "distance_test": lambda: distance(*pair("test")),
        }
    )


def tug_of_war(*gaps: float) -> float:
    """Return the product of 1 - gap: 1 where nothing differs from the reference."""
    return math.prod(1 - gap for gap in gaps)


def align_samples(first: Predictions, second: Predictions) -> Predictions:
    """Return `second` in the order of `first`: the same samples, predicted by another model.

    Raises:
        UndefinedMetric: the samples or the classes of the models differ.
    """
    if first.class_count != second.class_count:
        raise UndefinedMetric("the reference model has other classes")
    if first.ids and second.ids and first.ids != second.ids and len(first) == len(second):
        places = {name: position for position, name in enumerate(second.ids)}
        order = np.array([places.get(name, -1) for name in first.ids], np.intp)
        if len(places) == len(second) and order.min() >= 0:
            second = second.rows(order)
    if first.ids != second.ids or not np.array_equal(first.labels, second.labels):
        raise UndefinedMetric(OTHER_SAMPLES)
    return second


def are_same_samples(first: Predictions, second: Predictions) -> bool:
    """Return whether two models of the same classes were tested on the same samples, in any order."""
    try:
        align_samples(first, second)
    except UndefinedMetric as error:
        return str(error) != OTHER_SAMPLES
    return True


def divergence(values: Floats, reference: Floats) -> float:
    """Return the mean of KL(reference || ours) in nats, of log probabilities (N, K)."""
    return float((np.exp(reference) * (reference - values)).sum(1).mean())


def distance(values: Floats, reference: Floats) -> float:
    """Return the mean Euclidean distance of probabilities, of log probabilities (N, K)."""
    return float(np.linalg.norm(np.exp(values) - np.exp(reference), axis=1).mean())


def recovery(
    unlearned_predictions: Predictions,
    poisoned_predictions: Predictions,
    clean_predictions: Predictions,
) -> Estimate:
    """Return the fraction of the damage of flipped labels that is undone on the test, with its interval.

    0 is the poisoned model, 1 the clean one; both other sides exist. Resamples are
    drawn for all three together. The interval is over sources as in `accuracy_with_ci`.

    Raises:
        UndefinedMetric: the samples differ, or there is less than half a point of damage.
    """
    parts = (
        unlearned_predictions,
        align_samples(unlearned_predictions, poisoned_predictions),
        align_samples(unlearned_predictions, clean_predictions),
    )
    labels = unlearned_predictions.right_classes
    hits = np.column_stack([part.predicted_classes == labels for part in parts]).astype(np.float32)
    _, low, high = hits.mean(0, dtype=np.float64)
    if high - low < LEAST_DAMAGE:
        raise UndefinedMetric(
            f"the clean model differs from the poisoned model by {100 * (high - low):+.2f} points, and "
            f"recovery needs at least {100 * LEAST_DAMAGE:.1f}"
        )
    measure = function_of_means(
        hits, _recovered_fraction, sourced_scores(unlearned_predictions, labels), scale=Scale.PLAIN
    )
    if measure.interval is not None and measure.interval.high - measure.interval.low > WIDEST:
        raise UndefinedMetric(
            f"the clean model differs from the poisoned model by {100 * (high - low):+.2f} points, too "
            f"little for {len(unlearned_predictions)} test samples: the 95 % interval of recovery would be "
            f"{measure.ends_text('.1f')}"
        )
    return measure


def _recovered_fraction(accuracies: Floats) -> Floats:
    """Return the recovery (R,) of accuracies (R, 3) of a model, the poisoned and the clean one."""
    mine, low, high = accuracies.T
    with np.errstate(divide="ignore", invalid="ignore"):  # values that are not finite are left out
        share: Floats = (mine - low) / (high - low)
    return share
