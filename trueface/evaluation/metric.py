"""Metrics: functions of weighted scores, with the facts that tables and intervals need of each."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from trueface.evaluation.intervals import (
    Counts,
    Floats,
    IntervalEstimate,
    JackknifeDesign,
    Resampled,
    Scale,
    interval,
    interval_from_error,
    standard_error,
)
from trueface.evaluation.weighted_scores import FAKE, REAL, ScoreTable, WeightedScores, weighted

BOTH = frozenset({REAL, FAKE})
# the scale of a difference of two values: that of fractions is in [-1, 1]
DIFFERENCE: Mapping[Scale, Scale] = {Scale.SHARE: Scale.SHIFT}


class SourceSample(NamedTuple):
    """The data for an interval over sources."""

    by_images: IntervalEstimate  # the value with its interval over images
    table: ScoreTable
    design: JackknifeDesign  # what is left out of the table
    left: Floats  # (F,) the metric on the remaining rows; the first is that of the whole table


class SourceInterval(Protocol):
    """Return a metric's value with its interval over the population of sources."""

    def __call__(self, metric: "Metric", sample: SourceSample, /) -> IntervalEstimate:
        """See the class."""


def jackknife(metric: "Metric", sample: SourceSample) -> IntervalEstimate:
    """Return the interval of Student's t with the error of leaving one source out at a time."""
    error = standard_error(sample.design, sample.left, even=not metric.pooled)
    return interval_from_error(float(sample.by_images.value), error, metric.scale)


def always(_fake: NDArray[np.bool_], _called: NDArray[np.bool_]) -> str:
    """Return "": a metric that is defined wherever the classes that it needs are there."""
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One number that summarizes the scores of a model: a function of weighted scores.

    Its value is that function of the table itself. Its intervals come from the same function of resamples.

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
        image_interval: from the value and its resamples (R,) to the interval over images.
        source_interval: the interval over the population of sources.
        difference: from two values with intervals to the interval of their difference, where
            leaving sources out says too little about it.
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
    image_interval: Callable[[float, Floats], IntervalEstimate] = interval
    source_interval: SourceInterval = jackknife
    difference: Callable[[IntervalEstimate, IntervalEstimate], IntervalEstimate] | None = None

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

    def why_undefined(self, fake: NDArray[np.bool_], called: NDArray[np.bool_]) -> str:
        """Return why a table has no such value; "" where it has one.

        Args:
            fake: (N,).
            called: (N,) called fake.
        """
        if REAL in self.needs and fake.all():
            return "all images are fake"
        if FAKE in self.needs and not fake.any():
            return "all images are real"
        return self.undefined(fake, called)


def resampled_values(
    metrics: Sequence[Metric], table: ScoreTable, weights: Counts, scale: Floats | None = None
) -> dict[str, Floats]:
    """Return each metric under every weighting (R,), by its name; arguments as of `weighted`."""
    values: dict[str, list[Floats]] = {metric.name: [] for metric in metrics}
    for scores in weighted(table, weights, scale):
        with np.errstate(invalid="ignore", divide="ignore"):  # a resample without a class: NaN
            for metric in metrics:
                values[metric.name].append(metric.compute(scores))
    return {name: np.concatenate(parts) for name, parts in values.items()}


def value_with_resamples(
    metric: Metric, labels: NDArray[np.integer], logits: Floats, weights: Counts
) -> Resampled:
    """Return a metric of labels (N,) and logits (N,) with its value in each resample (R, N)."""
    scores = WeightedScores.from_logits(labels, logits)
    spread = resampled_values([metric], scores.table, weights)
    return metric.value(scores), spread[metric.name]
