"""Score intervals of the areas under the ROC curve and the precision-recall curve.

The ends are the values whose distance from ours is 1.96 of *their* standard errors, as of Wilson, and of the AUC in
R. Newcombe, Statistics in Medicine 25(4), 2006, method 5. The variances are those of two normal distributions;
Newcombe's exponential ones make the interval eight times too wide near 1. If our own variance (DeLong's; of the
influence function) is larger than theirs at our value, all of theirs grow by this factor.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri

from trueface.evaluation.arrays import Floats
from trueface.evaluation.estimate import Interval
from trueface.evaluation.intervals.fractions import Z

# Factors of half widths, found by simulation (benchmarks/coverage.py): most tables do not hold the rare images that
# cost most
AUC_LEAST, AUC_MORE, AUC_HIGH = 0.8, 0.3, 1.15
AP_LEAST, AP_MORE, AP_FEW, AP_MANY, AP_HIGH, AP_TO_LOW = 0.7, 1.6, 3.5, 60.0, 0.4, 0.8
TINY = 5e-324  # in the place of 0 called fake
ANY_SHARE = 0.5  # share of fakes for the AUC, which does not depend on it
APART = np.linspace(-3, 9, 121)  # deviations between the means of normal logits


class Steps(NamedTuple):
    """Shares of both classes at each distinct logit, from the highest on, and their running sums."""

    fakes: Floats
    reals: Floats
    tpr: Floats
    fpr: Floats


class Ranked(NamedTuple):
    """A value, and the variances that one fake and one real add: the mean squares of their influences."""

    value: float
    of_fakes: float
    of_reals: float


Ranking = Callable[[Steps, float], Ranked]  # function of the steps and the share of fakes


def area_interval(
    value: float, fakes: Floats, reals: Floats, counts: tuple[float, float]
) -> Interval:
    """Return the interval of an AUC; see the module.

    Args:
        value: the area.
        fakes: (F,) logits.
        reals: (R,) logits.
        counts: how many independent fakes and reals these are.
    """
    ends, _ = _score_interval(value, (fakes, reals), counts, _rank_area, share=ANY_SHARE)
    strays = min(counts) * (1 - value)
    return _scale_ends(value, ends, AUC_LEAST + AUC_MORE * strays / (strays + 1), AUC_HIGH)


def precision_interval(
    value: float, fakes: Floats, reals: Floats, counts: tuple[float, float]
) -> Interval:
    """Return the interval of an average precision; see the module, arguments as of `area_interval`.

    One real above the highest fakes costs much precision, and most tables of a heavy-tailed detector hold
    none. The lower half grows with the number of such reals to be expected, and shrinks again if they are
    many, as the table then holds some.
    """
    images = len(fakes) + len(reals)
    ends, factor = _score_interval(
        value, (fakes, reals), counts, _rank_precision, share=len(fakes) / images
    )
    share_of_reals = len(reals) / images
    strays = min(counts) * (1 - value + AP_TO_LOW * (value - ends.low)) / (2 * share_of_reals)
    down = AP_LEAST + AP_MORE * strays / (strays + AP_FEW) / (1 + strays / AP_MANY)
    return _scale_ends(value, ends, down, 1 + AP_HIGH * (1 - 1 / factor**2))


def _score_interval(
    value: float,
    classes: tuple[Floats, Floats],
    counts: tuple[float, float],
    ranking: Ranking,
    *,
    share: float,
) -> tuple[Interval, float]:
    """Return the interval of the score method, and the factor by which its standard errors grew."""
    fakes, reals = classes
    steps = _steps(fakes, _equal_weights(fakes), reals, _equal_weights(reals))
    own = ranking(steps, share)
    values, of_fakes, of_reals = _normal_model(ranking, share)
    theirs = of_fakes / counts[0] + of_reals / counts[1]
    here = float(np.interp(value, values, theirs))
    ours = own.of_fakes / max(counts[0] - 1, 1) + own.of_reals / max(counts[1] - 1, 1)
    factor = math.sqrt(max(ours / here, 1.0)) if here > 0 else 1.0
    distance = (values - value) / np.sqrt(np.maximum(theirs, 1e-300))  # rises
    low, high = np.interp([-Z * factor, Z * factor], distance, values)
    return Interval(min(float(low), value), 1.0 if value >= 1 else max(float(high), value)), factor


def _scale_ends(value: float, ends: Interval, low_factor: float, high_factor: float) -> Interval:
    low, high = value - low_factor * (value - ends.low), value + high_factor * (ends.high - value)
    return Interval(max(low, 0.0), min(high, 1.0))


def _equal_weights(logits: Floats) -> Floats:
    return np.full(len(logits), 1 / len(logits))


def _steps(fakes: Floats, fake_weights: Floats, reals: Floats, real_weights: Floats) -> Steps:
    points, place = np.unique(-np.concatenate([fakes, reals]), return_inverse=True)
    of_fakes = np.bincount(place[: len(fakes)], fake_weights, len(points))
    of_reals = np.bincount(place[len(fakes) :], real_weights, len(points))
    shares = np.asarray(of_fakes, np.float64), np.asarray(of_reals, np.float64)
    return Steps(*shares, *map(np.cumsum, shares))


def _rank_area(steps: Steps, share: float) -> Ranked:
    """Return AUC with its variances. Source: E. DeLong et al., Biometrics 44(3), 1988."""
    del share
    above = 1 - steps.fpr + steps.reals / 2  # fraction of reals below a fake
    below = steps.tpr - steps.fakes / 2  # fraction of fakes above a real
    value = float(steps.fakes @ above)
    return Ranked(
        value,
        float(steps.fakes @ (above - value) ** 2),
        float(steps.reals @ (below - value) ** 2),
    )


def _rank_precision(steps: Steps, share: float) -> Ranked:
    """Return AP, the sum of precisions by added recall, with the variances of its influence function."""
    fakes, reals, tpr, fpr = steps
    called = np.maximum(share * tpr + (1 - share) * fpr, TINY)
    precision = share * tpr / called
    value = float(fakes @ precision)
    # effect of a higher TPR or FPR at a point on the precision there, summed from each point on
    up = fakes * share * (1 - share) * fpr / called**2
    down = fakes * share * (1 - share) * tpr / called**2
    of_fake = precision - value + np.cumsum(up[::-1])[::-1] - up @ tpr
    of_real = -(np.cumsum(down[::-1])[::-1] - down @ fpr)
    return Ranked(value, float(fakes @ of_fake**2), float(reals @ of_real**2))


@lru_cache(maxsize=64)
def _normal_model(ranking: Ranking, share: float) -> tuple[Floats, Floats, Floats]:
    """Return the values (121,) and both variances of normal logits whose means are `APART`."""
    quantiles, weights = _normal_grid()
    rows = [
        ranking(_steps(quantiles + apart, weights, quantiles, weights), share) for apart in APART
    ]
    values, of_fakes, of_reals = np.array(rows).T
    return values, of_fakes, of_reals


@lru_cache(maxsize=1)
def _normal_grid() -> tuple[Floats, Floats]:
    """Return quantiles of the normal distribution, dense in its tails, and their weights."""
    tail = np.geomspace(1e-9, 0.02, 150)
    ends = np.concatenate([tail, np.linspace(0.02, 0.98, 301)[1:-1], 1 - tail[::-1]])
    weights = np.diff(ends)
    return ndtri((ends[1:] + ends[:-1]) / 2), weights / weights.sum()
