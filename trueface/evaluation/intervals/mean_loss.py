"""The interval of the mean cross entropy, whose images have skewed losses."""

import math
import sys
from collections.abc import Mapping

from scipy.special import stdtrit

from trueface.evaluation.estimate import Interval
from trueface.evaluation.intervals.resampling import COVERAGE
from trueface.evaluation.intervals.scales import STEEPEST
from trueface.evaluation.weighted_scores import ScoreTable

# Factors of half widths, found by simulation (benchmarks/coverage.py): most tables do not hold the rare large losses
LOW, HIGH, FEW = 1.05, 1.3, 3.0  # above: 1.3 + 3 / sqrt(images)


def loss_interval(value: float, table: ScoreTable, effects: Mapping[int, float]) -> Interval:
    """Return the interval of a mean loss over images: Student's t on the log scale, by class.

    Degrees of freedom by B. Welch, Biometrika 34, 1947.

    Args:
        value: the loss.
        table: N images.
        effects: design effect of the copies of each class.
    """
    if not value > 0:
        return Interval(value, value)
    losses, labels = table.losses / value, table.labels  # their squares are finite
    variances, freedoms = [], []
    for label, effect in effects.items():
        part = losses[labels == label]
        count = len(part) / effect
        if count > 1:
            weight = len(part) / len(losses)
            variances.append(weight**2 * float(part.var(ddof=1)) / count)
            freedoms.append(count - 1)
    total = sum(variances)
    if not total > 0:
        return Interval(value, value)
    freedom = total**2 / sum(v**2 / df for v, df in zip(variances, freedoms, strict=True))
    half = float(stdtrit(freedom, (1 + COVERAGE) / 2)) * math.sqrt(total)
    higher = HIGH + FEW / math.sqrt(len(losses))
    down, up = (math.exp(min(factor * half, STEEPEST)) for factor in (LOW, higher))
    return Interval(value / down, min(value * up, sys.float_info.max))
