"""Metrics: functions of weighted scores, with the facts that tables and intervals need of each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trueface.evaluation.arrays import Floats
from trueface.evaluation.weighted_scores import FAKE, REAL, WeightedScores

BOTH = frozenset({REAL, FAKE})


class Scale(StrEnum):
    """The limits of a measure, and the scale on which its error is symmetric."""

    SHARE = "share"  # 0 … 1: logit
    LOSS = "loss"  # from 0 on: logarithm
    SHIFT = "shift"  # differences of fractions, -1 … 1: the inverse of the hyperbolic tangent
    PLAIN = "plain"


class IntervalMethod(StrEnum):
    """How the interval of a metric is computed; `estimates` has the methods with their sources."""

    RESAMPLES = "resamples"  # any metric
    RATES = "rates"  # a function of the true and the false positive rate
    AREA = "area"  # under the ROC curve
    PRECISION = "precision"  # mean over the fakes
    CROSSING = "crossing"  # equality of two error rates
    FIXED_FPR = "fixed FPR"  # a rate at the threshold of a few reals
    CALIBRATION = "calibration"  # a sum of absolute gaps
    MEAN = "mean"  # over the images


class Rates(NamedTuple):
    """The decisions of a detector as fractions of each class."""

    tpr: float  # part of the fakes that is called fake
    fpr: float  # part of the reals that is called fake
    fakes: int
    reals: int


# the scale of a difference of two values: that of fractions is in [-1, 1]
DIFFERENCE: Mapping[Scale, Scale] = {Scale.SHARE: Scale.SHIFT}


def always(_fake: NDArray[np.bool_], _predicted_fake: NDArray[np.bool_]) -> str:
    """Return "": a metric that is defined wherever the classes that it needs are there."""
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One number that summarizes the scores of a model: a function of weighted scores.

    Its value is that function of the table itself.

    Args:
        name: key in JSON, CSV and `--metric`: lower case, digits and underscores.
        title: in a comparison: "Average precision".
        short: column title in a report: "AP". Empty: the title.
        compute: from C weightings of a table to the values (C,), NaN where it is undefined.
        scale: the range of the value, and with it the shape of its interval.
        needs: the labels without which the metric is undefined.
        undefined: why it is undefined all the same, from fake (N,) and called fake (N,).
        pooled: classes are weighted by their images, as in an accuracy; otherwise equally.
        of_fakes: a fraction of the fakes alone, as a recall is.
        percent: shown in % by `trueface compare`.
        low: a low value is a good one.
        in_report: a column of the tables in `trueface report`.
        interval: how its interval is computed.
        of_rates: for `IntervalMethod.RATES`: the metric as a function of the rates, rising with the TPR
            and falling with the FPR.
    """

    name: str
    title: str
    short: str = ""
    compute: Callable[[WeightedScores], Floats]
    scale: Scale = Scale.SHARE
    needs: frozenset[int] = BOTH
    undefined: Callable[[NDArray[np.bool_], NDArray[np.bool_]], str] = always
    pooled: bool = False
    of_fakes: bool = False
    percent: bool = False
    low: bool = False
    in_report: bool = True
    interval: IntervalMethod = IntervalMethod.RESAMPLES
    of_rates: Callable[[Rates], float] | None = None

    def value(self, scores: WeightedScores) -> float:
        """Return the value of a table in which each image counts once."""
        return float(self.compute(scores)[0])

    @property
    def heading(self) -> str:
        """The title of its column."""
        return self.short or self.title

    @property
    def factor(self) -> int:
        """The factor by which a value is multiplied for display."""
        return 100 if self.percent else 1

    @property
    def difference_scale(self) -> Scale:
        """The scale of a difference of two values."""
        return DIFFERENCE.get(self.scale, Scale.PLAIN)

    def why_undefined(self, fake: NDArray[np.bool_], predicted_fake: NDArray[np.bool_]) -> str:
        """Return why a table has no such value; "" where it has one.

        Args:
            fake: (N,).
            predicted_fake: (N,) called fake.
        """
        if REAL in self.needs and fake.all():
            return "all images are fake"
        if FAKE in self.needs and not fake.any():
            return "all images are real"
        return self.undefined(fake, predicted_fake)
