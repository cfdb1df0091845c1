"""ROC curves of many resamples of a score table at once, and the values derived from them.

The table is sorted once, and a resample is how often each of its rows counts. Rows of equal scores
make one point, as they cannot be distinguished. Positive = fake.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trueface.evaluation.arrays import Counts, Floats, Indices

FPR_PERCENT = 1  # the fraction of reals that may be classified as fake, of `tpr_at_fpr`
NONE = np.float32(1e-9)  # in the place of 0 called fake
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
    ends = np.flatnonzero(np.append(np.diff(logits[rows]) != 0, True))  # last rows of equal logits
    of_fakes = fake[rows]
    return RocOrder(
        fakes=rows[of_fakes],
        reals=rows[~of_fakes],
        hits=np.append(0, np.cumsum(of_fakes)[ends]),
        alarms=np.append(0, np.cumsum(~of_fakes)[ends]),
    )


def curve(order: RocOrder, weights: Counts | Sums, odds: Floats | None = None) -> Curve:
    """Return the curves of C resamples.

    Args:
        order: images of both classes, in the order of their margins.
        weights: (C, N) how often each row counts.
        odds: (C,) weight of a fake image relative to a real one. None: the same.
    """
    exact = np.result_type(weights, np.float32)
    fakes, reals = (
        np.take(weights, rows, axis=1).astype(exact) for rows in (order.fakes, order.reals)
    )
    return Curve(order, fakes, reals, _sums(fakes), _sums(reals), odds)


def area(curve: Curve) -> Floats:
    """Return the areas under the curves (C,)."""
    hits, alarms = curve.order.hits, curve.order.alarms
    # for each real, the number of fakes above it; one with an equal logit is half above
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

    after = _find_first_points(curve, lambda points: gap(points) >= 0)
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
    beyond = _find_first_points(curve, lambda points: curve.counts_at(points)[1] * 100.0 > allowed)
    rate: Floats = curve.counts_at(beyond - 1)[0] / curve.fakes
    return rate


def threshold_at_fpr(reals: Floats, percent: int = FPR_PERCENT) -> float:
    """Return the lowest of the reals' logits (R,) with at most `percent` of them above it."""
    return float(np.sort(reals)[::-1][len(reals) * percent // 100])


def _sums(weights: Sums) -> Sums:
    sums = np.zeros((len(weights), weights.shape[1] + 1), weights.dtype)
    np.cumsum(weights, axis=1, out=sums[:, 1:])
    return sums


def _find_first_points(curve: Curve, holds: Callable[[Indices], NDArray[np.bool_]]) -> Indices:
    """Return for each resample the first point that `holds`; it does at the last, not at 0."""
    low = np.zeros(len(curve.true_positives), np.intp)
    high = np.full(len(curve.true_positives), len(curve.order.hits) - 1, np.intp)
    while np.any(high - low > 1):
        middle = (low + high) // 2
        there = holds(middle)
        low, high = np.where(there, low, middle), np.where(there, middle, high)
    return high
