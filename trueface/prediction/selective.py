"""Selective prediction: answers only where validation says that few of them are wrong.

An answer is the surer the farther its logit is from the threshold. Of validation, the images with
the surest answers are kept, as many as the error rate among them allows: not the rate that was
seen, but the upper end of its confidence interval.

Source: Y. Geifman and R. El-Yaniv, "Selective Classification for Deep Neural Networks", NeurIPS
    2017, section 3 (SGR): the bound and its division by the number of tries. They search by
    bisection, which misses what there is where the error rate does not rise with the coverage, as
    among a few hundred images; ours tries ten coverages, fixed in advance. The guarantee is for
    images that are drawn as those of validation were, and takes the threshold as chosen elsewhere.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trueface.runtime.errors import UsageError

DELTA = 0.05  # probability that the bound does not hold, over validation sets
COVERAGES = 10  # that are tried: 10 %, 20 %, … of validation


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """From where on a detector answers.

    Attributes:
        rate: errors among its answers, at most.
        distance: of a logit from the threshold, from which on it answers.
        coverage: fraction of validation that it answers, in 0 … 1.
        bound: upper bound of the error rate among these, at most `rate`.
        images: of validation.
    """

    rate: float
    distance: float
    coverage: float
    bound: float
    images: int

    def answers(self, logit: float, threshold: float) -> bool:
        """Tell whether an image gets an answer."""
        return abs(logit - threshold) >= self.distance


def select(
    labels: NDArray[np.integer],
    logits: NDArray[np.floating],
    *,
    threshold: float,
    rate: float,
    delta: float = DELTA,
) -> Selection:
    """Return the selection with the largest coverage whose error rate is at most `rate`.

    Args:
        labels: (N,) of validation, 1 fake.
        logits: (N,) of validation, positive = fake.
        threshold: of the verdict.
        rate: in 0 … 1.
        delta: probability that the bound does not hold.

    Raises:
        UsageError: no number of answers allows such a rate; says the least that can be had.
    """
    distances = np.abs(np.asarray(logits, np.float64) - threshold)
    order = np.argsort(-distances, kind="stable")
    wrong = ((logits > threshold) != (labels == 1))[order]
    ranked, errors = distances[order], np.cumsum(wrong)
    total = len(ranked)
    if total == 0:
        raise UsageError("--abstain: the checkpoint holds no validation scores: train it anew")
    share = delta / COVERAGES  # each try may fail
    counts = [_whole(ranked, max(total * part // COVERAGES, 1)) for part in range(1, COVERAGES + 1)]
    bounds = {count: upper_bound(int(errors[count - 1]), count, share) for count in counts}
    best = max((count for count, bound in bounds.items() if bound <= rate), default=0)
    if best == 0:
        raise UsageError(_impossible(rate, total, min(bounds.values()), share))
    return Selection(
        rate=rate,
        distance=float(ranked[best - 1]),
        coverage=best / total,
        bound=bounds[best],
        images=total,
    )


def upper_bound(errors: int, count: int, delta: float) -> float:
    """Return the error rate above which so few errors have a probability below `delta`.

    Source: C. Clopper and E. Pearson, Biometrika 26(4), 1934.
    """
    from scipy.special import betaincinv  # slow to import, and seldom needed

    if errors >= count:
        return 1.0
    return float(betaincinv(errors + 1, count - errors, 1 - delta))


def _whole(ranked: NDArray[np.float64], count: int) -> int:
    """Return how many images are as sure as the first `count`: equal distances go together."""
    return int(np.searchsorted(-ranked, -ranked[count - 1], side="right"))


def _impossible(rate: float, total: int, least: float, share: float) -> str:
    enough = math.ceil(math.log(share) / math.log1p(-rate)) if 0 < rate < 1 else total
    return (
        f"--abstain {rate:g}: no part of the {total} images of validation shows an error rate of at "
        f"most {100 * rate:.3g} % with 95 % confidence, and the least that one shows is "
        f"{100 * least:.3g} %: give a higher rate, or train with more validation images ({enough:,} "
        "answers without an error show this one)"
    )
