"""Intervals over other images of the same sources: one method for each kind of metric, and those of differences.

The numbers of reals and of fakes are fixed, and images are independent. Copies of an image are not: every class
counts as so many fewer images as its copies agree (design effect).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr

from trueface.evaluation import curves
from trueface.evaluation.arrays import Floats, Indices
from trueface.evaluation.estimate import Interval, class_name
from trueface.evaluation.intervals.calibration_error import calibration_interval
from trueface.evaluation.intervals.fractions import Z, clopper_pearson, wilson
from trueface.evaluation.intervals.mean_loss import loss_interval
from trueface.evaluation.intervals.ranking import (
    area_interval,
    precision_interval,
)
from trueface.evaluation.intervals.resampling import (
    percentile_interval,
    picture_codes,
    resamples,
    values_under,
)
from trueface.evaluation.metric import IntervalMethod, Metric, Rates, Scale
from trueface.evaluation.weighted_scores import FAKE, REAL, ScoreTable

BEYOND = 0.02  # chance that the threshold of a fixed FPR is beyond either bound
TWO = 2  # classes of a detector
PSEUDO = 2.0  # images on which two models differ, of no correlation
REACHED = 100 // curves.FPR_PERCENT  # reals, below which one false alarm is more than the rate
# independent images of a class, below which a method has no interval. With fewer reals than 368, the threshold of a
# rate at 1 % FPR may be above all fakes: 0.99 ** 367 > 0.025
LEAST: Mapping[IntervalMethod, int] = {
    IntervalMethod.FIXED_FPR: 368,
    IntervalMethod.PRECISION: 50,  # below, 69 to 87 % for a detector with gross errors
    IntervalMethod.CROSSING: 50,  # below, 84 % for a detector with few different scores
    IntervalMethod.MEAN: 100,  # below, 89 % for a detector that is too sure of itself
}


class ImageSample(NamedTuple):
    """The data for an interval over images."""

    table: ScoreTable
    keys: Sequence[str]
    effects: Mapping[int, float]  # by label: by how much copies widen a variance, 1 without copies

    @classmethod
    def from_table(cls, table: ScoreTable, keys: Sequence[str]) -> "ImageSample":
        """Return the data of a table whose rows with one key are copies of one image."""
        if len(set(keys)) == len(keys):
            return cls(table, keys, dict.fromkeys(table.present, 1.0))
        _, picture = picture_codes(keys)
        effects = {
            label: _class_effect(table, picture, table.labels == label) for label in table.present
        }
        return cls(table, keys, effects)

    def count_independent(self, label: int) -> float:
        """Return the number of independent images of a class."""
        return float(np.sum(self.table.labels == label)) / self.effects.get(label, 1.0)

    @property
    def independent_of_smaller_class(self) -> float:
        """How many independent images the smaller class has."""
        return min(map(self.count_independent, self.effects))

    @property
    def two_classes(self) -> tuple[Floats, Floats, float, float]:
        """The logits of the fakes and of the reals, and how many independent images they count as."""
        table = self.table
        fakes, reals = table.margins[table.fake], table.margins[~table.fake]
        return fakes, reals, self.count_independent(FAKE), self.count_independent(REAL)


def interval_over_images(metric: Metric, sample: ImageSample, value: float) -> Interval:
    """Return the interval of a metric with this value over other images of the same sources."""
    if metric.interval is IntervalMethod.RATES and (metric.pooled or sample.table.classes > TWO):
        # unequal rates vary less than a binomial of their mean: W. Hoeffding, see `_rates`
        count = sum(map(sample.count_independent, sample.effects))
        return Interval(*clopper_pearson(value * count, count))
    low, high = _METHODS[metric.interval](metric, sample, value)
    return Interval(min(low, value), max(high, value))


def shortage(metric: Metric, counts: Mapping[int, tuple[int, str]]) -> str:
    """Return why a table has no interval of a metric, "50 of 368 reals"; "" if it has one.

    Args:
        metric: the metric.
        counts: number of independent images of each class, with their unit, "" or "videos".
    """
    least, fixed = LEAST.get(metric.interval, 0), metric.interval is IntervalMethod.FIXED_FPR
    for label, (count, unit) in counts.items():
        if count < least and (label == REAL or not fixed):
            name = f"{class_name(label)} {unit}" if unit else f"{class_name(label)}s"
            few = name if count != 1 else name.removesuffix("s")
            unreached = f"; no false alarm in {count} {few}" if fixed and count < REACHED else ""
            return f"{count} of {least} {name}{unreached}"
    return ""


def design_effect(values: Floats, picture: Indices) -> float | None:
    """Return by how much copies widen the variance of a mean; None if the values do not vary.

    Source: L. Kish, "Survey sampling", 1965: the variance of the sums of clusters to that of independent values.

    Args:
        values: (N,).
        picture: (N,) number of the image that a row is a copy of.
    """
    centred = values - values.mean()
    total = float(centred @ centred)
    if total <= 0:
        return None
    sums = np.bincount(picture, weights=centred)
    return max(float(sums @ sums) / total, 1.0)


def difference_interval(
    first: tuple[float, Interval], second: tuple[float, Interval], correlation: float
) -> Interval:
    """Return the interval of second minus first, each a value with its interval.

    Source: G. Zou, Psychological Methods 12(4), 2007, equation 15. That formula pairs the lower half of one
    with the upper half of the other, which does not vanish for a correlation of 1 if halves are unequal. Halves
    that grow together are of the same side. The squared half width for a correlation r above 0 is therefore:

        (1 - r) (a² + b²) + r max((a - a')², (b - b')²)

    a and b are opposite halves, a' and b' those of the same side. It is Zou's for equal halves, and 0 for
    identical models.

    Args:
        first: value and interval.
        second: the same.
        correlation: of both values; 0 for tables of other images.
    """
    (one, (low, high)), (other, (other_low, other_high)) = first, second
    value = other - one
    down, up, other_down, other_up = one - low, high - one, other - other_low, other_high - other

    def half(a: float, b: float) -> float:
        if correlation == 0:
            return math.hypot(a, b)
        if correlation < 0:
            return math.sqrt(max(a * a + b * b - 2 * correlation * a * b, 0.0))
        same = max(abs(down - other_down), abs(up - other_up))
        return math.sqrt((1 - correlation) * (a * a + b * b) + correlation * same * same)

    return Interval(value - half(other_down, up), value + half(other_up, down))


def correlation_of(
    metric: Metric, draws: tuple[Floats, Floats] | None, value: float, independent_count: float
) -> float:
    """Return the correlation of a metric of two models with other logits, for `difference_interval`.

    Two models that decide alike have a correlation of 1 in every resample, and may differ all the same. So it is
    that of the images on which the metric rests with a few of no correlation. These images are the errors (or hits,
    if fewer) of decisions, otherwise those of the smaller class. A calibration error has -1: noise raises it, and
    not in both models alike, so only the plain subtraction of both intervals holds.

    Args:
        metric: the metric.
        draws: of both models under joint resamples, (R,). None: the tables are of other images.
        value: mean of the metric of both models.
        independent_count: independent images of the smaller class.
    """
    if metric.interval is IntervalMethod.CALIBRATION:
        return -1.0
    together = 0.0 if draws is None else _correlation(*draws)
    if metric.interval is IntervalMethod.MEAN or together <= 0:
        return together
    if metric.interval is IntervalMethod.RATES:
        errors = independent_count * min(value, 1 - value)
        return together * errors / (errors + 1)
    return together * independent_count / (independent_count + PSEUDO)


def _correlation(first: Floats, second: Floats) -> float:
    known = np.isfinite(first) & np.isfinite(second)
    one, other = first[known], second[known]
    if np.array_equal(one, other):
        return 1.0
    one, other = one - one.mean(), other - other.mean()
    size = math.sqrt(float(one @ one) * float(other @ other))
    return min(max(float(one @ other) / size, -1.0), 1.0) if size > 0 else 0.0


def fixed_fpr_interval(
    value: float,
    fakes: Floats,
    reals: Floats,
    counts: tuple[float, float],
    weights: NDArray[np.integer] | None = None,
) -> Interval:
    """Return the interval of the TPR at 1 % FPR.

    Order statistics of the reals bound the threshold, Wilson's interval the rate at it. Both are joined by
    square-and-add (G. Zou and A. Donner, Statistics in Medicine 27(10), 2008).

    Args:
        value: the rate.
        fakes: (F,) logits.
        reals: (R,) logits.
        counts: how many independent fakes and reals these are.
        weights: (R,) how often each real counts. None: once.
    """
    reals, each = np.sort(reals)[::-1], np.ones(len(reals))
    if weights is not None:
        each = weights[np.argsort(-reals, kind="stable")].astype(np.float64)
    independent = int(counts[1])
    ranks = (np.cumsum(each) - each) / each.sum() * independent  # rank of each real, from 0 on
    strict, loose = (
        _share_above(fakes, reals, float(np.interp(rank, ranks, np.arange(len(reals)))))
        for rank in _threshold_ranks(independent)
    )
    under, over = wilson(value, counts[0])
    low = value - math.hypot(value - min(strict, value), value - under)
    high = value + math.hypot(max(loose, value) - value, over - value)
    return Interval(max(low, 0.0), min(high, 1.0))


@lru_cache(maxsize=64)
def _threshold_ranks(reals: int) -> tuple[float, float]:
    """Return fractional ranks, 0 the highest logit, that bound the 99 % point of the reals by 98 % each.

    Source: A. Hutson, Journal of Applied Statistics 26(3), 1999: binomial ranks, interpolated.
    """
    at = np.arange(reals, dtype=np.float64)
    chance = bdtr(at, reals, curves.FPR_PERCENT / 100)  # chance of at most so many reals above
    return float(np.interp(BEYOND, chance, at)), float(np.interp(1 - BEYOND, chance, at))


def _share_above(fakes: Floats, reals: Floats, rank: float) -> float:
    """Return the share of fakes above a fractional rank of the reals, between those of its neighbours."""
    first = min(int(rank), len(reals) - 2)
    near, further = (float(np.mean(fakes > reals[at])) for at in (first, first + 1))
    return near + (rank - first) * (further - near)


def _class_effect(table: ScoreTable, picture: Indices, rows: NDArray[np.bool_]) -> float:
    """Return the larger design effect of the ranks and of the decisions of a class."""
    copies = float(rows.sum()) / len(np.unique(picture[rows]))
    score = table.margins[rows] if table.classes == TWO else table.losses[rows]
    ranks = np.unique(score, return_inverse=True)[1].astype(np.float64)
    hits = table.correct[rows].astype(np.float64)
    effects = (design_effect(each, picture[rows]) for each in (ranks, hits))
    return max(copies if each is None else each for each in effects)


def _rates(metric: Metric, sample: ImageSample, value: float) -> Interval:
    """Return the interval of a function of the rates.

    Clopper-Pearson of each rate, joined by square-and-add: G. Zou and A. Donner, Statistics in Medicine 27(10),
    2008, equation 3. With few errors, the sum of two such ends is too narrow. The upper end is then that of
    the pooled errors. Errors of both classes shrink by the factor by which the lower Clopper-Pearson end of
    all errors is below their number (W. Hoeffding, Annals of Mathematical Statistics 27(3), 1956: unequal
    rates vary less than a binomial of their mean).
    """
    assert metric.of_rates is not None
    function, table = metric.of_rates, sample.table
    _, _, fakes, reals = sample.two_classes
    found = float(np.mean(table.predicted_classes[table.fake] == FAKE)) if fakes else 0.0
    accused = float(np.mean(table.predicted_classes[~table.fake] == FAKE)) if reals else 0.0
    rates = Rates(found, accused, int(table.fake.sum()), int((~table.fake).sum()))
    found_low, found_high = clopper_pearson(found * fakes, fakes)
    accused_low, accused_high = clopper_pearson(accused * reals, reals)
    low = value - math.hypot(
        value - function(rates._replace(tpr=found_low)),
        value - function(rates._replace(fpr=accused_high)),
    )
    high = value + math.hypot(
        function(rates._replace(tpr=found_high)) - value,
        function(rates._replace(fpr=accused_low)) - value,
    )
    errors = fakes * (1 - found) + reals * accused
    if errors and not metric.of_fakes:
        pooled = clopper_pearson(errors, fakes + reals)[0] * (fakes + reals) / errors
        high = max(
            high, function(rates._replace(tpr=1 - (1 - found) * pooled, fpr=accused * pooled))
        )
    return Interval(max(low, 0.0), min(high, 1.0))


def _area(_metric: Metric, sample: ImageSample, value: float) -> Interval:
    fakes, reals, *counts = sample.two_classes
    return area_interval(value, fakes, reals, (counts[0], counts[1]))


def _precision(_metric: Metric, sample: ImageSample, value: float) -> Interval:
    fakes, reals, *counts = sample.two_classes
    return precision_interval(value, fakes, reals, (counts[0], counts[1]))


def _crossing_interval(_metric: Metric, sample: ImageSample, value: float) -> Interval:
    """Return the profile score interval of an equal error rate.

    A of R reals are above a threshold and B of F fakes below it. A rate e is kept if some threshold fulfils:

        (A - R e)² / (R e (1 - e)) + (B - F e)² / (F e (1 - e)) <= Z²

    Two errors and one free threshold leave one degree of freedom. This is a quadratic in e for each threshold, as
    for Wilson (Journal of the American Statistical Association 22(158), 1927). The interval is their union.
    """
    *_, fakes, reals = sample.two_classes
    order = sample.table.order
    above = order.alarms / order.alarms[-1] * reals
    below = fakes - order.hits / order.hits[-1] * fakes
    square = reals + fakes + Z**2
    linear = 2 * (above + below) + Z**2
    inside = linear**2 - 4 * square * (above**2 / reals + below**2 / fakes)
    kept = inside >= 0
    if not kept.any():
        return wilson(value, min(reals, fakes))
    root = np.sqrt(inside[kept])
    low = float(np.min(linear[kept] - root)) / (2 * square)
    high = float(np.max(linear[kept] + root)) / (2 * square)
    return Interval(max(low, 0.0), min(high, 1.0))


def _fixed_fpr(_metric: Metric, sample: ImageSample, value: float) -> Interval:
    fakes, reals, *counts = sample.two_classes
    return fixed_fpr_interval(value, fakes, reals, (counts[0], counts[1]))


def _calibration(_metric: Metric, sample: ImageSample, value: float) -> Interval:
    return calibration_interval(value, sample.table, max(sample.effects.values()))


def _mean(_metric: Metric, sample: ImageSample, value: float) -> Interval:
    return loss_interval(value, sample.table, sample.effects)


def _resamples(metric: Metric, sample: ImageSample, value: float) -> Interval:
    """Return the percentiles of resamples; of a fraction of 0 or 1 the interval for so few images."""
    table = sample.table
    weights = resamples(sample.keys, table.labels)
    measure = percentile_interval(value, values_under([metric], table, weights)[metric.name])
    if metric.scale is not Scale.SHARE or measure.low != measure.high or 0 < value < 1:
        return measure
    counts = [sample.count_independent(label) for label in sample.effects]
    count = sum(counts) if metric.pooled else min(counts)
    return clopper_pearson(value * count, count)


_METHODS: Mapping[IntervalMethod, Callable[[Metric, ImageSample, float], Interval]] = {
    IntervalMethod.RESAMPLES: _resamples,
    IntervalMethod.RATES: _rates,
    IntervalMethod.AREA: _area,
    IntervalMethod.PRECISION: _precision,
    IntervalMethod.CROSSING: _crossing_interval,
    IntervalMethod.FIXED_FPR: _fixed_fpr,
    IntervalMethod.CALIBRATION: _calibration,
    IntervalMethod.MEAN: _mean,
}
