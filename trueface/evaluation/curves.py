"""The curves of score tables: ROC curves of many resamples at once, the values derived from them, and calibration.

The table is sorted once, and a resample is how often each of its rows counts. Rows of equal scores
make one point, as they cannot be distinguished. Calibration is how far confidence is from being right. Positive = fake.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trueface.evaluation.intervals import (
    Counts,
    Floats,
    Indices,
    Resampled,
    at_a_time,
    chunks,
)

FPR_PERCENT = 1  # the fraction of reals that may be classified as fake, of `tpr_at_fpr`
NONE = np.float32(1e-9)  # in the place of 0 called fake

BINS = 15  # of the calibration error: C. Guo et al., arXiv 1706.04599, section 5
LEAST_SURE = 0.5  # of two classes the predicted one has at least this: where the first bin begins
Labels = NDArray[np.int8 | np.int64]
# float32 of resamples, which is quick and exact to 2²⁴; float64 of a table itself
Sums = NDArray[Any]


class RocOrder(NamedTuple):
    """The rows of a table by class, from the highest logit to the lowest, and the points of its curve.

    A point is a threshold with the images that are called fake there. The first is above all logits.
    """

    fakes: Indices  # (F,)
    reals: Indices  # (R,)
    hits: Indices  # (T + 1,) how many of `fakes` are called fake at each point, rising from 0
    alarms: Indices  # (T + 1,) the same of `reals`


class Curve(NamedTuple):
    """The ROC curves of C resamples, from "all are real" to "all are fake"."""

    order: RocOrder
    fake_weights: Sums  # (C, F) how often each fake counts, in its order
    real_weights: Sums  # (C, R)
    true_positives: Sums  # (C, F + 1) how much the first fakes count together, rising from 0
    false_positives: Sums  # (C, R + 1)
    odds: Floats | None  # (C,) what a fake counts where a real counts 1; None: the same

    @property
    def fakes(self) -> Floats:
        """How many fakes there are, (C,)."""
        return self.true_positives[:, -1].astype(np.float64)

    @property
    def reals(self) -> Floats:
        """How many reals there are, (C,)."""
        return self.false_positives[:, -1].astype(np.float64)

    def counts_at(self, points: Indices) -> tuple[Sums, Sums]:
        """Return the true and the false positives at a point of each curve: (C,) both."""
        rows = np.arange(len(points))
        return (
            self.true_positives[rows, self.order.hits[points]],
            self.false_positives[rows, self.order.alarms[points]],
        )


def sort_for_roc(fake: NDArray[np.bool_], logits: Floats) -> RocOrder:
    """Sort a table of labels (N,) and logits (N,)."""
    rows = np.argsort(-logits, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(logits[rows]) != 0, True))  # of runs of equal logits
    of_fakes = fake[rows]
    return RocOrder(
        fakes=rows[of_fakes],
        reals=rows[~of_fakes],
        hits=np.append(0, np.cumsum(of_fakes)[ends]),
        alarms=np.append(0, np.cumsum(~of_fakes)[ends]),
    )


def curve(of: RocOrder, weights: Counts | Sums, odds: Floats | None = None) -> Curve:
    """Return the curves of C resamples.

    Args:
        of: a table of both classes.
        weights: (C, N) how often each row counts.
        odds: (C,) weight of a fake image relative to a real one. None: the same.
    """
    exact = np.result_type(weights, np.float32)
    fakes, reals = (np.take(weights, rows, axis=1).astype(exact) for rows in (of.fakes, of.reals))
    return Curve(of, fakes, reals, _sums(fakes), _sums(reals), odds)


def resampled(
    statistic: Callable[[Curve], Floats], fake: NDArray[np.bool_], logits: Floats, weights: Counts
) -> Floats:
    """Return the value of a function of this module for each resample: (R,).

    Args:
        statistic: of some curves, as `area`.
        fake: (N,) both classes.
        logits: (N,) higher = more fake.
        weights: (R, N) how often each row counts.
    """
    of = sort_for_roc(fake, logits)
    return np.concatenate(
        [statistic(curve(of, part)) for part in chunks(weights, at_a_time(len(fake)))]
    )


def resampled_area(fake: NDArray[np.bool_], logits: Floats, weights: Counts) -> Resampled:
    """Return the area under the curve with that of each resample; arguments as of `resampled`."""
    return float(area(plain_curve(fake, logits))[0]), resampled(area, fake, logits, weights)


def plain_curve(fake: NDArray[np.bool_], logits: Floats) -> Curve:
    """Return the one curve of a table in which each row counts once."""
    return curve(sort_for_roc(fake, logits), np.ones((1, len(logits))))


def area(curve: Curve) -> Floats:
    """Return the areas under the curves (C,)."""
    hits, alarms = curve.order.hits, curve.order.alarms
    # of each real how many fakes are above it, one with an equal logit being half above
    end = np.searchsorted(alarms, np.arange(curve.real_weights.shape[1]), side="right")
    twice: Sums = np.take(curve.true_positives, hits[end], axis=1)
    twice += np.take(curve.true_positives, hits[end - 1], axis=1)
    half: Floats = np.einsum("cr,cr->c", curve.real_weights, twice, dtype=np.float64) / 2
    return half / (curve.fakes * curve.reals)


def average_precision(curve: Curve) -> Floats:
    """Return the sum of precisions weighted by the recall that each adds (C,).

    scikit-learn's definition: no interpolation.
    """
    hits, alarms = curve.order.hits, curve.order.alarms
    end = np.searchsorted(hits, np.arange(curve.fake_weights.shape[1]), side="right")
    found: Sums = np.take(curve.true_positives, hits[end], axis=1)
    called: Sums = np.take(curve.false_positives, alarms[end], axis=1)
    if curve.odds is not None:
        called /= curve.odds[:, None].astype(called.dtype)
    called += found
    np.maximum(called, NONE, out=called)  # none called: nothing found either
    np.divide(found, called, out=found)
    summed: Floats = np.einsum("cf,cf->c", curve.fake_weights, found, dtype=np.float64)
    return summed / curve.fakes


def equal_error_rate(curve: Curve) -> Floats:
    """Return where the line between two neighbouring points crosses FPR = 1 - TPR (C,).

    Source: ISO/IEC 19795-1, FMR = FNMR.
    """
    fakes, reals = curve.fakes, curve.reals

    def gap(points: Indices) -> Floats:  # FPR - FNR, times both counts: exact
        hits, alarms = curve.counts_at(points)
        level: Floats = alarms * fakes - (fakes - hits) * reals
        return level

    after = _first(curve, lambda at: gap(at) >= 0)
    before = after - 1  # "all are real" has a gap below 0
    along = -gap(before) / (gap(after) - gap(before))
    low, high = curve.counts_at(before)[1], curve.counts_at(after)[1]
    rate: Floats = (low + along * (high - low)) / reals
    return rate


def tpr_at_fpr(curve: Curve) -> Floats:
    """Return the largest TPR of a threshold that calls at most FPR_PERCENT of the reals fake (C,).

    No line is drawn between points, since no threshold is on it.
    """
    allowed = curve.reals * FPR_PERCENT
    beyond = _first(curve, lambda points: curve.counts_at(points)[1] * 100.0 > allowed)
    rate: Floats = curve.counts_at(beyond - 1)[0] / curve.fakes
    return rate


def threshold_at_fpr(fake: NDArray[np.bool_], logits: Floats) -> float:
    """Return the threshold of `tpr_at_fpr`: logits above it are called fake."""
    reals = np.sort(logits[~fake])[::-1]
    return float(reals[len(reals) * FPR_PERCENT // 100])


def _sums(weights: Sums) -> Sums:
    sums = np.zeros((len(weights), weights.shape[1] + 1), weights.dtype)
    np.cumsum(weights, axis=1, out=sums[:, 1:])
    return sums


def _first(curve: Curve, holds: Callable[[Indices], NDArray[np.bool_]]) -> Indices:
    """Return for each resample the first point that `holds`; it does at the last, not at 0."""
    low = np.zeros(len(curve.true_positives), np.intp)
    high = np.full(len(curve.true_positives), len(curve.order.hits) - 1, np.intp)
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


def probabilities(logits: Floats) -> Floats:
    """Return the probability of a fake (N,)."""
    # the same as a sigmoid, but no overflow for a large negative logit
    fake: Floats = np.exp(-np.logaddexp(0.0, -logits))
    return fake
