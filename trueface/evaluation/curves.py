"""The curves of score tables: ROC curves of many resamples at once, and what is read from them.

The table is sorted once, and a resample is how often each of its rows counts. Rows of equal scores
make one point, as they cannot be distinguished.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trueface.evaluation.intervals import Counts, Floats, Resampled, Weights, chunks

FPR_PERCENT = 1  # the fraction of reals that may be classified as fake, of `tpr_at_fpr`
NONE = np.float32(1e-9)  # in the place of 0 called fake

Indices = NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """The rows of a table from the highest logit to the lowest."""

    rows: Indices  # (N,)
    ends: Indices  # (T,) the last place of each run of equal logits
    fake: Weights  # (N,) 1 fake, 0 real, in this order


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
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
