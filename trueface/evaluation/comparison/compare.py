"""Compare two models: every measure of both, the differences, and tests of significance."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from trueface.evaluation.bootstrap import Counts, Floats, Measure, interval, resamples
from trueface.evaluation.bounded_intervals import by_source
from trueface.evaluation.comparison.inputs import ComparisonInput
from trueface.evaluation.comparison.significance import (
    DeLong,
    McNemar,
    Pairs,
    delong,
    mcnemar,
    pair,
)
from trueface.evaluation.measurement import Measured, Report, measured
from trueface.evaluation.metric import Metric, resampled_values
from trueface.evaluation.metric_registry import METRICS
from trueface.evaluation.score_tables import Scores
from trueface.evaluation.source_variance import Design, Error, design, standard_error
from trueface.runtime.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """Two models on some images; a difference is after minus before."""

    before: Report | None  # None: that model was not tested on such images
    after: Report | None
    difference: Mapping[str, Measure | None]
    same_images: bool  # both were resampled together


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceTest:
    """Whether two models differ over the population that the sources come from."""

    difference: Measure  # over images where it does not vary over sources
    freedom: float  # degrees of, of Student's t
    p: float | None  # two-sided; None: the difference does not vary over sources
    alike: bool  # not one answer differs: of the area, not even the order


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """Tests of two models on the images that both scored."""

    pairs: Pairs
    mcnemar: McNemar
    delong: DeLong | None
    reason: str | None  # why there is no DeLong
    sources: Mapping[int, int]  # of each class
    by_source: Mapping[str, SourceTest]  # of the accuracy, and of the area where there is one


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The measures and tests of two models."""

    before: ComparisonInput
    after: ComparisonInput
    whole: Contrast
    paired: Paired | None
    unpaired: str | None  # why there are no paired tests
    subsets: Mapping[str, Contrast]
    modifiers: Mapping[str, Contrast]


def compare(
    before: ComparisonInput, after: ComparisonInput, *, same_order: bool = False, seed: int = 0
) -> Comparison:
    """Compare two models.

    Args:
        before: scores of one model.
        after: of the other.
        same_order: rows of old files, which name no images, are pairs as they stand.
        seed: root seed of the resampling.

    Raises:
        DataError: a logit that is no finite number, or `same_order` where labels do not agree.
    """
    tables = before.scores, after.scores
    paired, unpaired = None, None
    try:
        paired = _tests(pair(*tables, same_order=same_order), seed)
    except DataError as error:
        if same_order:
            raise
        unpaired = str(error)
    contrasted = partial(contrast, same_order=same_order, seed=seed)
    return Comparison(
        before=before,
        after=after,
        whole=contrasted(*tables),
        paired=paired,
        unpaired=unpaired,
        subsets=_parts(*tables, "subsets", contrasted),
        modifiers=_parts(*tables, "modifiers", contrasted),
    )


def contrast(before: Scores, after: Scores, *, same_order: bool = False, seed: int = 0) -> Contrast:
    """Return the measures of two tables and their differences, with intervals.

    Tables of the same images are resampled together: what is hard for both then cancels out.
    """
    pairs = _whole_pairs(before, after, same_order=same_order)
    if pairs is not None:
        first = measured(pairs.labels, pairs.first, keys=pairs.keys, seed=seed)
        second = measured(pairs.labels, pairs.second, keys=pairs.keys, seed=seed)
    else:
        first = measured(before.labels, before.logits, keys=before.keys, seed=seed)
        second = measured(after.labels, after.logits, keys=after.keys, seed=seed + 1)
    return Contrast(
        before=first.report,
        after=second.report,
        difference={
            name: difference(metric, first, second, together=pairs is not None)
            for name, metric in METRICS.items()
        },
        same_images=pairs is not None,
    )


def difference(
    metric: Metric, before: Measured, after: Measured, *, together: bool
) -> Measure | None:
    """Return by how much the second model exceeds the first in a metric, with its interval.

    Args:
        metric: which.
        before: of one model.
        after: of the other.
        together: both are of the same images, and what is hard for both cancels out.
    """
    name = metric.name
    first, second = before.report.metrics.get(name), after.report.metrics.get(name)
    if first is None or second is None:
        return None
    value = second.value - first.value
    by_images = partial(interval, value, after.spread[name] - before.spread[name])
    if not (before.design.drawn or after.design.drawn):
        return by_images()
    alike = together and np.array_equal(before.left[name], after.left[name])
    if metric.difference is not None and not alike:
        return metric.difference(first, second)
    error = _error(metric, before, after, together=together)
    if error.error == 0:  # by chance in few sources; then the interval is that over images
        return by_images()
    return by_source(value, error, metric.difference_scale)


def _whole_pairs(before: Scores, after: Scores, *, same_order: bool) -> Pairs | None:
    try:
        pairs = pair(before, after, same_order=same_order)
    except DataError:  # reported once, for the whole tables
        return None
    return None if pairs.only_first or pairs.only_second else pairs


def _error(metric: Metric, before: Measured, after: Measured, *, together: bool) -> Error:
    """Return the standard error over sources of a difference."""
    even, first, second = not metric.pooled, before.left[metric.name], after.left[metric.name]
    if together:
        return standard_error(before.design, second - first, even=even)
    return standard_error(before.design, first, even=even, also=(after.design, second))


def _tests(pairs: Pairs, seed: int) -> Paired:
    areas, reason = None, None
    try:
        areas = delong(pairs.labels, pairs.first, pairs.second)
    except DataError as error:
        reason = str(error)
    of = design(pairs.keys, pairs.labels, seed)
    return Paired(
        pairs=pairs,
        mcnemar=mcnemar(pairs.labels, pairs.first, pairs.second),
        delong=areas,
        reason=reason,
        sources=of.sources,
        by_source=_by_source(pairs, of, seed),
    )


def _by_source(pairs: Pairs, of: Design, seed: int) -> dict[str, SourceTest]:
    """Return tests of equal accuracy, and of equal area where both classes are there."""
    metrics = [METRICS["accuracy"], *([METRICS["auc"]] if len(of.strata) > 1 else [])]

    def values(logits: Floats, weights: Counts, scale: Floats | None = None) -> dict[str, Floats]:
        return resampled_values(metrics, pairs.labels == 1, logits, weights, scale)

    first, second = (values(logits, of.weights, of.scale) for logits in (pairs.first, pairs.second))
    tests = {}
    for metric in metrics:
        name = metric.name
        change = second[name] - first[name]
        error, shift = standard_error(of, change, even=not metric.pooled), float(change[0])
        measure = by_source(shift, error, metric.difference_scale)
        if error.error == 0:
            weights = resamples(pairs.keys, pairs.labels, seed)
            before, after = (values(logits, weights) for logits in (pairs.first, pairs.second))
            measure = interval(shift, after[name] - before[name])
        tests[name] = SourceTest(
            difference=measure,
            freedom=error.freedom,
            p=error.p(shift),
            alike=np.array_equal(_answers(name, pairs.first), _answers(name, pairs.second)),
        )
    return tests


def _answers(name: str, logits: Floats) -> NDArray[np.intp]:
    """Return the input of a measure: whether each image is classified as fake, or their order."""
    if name == "accuracy":
        return (logits > 0).astype(np.intp)
    order: NDArray[np.intp] = np.unique(logits, return_inverse=True)[1]
    return order


def _parts(
    before: Scores,
    after: Scores,
    kind: Literal["subsets", "modifiers"],
    contrasted: Callable[[Scores, Scores], Contrast],
) -> dict[str, Contrast]:
    """Return the contrast of each subset or modifier that is in either table."""
    names = [np.array(getattr(table, kind)) for table in (before, after)]
    parts: dict[str, Contrast] = {}
    for name in dict.fromkeys(np.concatenate(names).tolist()):
        if not name:  # old files name no modifier
            continue
        first, second = before.rows(names[0] == name), after.rows(names[1] == name)
        parts[name] = (
            contrasted(first, second) if len(first) and len(second) else _alone(first, second)
        )
    return parts


def _alone(before: Scores, after: Scores) -> Contrast:
    """Return the measures of the only table that has rows."""
    reports = [
        measured(table.labels, table.logits, keys=table.keys).report if len(table) else None
        for table in (before, after)
    ]
    return Contrast(
        before=reports[0],
        after=reports[1],
        difference=dict.fromkeys(METRICS),
        same_images=False,
    )
