"""The curves of score tables: ROC curves of many resamples at once, what is read from them, and calibration.

The table is sorted once, and a resample is how often each of its rows counts. Rows of equal scores
make one point, as they cannot be distinguished. Calibration is how far confidence is from being right. Positive = fake.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trueface.evaluation.intervals import Counts, Floats, Indices, Resampled, Weights, chunks

FPR_PERCENT = 1  # the fraction of reals that may be classified as fake, of `tpr_at_fpr`
NONE = np.float32(1e-9)  # in the place of 0 called fake

BINS = 15  # of the calibration error: C. Guo et al., arXiv 1706.04599, section 5
LEAST_SURE = 0.5  # of two classes the predicted one has at least this: where the first bin begins
Labels = NDArray[np.int8]


class Order(NamedTuple):
    """The rows of a table from the highest logit to the lowest."""

    rows: Indices  # (N,)
    ends: Indices  # (T,) the last place of each run of equal logits
    fake: Weights  # (N,) 1 fake, 0 real, in this order


class Curve(NamedTuple):
    """The points of the ROC curves of C resamples, from "all are real" to "all are fake"."""

    true_positives: Weights  # (C, T + 1) fakes called fake, rising from 0
    false_positives: Weights  # (C, T + 1) reals called fake, rising from 0
    odds: Floats | None  # (C,) what a fake counts where a real counts 1; None: the same

    @property
    def fakes(self) -> Floats:
        """How many fakes there are, (C,)."""
        return self.true_positives[:, -1].astype(np.float64)

    @property
    def reals(self) -> Floats:
        """How many reals there are, (C,)."""
        return self.false_positives[:, -1].astype(np.float64)


def order(fake: NDArray[np.bool_], logits: Floats) -> Order:
    """Sort a table of labels (N,) and logits (N,)."""
    rows = np.argsort(-logits, kind="stable")
    return Order(
        rows=rows,
        ends=np.flatnonzero(np.append(np.diff(logits[rows]) != 0, True)),
        fake=fake[rows].astype(np.float32),
    )


def curve(of: Order, weights: Weights, odds: Floats | None = None) -> Curve:
    """Return the curves of C resamples.

    Args:
        of: a table of both classes.
        weights: (C, N) how often each row counts.
        odds: (C,) what a fake counts where a real counts 1; None: the same.
    """
    drawn = np.take(weights, of.rows, axis=1)
    return Curve(
        true_positives=_sums(drawn * of.fake, of.ends),
        false_positives=_sums(drawn * (1 - of.fake), of.ends),
        odds=odds,
    )


def resampled(
    statistic: Callable[[Curve], Floats], fake: NDArray[np.bool_], logits: Floats, weights: Counts
) -> Floats:
    """Return what a function of this module says of each resample: (R,).

    Args:
        statistic: of some curves, as `area`.
        fake: (N,) both classes.
        logits: (N,) higher = more fake.
        weights: (R, N) how often each row counts.
    """
    of = order(fake, logits)
    return np.concatenate([statistic(curve(of, part)) for part in chunks(weights)])


def resampled_area(fake: NDArray[np.bool_], logits: Floats, weights: Counts) -> Resampled:
    """Return the area under the curve with that of each resample; arguments as of `resampled`."""
    return float(area(plain_curve(fake, logits))[0]), resampled(area, fake, logits, weights)


def plain_curve(fake: NDArray[np.bool_], logits: Floats) -> Curve:
    """Return the one curve of a table in which each row counts once."""
    return curve(order(fake, logits), np.ones((1, len(logits)), np.float32))


def area(curve: Curve) -> Floats:
    """Return the areas under the curves (C,)."""
    wide = np.diff(curve.false_positives, axis=1)
    twice = curve.true_positives[:, 1:] + curve.true_positives[:, :-1]
    half: Floats = np.einsum("ct,ct->c", wide, twice, dtype=np.float64) / 2
    return half / (curve.fakes * curve.reals)


def average_precision(curve: Curve) -> Floats:
    """Return the sum of precisions weighted by the recall that each adds (C,).

    scikit-learn's definition: no interpolation.
    """
    hits = curve.true_positives[:, 1:]
    alarms = curve.false_positives[:, 1:]
    if curve.odds is not None:
        alarms = np.divide(alarms, curve.odds[:, None], dtype=np.float32, casting="same_kind")
    called = np.maximum(hits + alarms, NONE)  # none called: nothing found either
    added = np.diff(curve.true_positives, axis=1)
    summed: Floats = np.einsum("ct,ct->c", added, hits / called, dtype=np.float64)
    return summed / curve.fakes


def equal_error_rate(curve: Curve) -> Floats:
    """Return where the line between two neighbouring points crosses FPR = 1 - TPR (C,).

    Source: ISO/IEC 19795-1, FMR = FNMR.
    """
    rows = np.arange(len(curve.true_positives))

    def gap(at: Indices) -> Floats:  # FPR - FNR, times both counts: exact
        hits, alarms = curve.true_positives[rows, at], curve.false_positives[rows, at]
        level: Floats = alarms * curve.fakes - (curve.fakes - hits) * curve.reals
        return level

    after = _first(curve, lambda at: gap(at) >= 0)
    before = after - 1  # "all are real" has a gap below 0
    along = -gap(before) / (gap(after) - gap(before))
    low, high = curve.false_positives[rows, before], curve.false_positives[rows, after]
    rate: Floats = (low + along * (high - low)) / curve.reals
    return rate


def tpr_at_fpr(curve: Curve) -> Floats:
    """Return the largest TPR of a threshold that calls at most FPR_PERCENT of the reals fake (C,).

    No line is drawn between points, since no threshold lies on it.
    """
    rows = np.arange(len(curve.true_positives))
    allowed = curve.reals * FPR_PERCENT
    beyond = _first(curve, lambda at: curve.false_positives[rows, at] * 100.0 > allowed)
    rate: Floats = curve.true_positives[rows, beyond - 1] / curve.fakes
    return rate


def threshold_at_fpr(fake: NDArray[np.bool_], logits: Floats) -> float:
    """Return the threshold of `tpr_at_fpr`: what lies above it is called fake."""
    reals = np.sort(logits[~fake])[::-1]
    return float(reals[len(reals) * FPR_PERCENT // 100])


def _sums(drawn: Weights, ends: Indices) -> Weights:
    sums = np.zeros((len(drawn), len(ends) + 1), np.float32)  # whole numbers, exact up to 2²⁴
    if len(ends) == drawn.shape[1]:
        np.cumsum(drawn, axis=1, out=sums[:, 1:])
    else:
        sums[:, 1:] = np.cumsum(drawn, axis=1)[:, ends]
    return sums


def _first(curve: Curve, holds: Callable[[Indices], NDArray[np.bool_]]) -> Indices:
    """Return for each resample the first point that `holds`; it does at the last, not at 0."""
    low = np.zeros(len(curve.true_positives), np.intp)
    high = np.full(len(curve.true_positives), curve.true_positives.shape[1] - 1, np.intp)
    while np.any(high - low > 1):
        middle = (low + high) // 2
        there = holds(middle)
        low, high = np.where(there, low, middle), np.where(there, middle, high)
    return high


def calibration_error(labels: Labels, logits: Floats) -> float:
    """Return the expected calibration error of the predicted class, in 0 … 1.

    Source: C. Guo et al., arXiv 1706.04599, equation 3. They divide 0 … 1 into 15 bins of equal
        width; of two classes the predicted one has a half at least, and half of their bins would be
        empty: ours divide 0.5 … 1.
    """
    summed = gaps(labels == 1, logits).sum(0, dtype=np.float64)
    return float(np.abs(summed).sum() / len(labels))


def gaps(fake: NDArray[np.bool_], logits: Floats) -> NDArray[np.float32]:
    """Return correctness (0 or 1) minus confidence of each prediction, in its bin's column: (N, BINS)."""
    confidence = probabilities(np.abs(logits))
    correct = (logits > 0) == fake
    columns = np.zeros((len(logits), BINS), np.float32)
    columns[np.arange(len(logits)), sure_bins(confidence)] = correct - confidence
    return columns


def sure_bins(confidence: Floats) -> NDArray[np.intp]:
    """Return the bin (N,) of the confidence in the predicted one of two classes."""
    along = (confidence - LEAST_SURE) / (1 - LEAST_SURE)
    return np.clip((along * BINS).astype(np.intp), 0, BINS - 1)


def losses(fake: NDArray[np.bool_], logits: Floats) -> Floats:
    """Return the cross entropy of each prediction (N,)."""
    entropies: Floats = np.logaddexp(0.0, np.where(fake, -logits, logits))
    return entropies


def probabilities(logits: Floats) -> Floats:
    """Return the probability of a fake (N,)."""
    # the same as a sigmoid, but no overflow for a large negative logit
    fake: Floats = np.exp(-np.logaddexp(0.0, -logits))
    return fake
