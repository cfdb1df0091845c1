"""What the scores of a model are worth: point values by scikit-learn, intervals by bootstrap.

Positive = fake throughout: precision is how many of those called fake are, recall how many of the
fakes were called so. A measure that cannot be told is `None`, with the reason beside it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    log_loss,
    precision_score,
    recall_score,
    roc_auc_score,
    roc_curve,
)

from trueface import curves
from trueface.bootstrap import Counts, Floats, chunks, interval, resamples, unbiased
from trueface.bootstrap import Measure as Measure  # part of `Report`
from trueface.errors import DataError
from trueface.scores import Scores

BINS = 15  # of the calibration error: C. Guo et al., arXiv 1706.04599, section 5
CONSTANT = 0.99  # from this share of equal answers on, a predictor is called constant
MEASURES = (
    "accuracy", "balanced_accuracy", "precision", "recall", "f1",
    "auc", "ap", "eer", "tpr_at_1fpr", "ece", "loss",
)  # fmt: skip
OF_ANY_CLASS = frozenset({"accuracy", "ece", "loss"})  # what one class alone has, too

Labels = NDArray[np.int8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All measures of one score table; `None` where `reasons` says why there can be none."""

    n: int
    accuracy: Measure
    balanced_accuracy: Measure | None
    precision: Measure | None
    recall: Measure | None
    f1: Measure | None
    auc: Measure | None
    ap: Measure | None  # average precision
    eer: Measure | None  # equal error rate
    tpr_at_1fpr: Measure | None
    ece: Measure
    loss: Measure
    confusion: tuple[tuple[int, int], tuple[int, int]]  # rows true real, fake; columns predicted
    reason: str | None  # why there is no measure of two classes
    reasons: Mapping[str, str]  # of every measure that is None
    verdict: str  # "chance", "below chance", "constant" or ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A report, and what it rests on: each of its measures on every resample."""

    report: Report
    spread: Mapping[str, Floats]  # name → (R,); NaN where a resample has no such value


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """What a model says of the images of one subset."""

    report: Report  # of these images alone: most often one class
    beside: Report | None  # with all of the other class under the same modifiers, if there are any


@dataclass(frozen=True, slots=True, kw_only=True)
class Breakdown:
    """A score table taken apart, in the order of its rows."""

    subsets: Mapping[str, Group]  # by the folder of the key: "StyleGAN2/conf-f-psi-1"
    modifiers: Mapping[str, Report]  # "pre", "fb", "tl", "tw", "none" or a folder of the user's


def measure(labels: Labels, logits: Floats, *, keys: Sequence[str], seed: int = 0) -> Report:
    """Return every measure of a score table with its interval.

    Args:
        labels: (N,) 1 fake, 0 real.
        logits: (N,) positive = fake; exactly 0 counts as real, as in the original system.
        keys: (N,) "<source>/<name>" of the images; rows with one key are resampled together.
        seed: root seed of the resampling; the same table has the same intervals.

    Raises:
        DataError: empty, or a logit that is no finite number: such a model has no score.

    Sources: of the intervals see `bootstrap`, of EER and TPR at 1 % FPR `curves.values`. The
        interval of a value at its limit (accuracy 1 on N images) has no width; it then says
        "within 3/N at most".
    """
    return measured(labels, logits, keys=keys, seed=seed).report


def measured(labels: Labels, logits: Floats, *, keys: Sequence[str], seed: int = 0) -> Measured:
    """Return the report of `measure` with its resamples, as differences of two models need them.

    Two tables of the same keys and labels, in the same order, have the same resamples.
    """
    _check(labels, logits)
    fake, called = labels == 1, logits > 0
    reasons = _reasons(fake, called)
    known = [name for name in MEASURES if name not in reasons]
    points = _points(labels, logits, known)
    weights = resamples(tuple(keys), labels.tobytes(), seed)
    spread = _spread(fake, logits, weights, known)
    shown = {**spread, "ece": unbiased(points["ece"], spread["ece"])}
    found = {name: interval(points[name], shown[name]) for name in known}
    every: dict[str, Any] = {**dict.fromkeys(reasons), **found}
    report = Report(
        n=len(labels),
        **every,
        confusion=_confusion(labels, logits),
        reason=reasons.get("auc"),
        reasons=reasons,
        verdict=_verdict(logits, found.get("auc")),
    )
    return Measured(report=report, spread=spread)


def breakdown(scores: Scores, *, seed: int = 0) -> Breakdown:
    """Return the measures of each subset and of each modifier of a score table.

    Rows whose path tells no modifier (old score files name no images) are in no modifier.

    Raises:
        DataError: as `measure`.
    """
    _check(scores.labels, scores.logits)
    subsets, modifiers = np.array(scores.subsets), np.array(scores.modifiers)

    def report(rows: NDArray[np.bool_]) -> Report:
        keys = [scores.keys[row] for row in np.flatnonzero(rows)]
        return measure(scores.labels[rows], scores.logits[rows], keys=keys, seed=seed)

    def group(name: str) -> Group:
        rows = subsets == name
        classes = np.unique(scores.labels[rows])
        others = (scores.labels != classes[0]) & np.isin(modifiers, np.unique(modifiers[rows]))
        mixed = len(classes) > 1 or not others.any()
        return Group(report=report(rows), beside=None if mixed else report(rows | others))

    return Breakdown(
        subsets={name: group(name) for name in dict.fromkeys(scores.subsets)},
        modifiers={
            name: report(modifiers == name) for name in dict.fromkeys(scores.modifiers) if name
        },
    )


def calibration_error(labels: Labels, logits: Floats) -> float:
    """Return the expected calibration error of the predicted class, in 0 … 1.

    Source: C. Guo et al., arXiv 1706.04599, equation 3, with 15 bins of equal width; the
        confidence of a binary answer is at least one half, so that only the upper bins fill.
    """
    return float(np.abs(_gaps(labels == 1, logits).sum(0, dtype=np.float64)).sum() / len(labels))


def roc(labels: Labels, logits: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the ROC curve as false positive rates, true positive rates, thresholds on the logit.

    The first threshold is infinite: nothing is called fake. Points on a straight line between
    others are left out.

    Raises:
        DataError: nothing to draw: no rows, one class only, or a logit that is no finite number.
    """
    _check(labels, logits)
    if len(np.unique(labels)) < 2:
        raise DataError("a ROC curve needs fakes and reals: test both, or merge two tests")
    fpr, tpr, thresholds = roc_curve(labels, logits)
    return fpr, tpr, thresholds


def _check(labels: Labels, logits: Floats) -> None:
    if not len(labels):
        raise DataError("no scores to measure")
    broken = int(np.count_nonzero(~np.isfinite(logits)))
    if broken:
        raise DataError(f"{broken} of {len(logits)} logits are no finite numbers")


def _reasons(fake: NDArray[np.bool_], called: NDArray[np.bool_]) -> dict[str, str]:
    """Return why there is no such measure, for each that there is not."""
    if fake.all():
        reason = "all images are fake"
        return {name: reason for name in MEASURES if name not in OF_ANY_CLASS | {"recall"}}
    if not fake.any():
        return {name: "all images are real" for name in MEASURES if name not in OF_ANY_CLASS}
    return {} if called.any() else {"precision": "no image was called fake"}


def _points(labels: Labels, logits: Floats, known: Sequence[str]) -> dict[str, float]:
    called = logits > 0
    once = np.ones((1, len(labels)), np.uint8)
    by_threshold = {
        "accuracy": accuracy_score,
        "balanced_accuracy": balanced_accuracy_score,
        "precision": precision_score,
        "recall": recall_score,
        "f1": f1_score,
    }
    by_order = {"auc": roc_auc_score, "ap": average_precision_score}
    points = {name: score(labels, called) for name, score in by_threshold.items() if name in known}
    points |= {name: score(labels, logits) for name, score in by_order.items() if name in known}
    if "eer" in known:
        of_curve = curves.values(labels == 1, logits, once)
        points |= {name: float(of_curve[name][0]) for name in ("eer", "tpr_at_1fpr")}
    points["ece"] = calibration_error(labels, logits)
    points["loss"] = log_loss(labels, _probabilities(logits), labels=[0, 1])
    return points


def _confusion(labels: Labels, logits: Floats) -> tuple[tuple[int, int], tuple[int, int]]:
    (a, b), (c, d) = confusion_matrix(labels, logits > 0, labels=[0, 1]).tolist()
    return (a, b), (c, d)


def _spread(
    fake: NDArray[np.bool_], logits: Floats, weights: Counts, known: Sequence[str]
) -> dict[str, Floats]:
    """Return each measure on every resample."""
    called = logits > 0
    counted = np.column_stack(
        [fake, called, fake & called, _losses(fake, logits), _gaps(fake, logits)]
    ).astype(np.float32)
    sums = np.concatenate([part @ counted for part in chunks(weights)]).astype(np.float64)
    rows = weights.sum(1, dtype=np.float64)
    fakes, accused, hits = sums[:, 0], sums[:, 1], sums[:, 2]
    reals, right = rows - fakes, rows - fakes - accused + 2 * hits
    with np.errstate(invalid="ignore", divide="ignore"):  # what is not known is left out below
        spread = {
            "accuracy": right / rows,
            "balanced_accuracy": (hits / fakes + (reals - accused + hits) / reals) / 2,
            "precision": hits / accused,
            "recall": hits / fakes,
            "f1": 2 * hits / (fakes + accused),
            "loss": sums[:, 3] / rows,
            "ece": np.abs(sums[:, 4:]).sum(1) / rows,
        }
    if "auc" in known:
        spread |= curves.values(fake, logits, weights)
    return {name: spread[name] for name in known}


def _gaps(fake: NDArray[np.bool_], logits: Floats) -> NDArray[np.float32]:
    """Return how far each answer is from its confidence, in the column of its bin: (N, BINS)."""
    confidence = _probabilities(np.abs(logits))
    right = (logits > 0) == fake
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = np.zeros((len(logits), BINS), np.float32)
    gaps[np.arange(len(logits)), bins] = right - confidence
    return gaps


def _losses(fake: NDArray[np.bool_], logits: Floats) -> Floats:
    losses: Floats = np.logaddexp(0.0, np.where(fake, -logits, logits))
    return losses


def _probabilities(logits: Floats) -> Floats:
    # the same as a sigmoid, but no overflow for a large negative logit
    probabilities: Floats = np.exp(-np.logaddexp(0.0, -logits))
    return probabilities


def _verdict(logits: Floats, auc: Measure | None) -> str:
    if auc is None:
        return ""
    if auc.low <= 0.5 <= auc.high:
        return "chance"
    share = float(np.mean(logits > 0))
    if max(share, 1 - share) > CONSTANT:
        return "constant"
    return "below chance" if auc.high < 0.5 else ""
