"""What validation chooses for a test: a threshold of the logit, and a temperature.

Neither ever comes from the images of a test.
"""

import math

import numpy as np
from scipy.optimize import minimize_scalar

from trueface.evaluation.bootstrap import Floats
from trueface.evaluation.calibration import Labels, losses
from trueface.runtime.errors import DataError

COLDEST, WARMEST = 1e-3, 1e3  # temperatures between which the best is looked for


def best_threshold(labels: Labels, logits: Floats) -> float:
    """Return the threshold of the highest balanced accuracy, the middle of its range.

    Logits above it are called fake. Of several equally good ranges it is the one nearest to 0.

    Args:
        labels: (N,) 1 fake.
        logits: (N,).

    Raises:
        DataError: a class is missing.
    """
    fakes, reals = int(np.sum(labels == 1)), int(np.sum(labels == 0))
    if not fakes or not reals:
        raise DataError("a threshold cannot be chosen by validation images of one class")
    values = np.unique(logits)
    middles = (values[:-1] + values[1:]) / 2
    steps = np.concatenate([[values[0] - 1.0], middles, [values[-1] + 1.0]])  # (T,)
    rates = [
        np.searchsorted(np.sort(logits[labels == label]), steps, side="right") / count
        for label, count in ((0, reals), (1, fakes))
    ]
    balanced = (rates[0] + 1 - rates[1]) / 2
    best = np.flatnonzero(balanced >= balanced.max() - 1e-12)
    return float(steps[best[np.argmin(np.abs(steps[best]))]])


def best_temperature(labels: Labels, logits: Floats) -> float:
    """Return the temperature by which logits are divided for the least cross entropy.

    Source: C. Guo et al., arXiv 1706.04599, section 4.2, for two classes.

    Args:
        labels: (N,) 1 fake.
        logits: (N,).
    """
    fake = labels == 1

    def loss(log_temperature: float) -> float:
        return float(losses(fake, logits / math.exp(log_temperature)).mean())

    limits = (math.log(COLDEST), math.log(WARMEST))
    return math.exp(float(minimize_scalar(loss, bounds=limits, method="bounded").x))
