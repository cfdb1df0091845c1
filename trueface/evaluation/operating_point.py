"""The interval of TPR at 1 % FPR: it rests on a threshold that a few images set.

Leaving a source out moves that threshold by whole images, so that differences of the rate say
little. Instead: how sure is it that 1 % of the reals lie above the threshold, and which rates have
the thresholds that could be meant? Then the error of the rate at the threshold as it stands is
added. Where so few reals were tested that the threshold could lie above all of them, the low end
is 0.

Source: R. Woodruff, Journal of the American Statistical Association 47(260), 1952; both errors are
joined as in G. Zou and A. Donner, Statistics in Medicine 27(10), 2008.
"""

import math

import numpy as np
from numpy.typing import NDArray

from trueface.evaluation import curves
from trueface.evaluation.intervals import (
    Design,
    Error,
    Floats,
    Measure,
    Scale,
    ends,
    standard_error,
)

ALLOWED = curves.FPR_PERCENT / 100


def bracket(value: float, fake: NDArray[np.bool_], logits: Floats, of: Design) -> Measure:
    """Return TPR at 1 % FPR with its 95 % interval over the population of sources.

    Args:
        value: the rate.
        fake: (N,) both classes.
        logits: (N,) higher = more fake.
        of: what is left out of the table.
    """
    reals = np.sort(logits[~fake])[::-1]
    above = logits > curves.threshold_at_fpr(fake, logits)
    accused = _error_of(above, ~fake, of)
    least, most = ends(ALLOWED, accused.half, Scale.SHARE)
    last = len(reals) - 1
    low = (
        _share_above(logits[fake], reals[int(least * len(reals))])
        if least * len(reals) >= 1
        else 0.0
    )
    high = _share_above(logits[fake], reals[min(math.ceil(most * len(reals)), last)])
    under, over = ends(value, _rate(above, fake, of).half, Scale.SHARE)
    return Measure(
        value=value,
        low=max(value - math.hypot(value - min(low, value), value - under), 0.0),
        high=min(value + math.hypot(max(high, value) - value, over - value), 1.0),
    )


def shift(first: Measure, second: Measure) -> Measure:
    """Return by how much one such rate exceeds another; models are taken to err independently."""
    value = second.value - first.value
    return Measure(
        value=value,
        low=value - math.hypot(second.value - second.low, first.high - first.value),
        high=value + math.hypot(second.high - second.value, first.value - first.low),
    )


def _error_of(above: NDArray[np.bool_], reals: NDArray[np.bool_], of: Design) -> Error:
    """Return the error of the fraction of reals above the threshold, as if it were 1 %."""
    error = _rate(above, reals, of)
    share = float(above[reals].mean())
    pictures = max(min(stratum.pictures for stratum in of.strata if stratum.label == 0), 1)
    if error.error == 0 or share == 0:
        binomial = math.sqrt(ALLOWED * (1 - ALLOWED) / pictures)
        return Error(error=binomial, freedom=error.freedom)
    return Error(error=error.error * ALLOWED / share, freedom=error.freedom)


def _rate(above: NDArray[np.bool_], rows: NDArray[np.bool_], of: Design) -> Error:
    weights = of.weights[:, rows].astype(np.float64)
    return standard_error(of, weights @ above[rows] / weights.sum(1))


def _share_above(logits: Floats, threshold: float) -> float:
    return float(np.mean(logits > threshold))
