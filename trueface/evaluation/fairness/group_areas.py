"""The area under the ROC curve of each group: logits are sorted once for all groups and groupings."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trueface.evaluation.bootstrap import COVERAGE, Floats
from trueface.evaluation.bounded_intervals import Scale, ends

Indices = NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """The rows of a table from the lowest logit to the highest."""

    rows: Indices  # (N,)
    runs: NDArray[np.int32]  # (N,) in this order: number of the run of equal logits

    @classmethod
    def of(cls, logits: Floats) -> "Ranking":
        """Sort logits (N,)."""
        rows = np.argsort(logits)
        ordered = logits[rows]
        runs = np.zeros(len(rows), np.int32)
        np.cumsum(ordered[1:] != ordered[:-1], out=runs[1:])
        return cls(rows=rows, runs=runs)


def areas(
    ranking: Ranking, fake: NDArray[np.bool_], groups: NDArray[np.integer], size: int
) -> Floats:
    """Return the AUC of each group (G,), in 0 … 1; NaN for a group that lacks a class.

    The AUC is the probability that a fake of the group has a higher logit than a real of it; equal
    logits count a half.

    Args:
        ranking: of the logits (N,).
        fake: (N,).
        groups: (N,) number of the group of each row, from 0 on.
        size: how many groups there are.
    """
    return _areas(groups[ranking.rows], ranking.runs, fake[ranking.rows], size)


def dealt_areas(
    ranking: Ranking, fake: NDArray[np.bool_], dealt: NDArray[np.integer], size: int
) -> Floats:
    """Return the AUC of each group in S tables that differ in their groups alone: (S, G).

    Args:
        ranking: of the logits (N,).
        fake: (N,).
        dealt: (S, N) number of the group of each row in each table.
        size: how many groups there are.
    """
    tables = len(dealt)
    numbers = dealt[:, ranking.rows] + size * np.arange(tables)[:, None]
    runs, is_fake = np.tile(ranking.runs, tables), np.tile(fake[ranking.rows], tables)
    return _areas(numbers.ravel(), runs, is_fake, tables * size).reshape(tables, size)


def _areas(
    groups: NDArray[np.integer], runs: NDArray[np.int32], is_fake: NDArray[np.bool_], size: int
) -> Floats:
    """Return the AUC of each group; in each, rows stand from the lowest logit to the highest."""
    if not len(groups):
        return np.full(size, np.nan)
    group, run = groups.astype(np.min_scalar_type(max(size - 1, 0))), runs
    if size > 1:
        order = np.argsort(group, kind="stable")  # of integers of 16 bits at most: a radix sort
        group, run, is_fake = group[order], run[order], is_fake[order]
    starts = np.flatnonzero(
        np.concatenate([[True], (group[1:] != group[:-1]) | (run[1:] != run[:-1])])
    )
    fakes = np.add.reduceat(is_fake.astype(np.int64), starts)  # of each run of equal logits
    reals = np.diff(np.append(starts, len(group))) - fakes
    below = np.cumsum(reals) - reals  # in groups before this one, too: taken off below
    of_run = group[starts].astype(np.intp)
    total_fakes = np.bincount(of_run, weights=fakes, minlength=size)
    total_reals = np.bincount(of_run, weights=reals, minlength=size)
    earlier = np.cumsum(total_reals) - total_reals
    wins = np.bincount(of_run, weights=fakes * (below + reals / 2), minlength=size)
    wins -= total_fakes * earlier
    pairs = total_fakes * total_reals
    values: Floats = np.divide(wins, pairs, out=np.full(size, np.nan), where=pairs > 0)
    return values


def interval(area: float, reals: int, fakes: int) -> tuple[float, float]:
    """Return both ends of the 95 % interval of an AUC of so many images of each class.

    Source: J. Hanley and B. McNeil, Radiology 143(1), 1982, equation 2; the ends are taken on the
    logit scale, which keeps them within 0 … 1.
    """
    from scipy.special import ndtri

    both, other = area / (2 - area), 2 * area**2 / (1 + area)
    spread = area * (1 - area) + (fakes - 1) * (both - area**2) + (reals - 1) * (other - area**2)
    error = float(np.sqrt(max(spread, 0.0) / (reals * fakes)))
    if error == 0:  # without a wrong pair there is no spread: as of one pair in as many images
        error = 1 / (reals + fakes)
    return ends(area, float(ndtri((1 + COVERAGE) / 2)) * error, Scale.SHARE)
