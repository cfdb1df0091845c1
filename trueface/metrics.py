"""What the scores of a model are worth: point values by scikit-learn, intervals by bootstrap.

A test set is a sample twice: of sources (a generator under one setting, a camera collection: the
folder of an image) and of images of each. Both are resampled. A model may like one source and
dislike another for no reason but the chance of its training; as many images as you like of two
sources do not show that it tells fakes from reals. Copies of an image in several networks have
one key and stand or fall together.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    log_loss,
    roc_auc_score,
)

from trueface.errors import DataError
from trueface.streams import numpy_stream

RESAMPLES = 1000  # the 2.5 % point of a percentile interval then rests on 25 resamples
COVERAGE = 0.95
SIDES: tuple[Literal["left"], Literal["right"]] = ("left", "right")
BINS = 15  # of the calibration error: C. Guo et al., arXiv 1706.04599, section 5
CONSTANT = 0.99  # from this share of equal answers on, a predictor is called constant

Floats = NDArray[np.float64]
Weights = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """A value with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All measures of one score table; `None` where `reason` says why there can be none."""

    n: int
    accuracy: Measure
    balanced_accuracy: Measure | None
    auc: Measure | None
    ece: Measure
    loss: Measure
    confusion: tuple[tuple[int, int], tuple[int, int]]  # rows true real, fake; columns predicted
    reason: str | None
    verdict: str  # "chance", "below chance", "constant" or ""


def measure(
    labels: NDArray[np.int8], logits: Floats, *, keys: Sequence[str], seed: int = 0
) -> Report:
    """Return every measure of a score table with its interval.

    Args:
        labels: (N,) 1 fake, 0 real.
        logits: (N,) positive = fake; exactly 0 counts as real, as in the original system.
        keys: (N,) "<source>/<name>" of the images; rows with one key are resampled together.
        seed: root seed of the resampling; the same table has the same intervals.

    Raises:
        DataError: empty, or a logit that is no finite number: such a model has no score.

    Sources: percentile interval, B. Efron and R. Tibshirani, "An introduction to the bootstrap",
        1993, chapter 13; two stages, A. Davison and D. Hinkley, "Bootstrap methods and their
        application", 1997, section 3.8, with the product of both stages' weights as in A. Owen
        and D. Eckles, arXiv 1106.2125, which they show to be wide rather than narrow. With one
        source a class, images alone are resampled: nothing then tells how sources differ. The
        interval of a value at its limit (accuracy 1 on N images) has no width; it then says
        "within 3/N at most".
    """
    _check(labels, logits)
    fake = labels == 1
    weights = _resamples(tuple(keys), labels.tobytes(), seed)
    both = bool(fake.any() and not fake.all())
    point = _points(labels, logits)
    spread = _spread(fake, logits, weights)
    auc = _interval(point["auc"], spread["auc"]) if both else None
    return Report(
        n=len(labels),
        accuracy=_interval(point["accuracy"], spread["accuracy"]),
        balanced_accuracy=_interval(point["balanced"], spread["balanced"]) if both else None,
        auc=auc,
        ece=_interval(point["ece"], _unbiased(point["ece"], spread["ece"])),
        loss=_interval(point["loss"], spread["loss"]),
        confusion=_confusion(labels, logits),
        reason=None if both else f"all images are {'fake' if fake.any() else 'real'}",
        verdict=_verdict(logits, auc),
    )


def calibration_error(labels: NDArray[np.int8], logits: Floats) -> float:
    """Return the expected calibration error of the predicted class, in 0 … 1.

    Source: C. Guo et al., arXiv 1706.04599, equation 3, with 15 bins of equal width; the
        confidence of a binary answer is at least one half, so that only the upper bins fill.
    """
    return float(_errors(labels == 1, logits, np.ones((1, len(labels)), np.float32))[0])


def _check(labels: NDArray[np.int8], logits: Floats) -> None:
    if not len(labels):
        raise DataError("no scores to measure")
    broken = int(np.count_nonzero(~np.isfinite(logits)))
    if broken:
        raise DataError(f"{broken} of {len(logits)} logits are no finite numbers")


def _points(labels: NDArray[np.int8], logits: Floats) -> dict[str, float]:
    predicted = logits > 0
    both = len(np.unique(labels)) == 2
    return {
        "accuracy": accuracy_score(labels, predicted),
        "balanced": balanced_accuracy_score(labels, predicted) if both else 0.0,
        "auc": roc_auc_score(labels, logits) if both else 0.0,
        "ece": calibration_error(labels, logits),
        "loss": log_loss(labels, _probabilities(logits), labels=[0, 1]),
    }


def _confusion(labels: NDArray[np.int8], logits: Floats) -> tuple[tuple[int, int], tuple[int, int]]:
    (a, b), (c, d) = confusion_matrix(labels, logits > 0, labels=[0, 1]).tolist()
    return (a, b), (c, d)


def _spread(fake: NDArray[np.bool_], logits: Floats, weights: Weights) -> dict[str, Floats]:
    """Return each measure on every resample; those of two classes only where both are there."""
    right = (logits > 0) == fake
    both = bool(fake.any() and not fake.all())
    rows = weights.sum(1)
    spread = {
        "accuracy": weights @ right.astype(np.float32) / rows,
        "ece": _errors(fake, logits, weights),
        "loss": weights @ _losses(fake, logits).astype(np.float32) / rows,
    }
    if both:
        recall = [
            weights @ (right & of).astype(np.float32) / (weights @ of.astype(np.float32))
            for of in (fake, ~fake)
        ]
        spread["balanced"] = (recall[0] + recall[1]) / 2
        spread["auc"] = _areas(fake, logits, weights)
    return {name: values.astype(np.float64) for name, values in spread.items()}


def _areas(fake: NDArray[np.bool_], logits: Floats, weights: Weights) -> Floats:
    """Return the weighted area under the curve for each row of `weights` (R, N); ties count half."""
    fakes, reals = np.flatnonzero(fake), np.flatnonzero(~fake)
    reals = reals[np.argsort(logits[reals], kind="stable")]
    below = np.zeros((len(weights), len(reals) + 1), np.float32)  # (R, reals + 1), running sums
    np.cumsum(weights[:, reals], axis=1, out=below[:, 1:])
    first, last = (np.searchsorted(logits[reals], logits[fakes], side) for side in SIDES)
    of_fakes = weights[:, fakes]
    won = np.einsum("rf,rf->r", of_fakes, below[:, first] + below[:, last], dtype=np.float64) / 2
    areas: Floats = won / (of_fakes.sum(1, dtype=np.float64) * below[:, -1])
    return areas


def _errors(fake: NDArray[np.bool_], logits: Floats, weights: Weights) -> Floats:
    """Return the calibration error for each row of `weights` (R, N)."""
    confidence = _probabilities(np.abs(logits))
    right = (logits > 0) == fake
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = np.zeros((len(logits), BINS), np.float32)
    gaps[np.arange(len(logits)), bins] = right - confidence
    errors: Floats = np.abs(weights @ gaps).sum(1) / weights.sum(1)
    return errors


def _losses(fake: NDArray[np.bool_], logits: Floats) -> Floats:
    losses: Floats = np.logaddexp(0.0, np.where(fake, -logits, logits))
    return losses


def _probabilities(logits: Floats) -> Floats:
    # the same as a sigmoid, but no overflow for a large negative logit
    probabilities: Floats = np.exp(-np.logaddexp(0.0, -logits))
    return probabilities


@lru_cache(maxsize=16)  # the models of a run are tested on the same images
def _resamples(keys: tuple[str, ...], labels: bytes, seed: int) -> Weights:
    """Return how often each row stands in each resample: (R, N), whole numbers."""
    random = numpy_stream("bootstrap", seed)
    classes = np.frombuffer(labels, np.int8)
    sources = np.array([key.rpartition("/")[0] for key in keys])
    images = np.array(keys)
    weights = np.zeros((RESAMPLES, len(keys)), np.float32)
    for label in np.unique(classes):
        of_class = np.flatnonzero(classes == label)
        names, which = np.unique(sources[of_class], return_inverse=True)
        times = _draw(random, len(names))  # (R, sources of this class)
        for number in range(len(names)):
            rows = of_class[which == number]
            _, image = np.unique(images[rows], return_inverse=True)
            drawn = _draw(random, int(image.max()) + 1)
            weights[:, rows] = times[:, [number]] * drawn[:, image]
    return weights


def _draw(random: np.random.Generator, size: int) -> Weights:
    """Return how often each of `size` things is drawn in `size` draws, for each resample."""
    if size == 1:
        return np.ones((RESAMPLES, 1), np.float32)
    drawn = random.integers(0, size, (RESAMPLES, size)) + size * np.arange(RESAMPLES)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=RESAMPLES * size)
    return counts.reshape(RESAMPLES, size).astype(np.float32)


def _unbiased(value: float, resampled: Floats) -> Floats:
    """Return `resampled` without its mean distance from `value`, nothing below 0.

    A calibration error is a sum of absolute gaps, and resampling widens every gap: the plain
    interval may lie above the value. Source: Efron and Tibshirani 1993, section 10.6.
    """
    shifted: Floats = np.maximum(resampled - (resampled.mean() - value), 0.0)
    return shifted


def _interval(value: float, resampled: Floats) -> Measure:
    tail = (1 - COVERAGE) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return Measure(value=float(value), low=float(low), high=float(high))


def _verdict(logits: Floats, auc: Measure | None) -> str:
    if auc is None:
        return ""
    if auc.low <= 0.5 <= auc.high:
        return "chance"
    share = float(np.mean(logits > 0))
    if max(share, 1 - share) > CONSTANT:
        return "constant"
    return "below chance" if auc.high < 0.5 else ""
