"""Who is best, and how sure that is: ranks under resampled images and seeds.

Every model is scored on the same images, so that one resample stands for all of them; where a model
was trained with several seeds, these are drawn with replacement, too. Rank 1 is the best; equal values
share the mean of their ranks.

Source: the bootstrap of ranks, H. Goldstein and D. Spiegelhalter, Journal of the Royal Statistical
Society A 159(3), 1996, section 3.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from trueface.evaluation.intervals import COVERAGE


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """The place of one model among all."""

    rank: float  # mean over cells and resamples
    low: float  # of the rank, 95 %
    high: float
    best: float  # probability of the best mean rank; equal ones share it


def rank(values: NDArray[np.float64]) -> list[Ranked]:
    """Return the place of each model.

    Args:
        values: (M, C, R) of M models in C cells under R resamples, higher = better.
    """
    ranks = rankdata(-values, axis=0, method="average").mean(1)  # (M, R): mean over cells
    best = ranks <= ranks.min(0) + 1e-9
    shares = best / best.sum(0)
    tail = (1 - COVERAGE) / 2
    low, high = np.quantile(ranks, [tail, 1 - tail], axis=1)
    return [
        Ranked(
            rank=float(ranks[place].mean()),
            low=float(low[place]),
            high=float(high[place]),
            best=float(shares[place].mean()),
        )
        for place in range(len(values))
    ]
