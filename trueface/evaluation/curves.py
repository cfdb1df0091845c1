"""What follows from the order of the scores: the areas and points of a model's curves.

All for many resamples of one table at once: the table is sorted once, and a resample is how often
each of its rows counts. Rows of equal scores make one point, as they cannot be told apart.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trueface.evaluation.bootstrap import Counts, Floats, Weights, chunks

FPR_PERCENT = 1  # the share of reals that may be called fake, of `tpr_at_1fpr`
NONE = np.float32(1e-9)  # in the place of 0 called fake
NAMES = ("auc", "ap", "eer", "tpr_at_1fpr")

Indices = NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """The points of the ROC curves of C resamples, from "all are real" to "all are fake"."""

    found: Weights  # (C, T + 1) fakes called fake, rising from 0
    accused: Weights  # (C, T + 1) reals called fake, rising from 0
    odds: Floats | None  # (C,) what a fake counts where a real counts 1; None: the same

    @property
    def fakes(self) -> Floats:
        """How many fakes there are, (C,)."""
        return self.found[:, -1].astype(np.float64)

    @property
    def reals(self) -> Floats:
        """How many reals there are, (C,)."""
        return self.accused[:, -1].astype(np.float64)


def values(
    fake: NDArray[np.bool_], logits: Floats, weights: Counts, odds: Floats | None = None
) -> dict[str, Floats]:
    """Return area, average precision, equal error rate and TPR at 1 % FPR of each resample.

    Args:
        fake: (N,) both classes.
        logits: (N,) higher = more fake.
        weights: (R, N) how often each row counts.
        odds: (R,) what a fake counts where a real counts 1; None: the same.

    Returns:
        For each of `NAMES` (R,) in 0 … 1.

    Sources: average precision is the sum of precisions weighted by the recall that each adds
        (scikit-learn's, no interpolation). The equal error rate is where the line between two
        neighbouring ROC points crosses FPR = 1 - TPR (ISO/IEC 19795-1: FMR = FNMR). TPR at 1 %
        FPR is the largest that a threshold reaches with no more than 1 % of the reals called
        fake: no line is drawn there, since no threshold lies on it.
    """
    order = np.argsort(-logits, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(logits[order]) != 0, True))
    positive = fake[order].astype(np.float32)
    parts, at = [], 0
    for part in chunks(weights):
        drawn = np.take(part, order, axis=1)
        curve = Curve(
            found=_sums(drawn * positive, ends),
            accused=_sums(drawn * (1 - positive), ends),
            odds=None if odds is None else odds[at : at + len(part)],
        )
        at += len(part)
        parts.append((_area(curve), _precision(curve), _equal(curve), _strict(curve)))
    return {
        name: np.concatenate(part)
        for name, part in zip(NAMES, zip(*parts, strict=True), strict=True)
    }


def _sums(drawn: Weights, ends: Indices) -> Weights:
    sums = np.zeros((len(drawn), len(ends) + 1), np.float32)  # whole numbers, exact up to 2²⁴
    if len(ends) == drawn.shape[1]:
        np.cumsum(drawn, axis=1, out=sums[:, 1:])
    else:
        sums[:, 1:] = np.cumsum(drawn, axis=1)[:, ends]
    return sums


def _area(curve: Curve) -> Floats:
    wide = np.diff(curve.accused, axis=1)
    twice = curve.found[:, 1:] + curve.found[:, :-1]
    area: Floats = np.einsum("ct,ct->c", wide, twice, dtype=np.float64) / 2
    return area / (curve.fakes * curve.reals)


def _precision(curve: Curve) -> Floats:
    found = curve.found[:, 1:]
    accused = curve.accused[:, 1:]
    if curve.odds is not None:
        accused = np.divide(accused, curve.odds[:, None], dtype=np.float32, casting="same_kind")
    called = np.maximum(found + accused, NONE)  # none called: nothing found either
    added = np.diff(curve.found, axis=1)
    summed: Floats = np.einsum("ct,ct->c", added, found / called, dtype=np.float64)
    return summed / curve.fakes


def _equal(curve: Curve) -> Floats:
    rows = np.arange(len(curve.found))

    def gap(at: Indices) -> Floats:  # FPR - FNR, times both counts: exact
        found, accused = curve.found[rows, at], curve.accused[rows, at]
        level: Floats = accused * curve.fakes - (curve.fakes - found) * curve.reals
        return level

    after = _first(curve, lambda at: gap(at) >= 0)
    before = after - 1  # "all are real" has a gap below 0
    along = -gap(before) / (gap(after) - gap(before))
    low, high = curve.accused[rows, before], curve.accused[rows, after]
    rate: Floats = (low + along * (high - low)) / curve.reals
    return rate


def _strict(curve: Curve) -> Floats:
    rows = np.arange(len(curve.found))
    allowed = curve.reals * FPR_PERCENT
    beyond = _first(curve, lambda at: curve.accused[rows, at] * 100.0 > allowed)
    rate: Floats = curve.found[rows, beyond - 1] / curve.fakes
    return rate


def _first(curve: Curve, holds: Callable[[Indices], NDArray[np.bool_]]) -> Indices:
    """Return for each resample the first point that `holds`; it does at the last, not at 0."""
    low = np.zeros(len(curve.found), np.intp)
    high = np.full(len(curve.found), curve.found.shape[1] - 1, np.intp)
    while np.any(high - low > 1):
        middle = (low + high) // 2
        there = holds(middle)
        low, high = np.where(there, low, middle), np.where(there, middle, high)
    return high


def strict(fake: NDArray[np.bool_], logits: Floats) -> float:
    """Return the threshold of `tpr_at_1fpr`: what lies above it is called fake."""
    reals = np.sort(logits[~fake])[::-1]
    return float(reals[len(reals) * FPR_PERCENT // 100])
