"""A score table under many weightings of its rows at once, the basis of the resamples of every metric.

A weighting is a resample (how often each row counts), or the table without a part of it. Metrics
are computed for `intervals.at_a_time` weightings at once. Positive = fake.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from trueface.evaluation import curves
from trueface.evaluation.cross_entropy import cross_entropies
from trueface.evaluation.curves import Labels, gaps
from trueface.evaluation.intervals import (
    Counts,
    Floats,
    IntervalEstimate,
    JackknifeDesign,
    Scale,
    at_a_time,
    chunks,
    interval,
    interval_from_error,
    standard_error,
)

# columns of the sums: images, called fake, correct, loss, then one for each calibration bin
IMAGES, CALLED, CORRECT, LOSS, GAPS = range(5)
LARGEST_LOSS = 1e25  # of an image, in float32; sums of 10¹³ such losses are finite
REAL, FAKE = 0, 1
BOTH = frozenset({REAL, FAKE})
# the scale of a difference of two values: that of fractions is in [-1, 1]
DIFFERENCE: Mapping[Scale, Scale] = {Scale.SHARE: Scale.SHIFT}


class ScoreColumns(NamedTuple):
    """A score table, counted and sorted once for all weightings."""

    fake: NDArray[np.bool_]  # (N,)
    columns: NDArray[np.floating]  # (N, 4 + BINS) float32, float64 if a loss is too large for it
    order: curves.RocOrder

    @classmethod
    def from_logits(cls, fake: NDArray[np.bool_], logits: Floats) -> "ScoreColumns":
        """Return the columns of a table of labels (N,) and logits (N,)."""
        called, losses = logits > 0, cross_entropies(fake, logits)
        columns = [np.ones(len(fake)), called, called == fake, losses]
        is_small = losses.max(initial=0.0) <= LARGEST_LOSS
        return cls(
            fake=fake,
            columns=np.column_stack([*columns, gaps(fake, logits)]).astype(
                np.float32 if is_small else np.float64
            ),
            order=curves.sort_for_roc(fake, logits),
        )


@dataclass(frozen=True, kw_only=True)  # no slots: values are computed at their first use
class WeightedScores:
    """C weightings of one score table; every count and sum is (C,) float64.

    A resample without one class gives NaN where a metric divides by its count; intervals leave
    such values out.
    """

    table: ScoreColumns
    weights: Counts  # (C, N)
    scale: Floats | None  # (C, classes) what each class counts for; None: 1

    @cached_property
    def _of_fakes(self) -> Floats:
        sums = self._sums(self.table.fake)
        return sums if self.scale is None else sums * self.scale[:, -1:]

    @cached_property
    def _of_reals(self) -> Floats:
        sums = self._sums(~self.table.fake)
        return sums if self.scale is None else sums * self.scale[:, :1]

    @cached_property
    def _of_all(self) -> Floats:
        return self._of_fakes + self._of_reals

    def _sums(self, rows: NDArray[np.bool_]) -> Floats:
        columns, chosen = self.table.columns[rows], np.ascontiguousarray(self.weights[:, rows])
        # how a product is rounded depends on its size: it is that of CHUNK, whatever is quickest
        products = [part @ columns for part in chunks(chosen)]
        return np.concatenate(products).astype(np.float64)

    @property
    def images(self) -> Floats:
        """All images."""
        return self._of_all[:, IMAGES]

    @property
    def fakes(self) -> Floats:
        """All fakes."""
        return self._of_fakes[:, IMAGES]

    @property
    def reals(self) -> Floats:
        """All reals."""
        return self._of_reals[:, IMAGES]

    @property
    def true_positives(self) -> Floats:
        """Fakes called fake."""
        return self._of_fakes[:, CALLED]

    @property
    def false_negatives(self) -> Floats:
        """Fakes called real."""
        return self.fakes - self.true_positives

    @property
    def false_positives(self) -> Floats:
        """Reals called fake."""
        return self._of_reals[:, CALLED]

    @property
    def true_negatives(self) -> Floats:
        """Reals called real."""
        return self._of_reals[:, CORRECT]

    @property
    def loss(self) -> Floats:
        """The summed cross entropy of all images."""
        return self._of_all[:, LOSS]

    @property
    def gaps(self) -> Floats:
        """Correctness minus confidence, summed in each calibration bin: (C, BINS)."""
        return self._of_all[:, GAPS:]

    @cached_property
    def curve(self) -> curves.Curve:
        """The ROC curves."""
        odds = None if self.scale is None else self.scale[:, -1] / self.scale[:, 0]
        return curves.curve(self.table.order, self.weights, odds)


def weighted(
    fake: NDArray[np.bool_], logits: Floats, weights: Counts, scale: Floats | None = None
) -> Iterator[WeightedScores]:
    """Yield a table under its weightings, a few of them at a time.

    Args:
        fake: (N,).
        logits: (N,) higher = more fake.
        weights: (R, N) how often each row counts.
        scale: (R, classes) what each class counts for; None: 1.
    """
    table = ScoreColumns.from_logits(fake, logits)
    count = at_a_time(len(fake))
    for start in range(0, len(weights), count):
        chunk = slice(start, start + count)
        yield WeightedScores(
            table=table,
            weights=weights[chunk],
            scale=None if scale is None else scale[chunk],
        )


class SourceSample(NamedTuple):
    """The data for an interval over sources."""

    by_images: IntervalEstimate  # the value with its interval over images
    fake: NDArray[np.bool_]  # (N,)
    logits: Floats  # (N,)
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
    """One number that summarizes the scores of a model.

    Args:
        name: key in JSON, CSV and `--metric`: lower case, digits and underscores.
        title: in a comparison: "Average precision".
        short: column title in a report: "AP". Empty: the title.
        value: from labels (N,), 1 fake, and logits (N,), higher = more fake, to the value.
        resampled: the same of many weightings of a table: (C,), NaN where it is undefined.
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
    value: Callable[[Labels, Floats], float]
    resampled: Callable[[WeightedScores], Floats]
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
    metrics: Sequence[Metric],
    fake: NDArray[np.bool_],
    logits: Floats,
    weights: Counts,
    scale: Floats | None = None,
) -> dict[str, Floats]:
    """Return each metric under every weighting (R,), by its name; arguments as of `weighted`."""
    chunks: dict[str, list[Floats]] = {metric.name: [] for metric in metrics}
    for scores in weighted(fake, logits, weights, scale):
        with np.errstate(invalid="ignore", divide="ignore"):  # a resample without a class: NaN
            for metric in metrics:
                chunks[metric.name].append(metric.resampled(scores))
    return {name: np.concatenate(values) for name, values in chunks.items()}
