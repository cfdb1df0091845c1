"""Values with their 95 % intervals: the only place that decides which interval belongs to a number.

`estimates` evaluates metrics of a table, and `differences` those of two tables. An interval is over the sources
of a class if it has several, otherwise over the videos or images of its only source. Rates, means over seeds and
other numbers have functions of their own below.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trueface.evaluation.arrays import Counts, Floats
from trueface.evaluation.estimate import (
    FEW_IMAGES,
    MAY_BE_NARROW,
    Difference,
    Estimate,
    Interval,
    Over,
    class_name,
    classes_text,
)
from trueface.evaluation.intervals import over_images, over_sources, resampling
from trueface.evaluation.intervals.fractions import (
    Z,
    clopper_pearson,
    fraction_interval,
)
from trueface.evaluation.intervals.jackknife import (
    JackknifeDesign,
    StandardError,
    jackknife_design,
    standard_error,
)
from trueface.evaluation.metric import IntervalMethod, Metric, Scale
from trueface.evaluation.weighted_scores import ScoreTable, WeightedScores
from trueface.predictions.predictions import Predictions

RESAMPLES = resampling.RESAMPLES
SEVERAL = (
    3  # sources of every class, from which on intervals over images are percentiles of resamples
)
TWO = 2  # sources of a class, of which tables print both intervals
NO_VIDEOS = ()
# metrics whose interval over sources contains that over images; the others are wide enough
JOINED = frozenset(
    {
        IntervalMethod.RATES,
        IntervalMethod.AREA,
        IntervalMethod.PRECISION,
        IntervalMethod.CROSSING,
        IntervalMethod.MEAN,
    }
)
# metrics of the order of the scores. If both values are near 1, intervals of their differences over sources are too
# narrow. For an AUC of 0.99, they contain the true value in 81 % with five sources, and in 89 % with 20
ORDERED = frozenset({IntervalMethod.AREA, IntervalMethod.PRECISION})
NEAR_LIMIT = 0.95
# images of a class, below which the interval of a metric over images may be too narrow. Rates are wide enough
FEW_IMAGES_OF = {IntervalMethod.AREA: 50, IntervalMethod.RATES: 0}
# metrics that need as many images over sources as over images
LEAST_OVER_SOURCES = frozenset({IntervalMethod.PRECISION, IntervalMethod.CROSSING})


@dataclass(frozen=True, kw_only=True)  # no slots: what tables of one model share is computed once
class SourcedScores:
    """The scores of N images whose sources are known; see `ScoreTable`.

    Args:
        labels: (N,) classes, from 0 on.
        logits: (N,) of a detector, (N, K) of K classes.
        keys: (N,) "<source>/<name>" of the images, "<source>/<video>/<name>" of frames; rows with one key are
            copies of one image.
        videos: (N,) video of a frame, "" of no frame. (): no row is a frame.
        seed: root seed of the resamples; the same keys and labels have the same ones.
        unit: what a row is: an image, or a whole video.
    """

    labels: NDArray[np.integer]
    logits: NDArray[np.floating]
    keys: Sequence[str]
    videos: Sequence[str] = NO_VIDEOS
    seed: int = 0
    unit: Over = Over.IMAGES

    @classmethod
    def from_predictions(cls, scores: Predictions, *, seed: int = 0) -> "SourcedScores":
        """Return the scores of a detector."""
        return cls(
            labels=scores.labels,
            logits=scores.margin,
            keys=scores.keys,
            videos=scores.videos,
            seed=seed,
        )

    @cached_property
    def whole(self) -> WeightedScores:
        """The table in which each image counts once."""
        return WeightedScores.from_logits(self.labels, self.logits)

    @property
    def table(self) -> ScoreTable:
        """Its labels and logits."""
        return self.whole.table

    @cached_property
    def design(self) -> JackknifeDesign:
        """What is left out in turn for intervals over sources."""
        return jackknife_design(self.keys, self.labels, self.seed, self.videos)

    @property
    def sources(self) -> Mapping[int, int]:
        """How many sources each class has, by its label."""
        return self.design.sources

    @property
    def weights(self) -> Counts:
        """How often each row is in each resample, (R, N)."""
        return resampling.resamples(self.unit_keys, self.labels, self.seed)

    @cached_property
    def unit_keys(self) -> Sequence[str]:
        """What is resampled, (N,): images, and of frames whole videos."""
        if not self.has_frames:
            return self.keys
        return [
            key.rpartition("/")[0] if video else key
            for key, video in zip(self.keys, self.videos, strict=True)
        ]

    @property
    def few_sources(self) -> str:
        """Classes whose intervals may be too narrow, "3 real sources, 1 fake source (over its 20 images)", or ""."""
        design = self.design
        return ", ".join(classes_text(design.sources, design.scopes, _counts(self)))

    @property
    def has_many_sources(self) -> bool:
        """Whether every class has three sources or more."""
        return min(self.sources.values()) >= SEVERAL

    def is_joined(self, metric: Metric) -> bool:
        """Whether an interval over sources contains the one over images, which is printed beside that of two sources.

        The one over images of frames is over videos. Leaving out one video at a time says too little near 0 and 1.
        """
        both = metric.interval is not IntervalMethod.CROSSING and TWO in self.sources.values()
        return metric.interval in JOINED and not both

    def resample_metrics(self, metrics: Sequence[Metric]) -> Mapping[str, Floats]:
        """Return each metric under every resample (R,), by name; NaN where it is undefined."""
        missing = [metric for metric in metrics if metric.name not in self._resampled_values]
        if missing:
            self._resampled_values.update(
                resampling.values_under(missing, self.table, self.weights)
            )
        return self._resampled_values

    def left_out(self, metrics: Sequence[Metric]) -> Mapping[str, Floats]:
        """Return each metric on the remaining rows when a part is left out (F,), by name."""
        missing = [metric for metric in metrics if metric.name not in self._left_out]
        if missing:
            design = self.design
            self._left_out.update(
                resampling.values_under(missing, self.table, design.weights, design.scale)
            )
        return self._left_out

    @cached_property
    def has_frames(self) -> bool:
        """Whether any row is a frame of a video."""
        return any(self.videos)

    @cached_property
    def image_sample(self) -> over_images.ImageSample:
        """The data for intervals over images, of frames over videos."""
        return over_images.ImageSample.from_table(self.table, self.unit_keys)

    @cached_property
    def known_estimates(self) -> dict[str, Estimate]:
        """The earlier results of `estimates`, by the name of the metric."""
        return {}

    @cached_property
    def known_over_images(self) -> dict[str, Estimate]:
        """The earlier results of `estimates_over_images`, by the name of the metric."""
        return {}

    @cached_property
    def _resampled_values(self) -> dict[str, Floats]:
        return {}

    @cached_property
    def _left_out(self) -> dict[str, Floats]:
        return {}

    @cached_property
    def within_sources(self) -> "SourcedScores":
        """The same table, in which all videos of a class are of one source."""
        keys = [
            f"{folder.replace('/', '|') if video else ''}/{name}"
            for key, video in zip(self.keys, self.videos, strict=True)
            for folder, _, name in (key.rpartition("/"),)
        ]
        return SourcedScores(
            labels=self.labels, logits=self.logits, keys=keys, videos=self.videos, seed=self.seed
        )


def estimates(metrics: Sequence[Metric], table: SourcedScores) -> dict[str, Estimate]:
    """Return the metrics of a table with their intervals, by name.

    Args:
        metrics: all of them defined for the table.
        table: the scores.
    """
    known = table.known_estimates
    missing = [metric for metric in metrics if metric.name not in known]
    if missing:
        known.update(_estimates(missing, table))
    return {metric.name: known[metric.name] for metric in metrics}


def _estimates(metrics: Sequence[Metric], table: SourcedScores) -> dict[str, Estimate]:
    design = table.design
    if not design.has_several_sources:
        return estimates_over_images(metrics, table)
    if table.has_many_sources or not table.has_frames:
        by_images = estimates_over_images(metrics, table)
    elif Over.SOURCES in design.scopes.values():
        by_images = _estimate_over_sources(metrics, table.within_sources, {})
    else:
        by_images = {}
    return _estimate_over_sources(metrics, table, by_images)


def estimates_over_images(metrics: Sequence[Metric], table: SourcedScores) -> dict[str, Estimate]:
    """Return the metrics of a table with their intervals over other images of the same sources, by name.

    Args:
        metrics: all of them defined for the table.
        table: the scores.
    """
    over = {
        each.label: Over.VIDEOS if each.videos > 1 else table.unit for each in table.design.strata
    }
    alone = [class_name(each.label) for each in table.design.strata if each.videos == 1]
    found = table.known_over_images
    for metric in metrics:
        if metric.name in found:
            continue
        value = metric.value(table.whole)
        if alone and not table.has_many_sources:
            why = f"all {' and '.join(alone)} images are of one video"
            found[metric.name] = Estimate(value=value, over=over, why=why)
        elif why := over_images.shortage(metric, _counts(table)):
            found[metric.name] = Estimate(value=value, over=over, why=why)
        elif table.has_many_sources:
            spread = table.resample_metrics(metrics)[metric.name]
            interval = _percentiles(metric, value, spread, table)
            found[metric.name] = Estimate(value=value, interval=interval, over=over)
        else:
            interval = over_images.interval_over_images(metric, table.image_sample, value)
            found[metric.name] = (
                Estimate(value=value, interval=interval, over=over)
                if interval.low < interval.high
                else Estimate(value=value, over=over, why="no image differs from another")
            )
    return {metric.name: found[metric.name] for metric in metrics}


def estimates_over_sources(metrics: Sequence[Metric], table: SourcedScores) -> dict[str, Estimate]:
    """Return the metrics of a table with their intervals over sources, without those over images beside them.

    Args:
        metrics: all of them defined for the table.
        table: the scores, of several sources of a class and without frames.
    """
    return _estimate_over_sources(metrics, table, {})


class SourceTest(NamedTuple):
    """Whether two models differ over the population that the sources come from."""

    difference: Difference  # over images if it does not vary over sources
    freedom: float  # degrees of, of Student's t
    p: float | None  # two-sided; None: the difference does not vary over sources
    alike: bool  # no prediction differs; for the area, not even the order


def differences(
    metrics: Sequence[Metric],
    first_scores: SourcedScores,
    second_scores: SourcedScores,
    *,
    are_paired: bool,
) -> dict[str, Difference]:
    """Return by how much the second model exceeds the first in each metric, by name.

    A difference has no interval if one of both values has none, unless the models are identical on the same images.

    Args:
        metrics: all of them defined for both tables.
        first_scores: scores of one model.
        second_scores: of the other.
        are_paired: both tables are of the same images in one order, and images that are hard for both cancel out.
    """
    first, second = estimates(metrics, first_scores), estimates(metrics, second_scores)
    identical = are_paired and np.array_equal(first_scores.logits, second_scores.logits)
    several = first_scores.design.has_several_sources or second_scores.design.has_several_sources
    found = {}
    for metric in metrics:
        one, other = first[metric.name], second[metric.name]
        if identical:
            found[metric.name] = Difference(0.0, Interval(0.0, 0.0))
        elif not several:
            found[metric.name] = _difference_over_images(
                metric, first_scores, second_scores, are_paired=are_paired
            )
        elif one.interval is None or other.interval is None:
            found[metric.name] = Difference(other.value - one.value, why=one.why or other.why)
        else:
            found[metric.name] = _difference_over_parts(
                metric, (first_scores, one), (second_scores, other), are_paired=are_paired
            )
    return found


def source_test(
    metric: Metric, first_scores: SourcedScores, second_scores: SourcedScores
) -> SourceTest:
    """Return the test of equal values of a metric over sources, of two tables of the same images."""
    first, second = (
        table.left_out([metric])[metric.name] for table in (first_scores, second_scores)
    )
    change = second - first
    error, shift = (
        standard_error(first_scores.design, change, even=not metric.pooled),
        float(change[0]),
    )
    if error.error == 0:
        difference = _difference_over_images(metric, first_scores, second_scores, are_paired=True)
    else:
        difference = Difference(shift, error.interval(shift, metric.difference_scale))
    return SourceTest(
        difference=difference,
        freedom=error.freedom,
        p=error.p(shift),
        alike=np.array_equal(
            _metric_inputs(metric, first_scores), _metric_inputs(metric, second_scores)
        ),
    )


def rate(value: float, count: float) -> Estimate:
    """Return a fraction of independent images or samples with its interval.

    It is Wilson's, and at 0 and 1 that of Clopper and Pearson: no exception in so many images.
    """
    return Estimate(value=value, interval=fraction_interval(value, count))


def group_rate(value: float, images: SourcedScores, labels: Sequence[int]) -> Estimate:
    """Return a fraction of a group's images with its interval over images: that of a recall or an accuracy.

    Args:
        value: fraction of the images of these classes.
        images: scores of the group; decisions are those at a logit of 0.
        labels: classes that the fraction is of.
    """
    sample = images.image_sample
    count = sum(sample.count_independent(label) for label in labels)
    return Estimate(value=value, interval=clopper_pearson(value * count, count))


def group_estimate(metric: Metric, images: SourcedScores, value: float) -> Estimate:
    """Return a metric of a group with its interval over images, however many sources these have.

    A group has few images of a source. An interval over sources, or of resamples, would say little about it. With few
    images of a class, the estimate has a note.

    Args:
        metric: the metric.
        images: scores of the group.
        value: the metric's value.
    """
    few = images.image_sample.independent_of_smaller_class < FEW_IMAGES_OF.get(
        metric.interval, FEW_IMAGES
    )
    return Estimate(
        value=value,
        interval=_score_interval(metric, images, value),
        note=MAY_BE_NARROW if few else "",
    )


def share_of(holds: NDArray[np.bool_], keys: Sequence[str]) -> Estimate:
    """Return the fraction of samples (N,) for which something holds, with its interval over images.

    Args:
        holds: (N,).
        keys: (N,) samples with one key are copies of one image.
    """
    value = float(holds.mean())
    if len(set(keys)) == len(keys):
        return rate(value, len(keys))
    _, picture = resampling.picture_codes(keys)
    effect = over_images.design_effect(holds.astype(np.float64), picture)
    count = len(set(keys)) if effect is None else len(holds) / effect
    return rate(value, count)


def tpr_at_fixed_fpr(
    metric: Metric,
    table: ScoreTable,
    *,
    keys: Sequence[str],
    weights: NDArray[np.integer],
) -> Estimate:
    """Return a rate at a fixed FPR with its interval over images, of reals that count differently.

    Args:
        metric: the rate.
        table: logits of N samples of both classes.
        keys: (N,) samples with one key are copies of one image.
        weights: (N,) how often each sample counts; every fake counts once.
    """
    once = weights[None].astype(np.uint16)
    value = float(resampling.values_under([metric], table, once)[metric.name][0])
    of_reals = weights[~table.fake]
    fakes, reals, *counts = over_images.ImageSample.from_table(table, keys).two_classes
    worth = of_reals.sum() ** 2 / (of_reals**2).sum() / len(reals)  # L. Kish: effective number
    low, high = over_images.fixed_fpr_interval(
        value, fakes, reals, (counts[0], counts[1] * worth), of_reals
    )
    return Estimate(value=value, interval=Interval(min(low, value), max(high, value)))


class Sampled(NamedTuple):
    """A value and the same under each resample of its images, NaN where it is undefined."""

    value: float
    draws: Floats  # (R,)
    interval: Interval | None = None  # its own; None: the percentiles of the draws
    metric: Metric | None = None  # metric of a value with an interval of its own
    fewer: float = 0.0  # independent images of the smaller class

    @property
    def estimate(self) -> Estimate:
        """The value with its interval over images, and over seeds where there are several."""
        interval = self.interval or resampling.percentile_interval(self.value, self.draws)
        return Estimate(value=self.value, interval=interval)


def sample_metric(metric: Metric, table: SourcedScores) -> Sampled:
    """Return a metric of a table, comparable with that of other tables of the same images."""
    draws = table.resample_metrics([metric])[metric.name]
    estimate = estimates_over_images([metric], table)[metric.name]
    if table.has_many_sources:
        return Sampled(estimate.value, draws)
    return Sampled(
        estimate.value,
        draws,
        estimate.interval,
        metric,
        table.image_sample.independent_of_smaller_class,
    )


def mean_over_seeds(seeds: Sequence[Sampled]) -> Sampled:
    """Return the mean of a metric over seeds of one model, three or more of which are drawn as well."""
    if len(seeds) == 1:
        return seeds[0]
    return mean_of(seeds, draws_over_seeds([each.draws for each in seeds]))


def mean_of(parts: Sequence[Sampled], draws: Floats) -> Sampled:
    """Return the mean of values of the same images, with its draws (R,).

    The percentiles of the draws are too close for values near their limit. If the parts have intervals of their own,
    that of the mean reaches the mean of their ends, as values of the same images rise and fall together.
    """
    value = float(np.mean([each.value for each in parts]))
    intervals = [each.interval for each in parts if each.interval is not None]
    if len(intervals) < len(parts):
        return Sampled(value, draws)
    low, high = resampling.percentile_interval(value, draws)
    ends = np.mean(intervals, axis=0)
    wider = Interval(min(low, float(ends[0])), max(high, float(ends[1])))
    return Sampled(value, draws, wider, parts[0].metric, min(each.fewer for each in parts))


def draws_over_seeds(spreads: Sequence[Floats], *, stream: str = "seeds") -> Floats:
    """Return the draws (R,) of the mean over seeds, of the draws of each seed; see `resampled_over_seeds`."""
    return resampling.resampled_over_seeds(spreads, stream=stream)


def from_error(value: float, error: float) -> Estimate:
    """Return a value with its interval of 1.96 standard errors."""
    return Estimate(value=value, interval=Interval(value - Z * error, value + Z * error))


def mean_of_seeds(
    values: Sequence[float], *, least: float = -math.inf, most: float = math.inf
) -> Estimate:
    """Return the mean of the numbers of trainings with different seeds, with Student's interval.

    One seed has none.

    Args:
        values: number of each seed.
        least: smallest possible number.
        most: largest possible number.
    """
    mean = float(np.mean(values))
    if len(values) < TWO:
        return Estimate(value=mean, why="one seed")
    error = float(np.std(values, ddof=1)) / len(values) ** 0.5
    half = StandardError(error, len(values) - 1).half
    return Estimate(value=mean, interval=Interval(max(mean - half, least), min(mean + half, most)))


def clustered_mean(values: Floats, keys: Sequence[str]) -> Estimate:
    """Return the mean of values (N,) with its interval; rows of one key count as one draw.

    Source: A. Cameron and D. Miller, "A practitioner's guide to cluster-robust inference", 2015,
        equation 7 for a mean; the normal quantile, as there are hundreds of images.
    """
    value = float(values.mean())
    which = np.unique(np.array(keys), return_inverse=True)[1]
    sums = np.bincount(which, weights=values - value)
    return from_error(value, float(np.sqrt((sums**2).sum())) / len(values))


def from_draws(value: float, draws: Floats) -> Estimate:
    """Return a value with the middle 95 % of its draws (R,)."""
    return Estimate(value=value, interval=resampling.percentile_interval(value, draws))


def middle_of_draws(draws: Floats) -> Floats:
    """Return both ends (2, M) of the middle 95 % of draws (M, R)."""
    tail = (1 - resampling.COVERAGE) / 2
    ends: Floats = np.quantile(draws, [tail, 1 - tail], axis=1)
    return ends


def difference_of(first: Sampled, second: Sampled) -> Difference:
    """Return first minus second, of the same images, paired by the draws."""
    value = first.value - second.value
    metric = first.metric
    if first.interval is not None and second.interval is not None and metric is not None:
        one, other = (first.value, first.interval), (second.value, second.interval)
        correlation = over_images.correlation_of(
            metric,
            (first.draws, second.draws),
            (first.value + second.value) / 2,
            min(first.fewer, second.fewer),
        )
        return Difference(value, over_images.difference_interval(other, one, correlation))
    return Difference(value, resampling.percentile_interval(value, first.draws - second.draws))


def function_of_means(
    values: NDArray[np.float32],
    function: Callable[[Floats], Floats],
    table: SourcedScores,
    *,
    scale: Scale,
    fraction: bool = False,
) -> Estimate:
    """Return a function of the means of values of each sample, with its interval.

    Args:
        values: (N, M) of the samples.
        function: from means (R, M) to (R,). Values that are not finite are left out.
        table: labels and keys of the samples.
        scale: the range of the function.
        fraction: the function is the fraction of samples for which something holds.
    """
    design = table.design
    value = float(function(values.mean(0, dtype=np.float64)[None])[0])
    error = standard_error(design, function(design.weighted_means(values)), even=False)
    if design.has_several_sources and error.error > 0:
        return Estimate(value=value, interval=error.interval(value, scale), over=design.scopes)
    draws = function(resampling.means_under(values, table.weights))
    interval = resampling.percentile_interval(value, draws)
    if fraction and interval.low == interval.high:
        interval = fraction_interval(value, sum(count for count, _ in _counts(table).values()))
    return Estimate(value=value, interval=interval, over=dict.fromkeys(design.scopes, Over.IMAGES))


def _estimate_over_sources(
    metrics: Sequence[Metric], table: SourcedScores, by_images: Mapping[str, Estimate]
) -> dict[str, Estimate]:
    """Return the metrics with their intervals over sources, of a class of one source over its videos or images."""
    design, left = table.design, table.left_out(metrics)
    found = {}
    for metric in metrics:
        images, value = by_images.get(metric.name), metric.value(table.whole)
        asked = None if metric.interval in LEAST_OVER_SOURCES else design.scopes
        counts = _counts(table, only=asked)
        if why := over_images.shortage(metric, counts):
            found[metric.name] = Estimate(value=value, over=design.scopes, why=why, images=images)
            continue
        sample = over_sources.SourceSample(
            value=value,
            by_images=_contained_interval(metric, table, value, images),
            table=table.table,
            design=design,
            left=left[metric.name],
        )
        interval = over_sources.interval_over_sources(metric, sample)
        if interval.low < interval.high:
            found[metric.name] = Estimate(
                value=value, interval=interval, over=design.scopes, images=images
            )
        else:  # sources do not differ, by chance in few of them: images do
            found[metric.name] = images or estimates_over_images([metric], table)[metric.name]
    return found


def _contained_interval(
    metric: Metric, table: SourcedScores, value: float, images: Estimate | None
) -> Interval | None:
    """Return the interval that one over sources has to contain; None if there is none.

    It is the one over images, and of frames the one over videos. Percentiles of resamples are too narrow near 0 and 1.
    """
    if metric.interval is IntervalMethod.CROSSING and table.has_frames:
        return None if images is None else images.interval
    return _score_interval(metric, table, value) if table.is_joined(metric) else None


def _score_interval(metric: Metric, table: SourcedScores, value: float) -> Interval:
    """Return the interval over images that needs no resamples."""
    return over_images.interval_over_images(metric, table.image_sample, value)


def _counts(
    table: SourcedScores, *, only: Mapping[int, Over] | None = None
) -> Mapping[int, tuple[int, str]]:
    """Return the number of independent images, or videos, of each class, with the name of the unit.

    Args:
        table: the scores.
        only: what an interval is over; classes over sources are left out. None: no class is.
    """
    return {
        each.label: (each.videos, "videos") if each.videos else (each.pictures, "")
        for each in table.design.strata
        if only is None or only[each.label] is not Over.SOURCES
    }


def _percentiles(metric: Metric, value: float, spread: Floats, table: SourcedScores) -> Interval:
    """Return the percentiles of resamples; of a fraction of 0 or 1 the interval for so few images."""
    if metric.interval is IntervalMethod.CALIBRATION:
        spread = resampling.correct_bias(value, spread)
    measure = resampling.percentile_interval(value, spread)
    varied = measure.low != measure.high or 0 < value < 1
    if metric.scale is not Scale.SHARE or varied:
        return measure
    counts = [
        count for label, (count, _) in _counts(table).items() if not metric.of_fakes or label == 1
    ]
    count = sum(counts) if metric.pooled else min(counts)
    return clopper_pearson(value * count, count)


def _difference_over_images(
    metric: Metric, first_scores: SourcedScores, second_scores: SourcedScores, *, are_paired: bool
) -> Difference:
    first, second = (
        estimates_over_images([metric], table)[metric.name]
        for table in (first_scores, second_scores)
    )
    value = second.value - first.value
    if first.interval is None or second.interval is None:
        return Difference(value, why=first.why or second.why)
    if first_scores.has_many_sources and second_scores.has_many_sources:
        spreads = [
            table.resample_metrics([metric])[metric.name] for table in (first_scores, second_scores)
        ]
        return Difference(value, resampling.percentile_interval(value, spreads[1] - spreads[0]))
    if are_paired and np.array_equal(first_scores.logits, second_scores.logits):
        return Difference(value, Interval(value, value))
    ends = _difference_of_intervals(
        metric,
        (first_scores, first.value, first.interval),
        (second_scores, second.value, second.interval),
        are_paired=are_paired,
    )
    return Difference(value, ends)


def _difference_of_intervals(
    metric: Metric,
    first_part: tuple[SourcedScores, float, Interval],
    second_part: tuple[SourcedScores, float, Interval],
    *,
    are_paired: bool,
) -> Interval:
    """Return the interval of second minus first, each a table with its value and its interval over images."""
    (one, first, first_ends), (other, second, second_ends) = first_part, second_part
    tables = (one, other)
    correlation = over_images.correlation_of(
        metric,
        (one.resample_metrics([metric])[metric.name], other.resample_metrics([metric])[metric.name])
        if are_paired
        else None,
        (first + second) / 2,
        min(table.image_sample.independent_of_smaller_class for table in tables),
    )
    return over_images.difference_interval((first, first_ends), (second, second_ends), correlation)


def _difference_over_parts(
    metric: Metric,
    first_part: tuple[SourcedScores, Estimate],
    second_part: tuple[SourcedScores, Estimate],
    *,
    are_paired: bool,
) -> Difference:
    (one, first), (other, second) = first_part, second_part
    value, name = second.value - first.value, metric.name
    left = [table.left_out([metric])[name] for table in (one, other)]
    alike = are_paired and np.array_equal(left[0], left[1])
    if metric.interval is IntervalMethod.FIXED_FPR and not alike:
        # leaving sources out says too little; models are taken to err independently
        assert first.interval is not None
        assert second.interval is not None
        return Difference(
            value,
            over_images.difference_interval(
                (first.value, first.interval), (second.value, second.interval), 0.0
            ),
        )
    error = _difference_error(metric, one, other, left, are_paired=are_paired)
    interval = error.interval(value, metric.difference_scale)
    if not (one.is_joined(metric) and other.is_joined(metric)):
        if error.error == 0:  # by chance in few sources; then the interval is that over images
            return _difference_over_images(metric, one, other, are_paired=are_paired)
        return Difference(value, interval)
    over_their_images = _difference_of_intervals(
        metric,
        (one, first.value, _score_interval(metric, one, first.value)),
        (other, second.value, _score_interval(metric, other, second.value)),
        are_paired=are_paired,
    )
    both = interval.merge(over_their_images)
    return Difference(value, both, note=_note(metric, (first.value + second.value) / 2))


def _note(metric: Metric, value: float) -> str:
    """Return what is printed beside the difference of two values with this mean over sources.

    Few sources have most of the difference of two areas near 1, so that tests without one of these have no wide interval.
    """
    near = metric.interval in ORDERED and value > NEAR_LIMIT
    return MAY_BE_NARROW if near else ""


def _difference_error(
    metric: Metric,
    first_scores: SourcedScores,
    second_scores: SourcedScores,
    left_out_values: Sequence[Floats],
    *,
    are_paired: bool,
) -> StandardError:
    """Return the standard error over sources of a difference."""
    even, (first, second) = not metric.pooled, left_out_values
    if are_paired:
        return standard_error(first_scores.design, second - first, even=even)
    return standard_error(
        first_scores.design, first, even=even, second_sample=(second_scores.design, second)
    )


def _metric_inputs(metric: Metric, table: SourcedScores) -> NDArray[np.intp]:
    """Return the input of a measure: whether each image is classified as fake, or their order."""
    logits = table.table.margins
    if metric.interval is IntervalMethod.RATES:
        return (logits > 0).astype(np.intp)
    order: NDArray[np.intp] = np.unique(logits, return_inverse=True)[1]
    return order
