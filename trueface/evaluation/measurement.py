"""The measurement of a score table: every metric, with its intervals.

Positive = fake throughout: precision is the fraction of true fakes among images called fake, recall the
fraction of fakes called fake. An undefined metric is missing, and `reasons` says why.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pkgutil import iter_modules
from types import MappingProxyType, ModuleType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trueface.evaluation import curves, intervals, metrics
from trueface.evaluation.curves import Labels
from trueface.evaluation.intervals import (
    FEW,
    Floats,
    IntervalEstimate,
    JackknifeDesign,
    Scale,
    clopper_pearson,
    resamples,
)
from trueface.evaluation.metric import Metric, SourceSample, resampled_values
from trueface.evaluation.weighted_scores import ScoreTable, WeightedScores
from trueface.predictions.predictions import Predictions
from trueface.runtime.errors import DataError, UsageError
from trueface.runtime.files import Json

CONSTANT = 0.99  # from this fraction of equal predictions on, a model is constant
NAMES = ("real", "fake")


def collect(modules: Iterable[ModuleType]) -> dict[str, Metric]:
    """Return the metrics at the top of some modules by their names.

    Raises:
        UsageError: two metrics have one name; both modules are named.
    """
    collected: dict[str, Metric] = {}
    owners: dict[str, str] = {}
    for module in modules:
        for metric in vars(module).values():
            if not isinstance(metric, Metric) or collected.get(metric.name) is metric:
                continue
            if metric.name in collected:
                raise UsageError(
                    f"metric {metric.name!r} is defined in {owners[metric.name]} and in "
                    f"{module.__name__}. Rename one."
                )
            collected[metric.name], owners[metric.name] = metric, module.__name__
    return collected


def _modules() -> list[ModuleType]:
    names = sorted(module.name for module in iter_modules(metrics.__path__))
    return [import_module(f"{metrics.__name__}.{name}") for name in names]


# those of each module in metrics/, modules by name, in each as they are written
METRICS = MappingProxyType(collect(_modules()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All metrics of one score table."""

    n: int
    sources: Mapping[int, int]  # folders that the images of each class (0 real) come from
    metrics: Mapping[str, IntervalEstimate]  # by name; those that `reasons` has are undefined
    confusion: tuple[tuple[int, int], tuple[int, int]]  # rows true real, fake; columns predicted
    reason: str | None  # why there is no metric of two classes
    reasons: Mapping[str, str]  # why a metric is undefined, by name
    verdict: str  # "constant", "chance", "below chance", the first and one more, or ""
    # of other images of the very same sources: intervals of each metric
    by_images: Mapping[str, IntervalEstimate]


class EvaluatedScores(NamedTuple):
    """A report, with each of its metrics on every resample."""

    report: Report
    resampled_metrics: Mapping[str, Floats]  # name → (R,); NaN where a resample has no such value
    design: JackknifeDesign
    # name → (F,) on what of the table is left: see `standard_error`
    jackknife_values: Mapping[str, Floats]


def evaluate_scores(
    labels: Labels,
    logits: Floats,
    *,
    keys: Sequence[str],
    names: Collection[str] | None = None,
) -> Report:
    """Return every metric of a score table with its interval.

    Args:
        labels: (N,) 1 fake, 0 real.
        logits: (N,) positive = fake; exactly 0 counts as real, as in the original system.
        keys: (N,) "<source>/<name>" of the images; rows with one key are resampled together.
        names: of the metrics that are wanted; None: all.

    Raises:
        DataError: empty, or a logit that is not finite: such a model has no score.

    Intervals are over the population that the sources come from, where a class has several; of a
    class of one source they are of this source. See `standard_error`; where no class has several,
    and for `by_images`, `bootstrap`. That of the calibration error is wide rather than narrow. A share
    that is 0 or 1 without exception has the interval of no error on as many images.
    """
    return evaluate_with_resamples(labels, logits, keys=keys, names=names).report


def evaluate_with_resamples(
    labels: Labels,
    logits: Floats,
    *,
    keys: Sequence[str],
    seed: int = 0,
    names: Collection[str] | None = None,
) -> EvaluatedScores:
    """Return the report of `evaluate_scores` with its resamples, as differences of two models need them.

    Two tables of the same keys and labels, in the same order, have the same resamples with the same root seed.
    """
    _check(labels, logits)
    fake, called = labels == 1, logits > 0
    wanted = {name: METRICS[name] for name in METRICS if names is None or name in names}
    undefined = {name: metric.why_undefined(fake, called) for name, metric in wanted.items()}
    reasons = {name: reason for name, reason in undefined.items() if reason}
    defined = [metric for name, metric in wanted.items() if name not in reasons]
    scores = WeightedScores.from_logits(labels, logits)
    spread = resampled_values(defined, scores.table, resamples(keys, labels, seed))
    design = intervals.jackknife_design(keys, labels, seed)
    left = resampled_values(defined, scores.table, design.weights, design.scale)
    by_images = {
        metric.name: widen_degenerate(
            metric, metric.image_interval(metric.value(scores), spread[metric.name]), design
        )
        for metric in defined
    }
    measures = dict(by_images)
    if design.has_several_sources:
        wider = source_intervals(by_images, scores.table, design, left)
        measures |= {name: measure for name, measure in wider.items() if measure.low < measure.high}
    report = Report(
        n=len(labels),
        sources=design.sources,
        metrics=measures,
        confusion=_confusion(scores),
        reason=reasons.get("auc"),
        reasons=reasons,
        verdict=_verdict(logits, by_images.get("auc")),
        by_images=by_images,
    )
    return EvaluatedScores(
        report=report, resampled_metrics=spread, design=design, jackknife_values=left
    )


def subset_masks(scores: Predictions) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Yield the rows (N,) of each subset of a score table, then of each modifier, in the order of its rows.

    A subset is the folder of the key ("StyleGAN2/conf-f-psi-1"); with it stand all images of the other class under
    the same modifiers, if there are any. Rows whose path has no modifier (old score files name no images) are in
    no modifier.
    """
    subsets, modifiers = np.array(scores.subsets), np.array(scores.modifiers)
    for name in dict.fromkeys(scores.subsets):
        rows = subsets == name
        classes = np.unique(scores.labels[rows])
        others = (scores.labels != classes[0]) & np.isin(modifiers, np.unique(modifiers[rows]))
        yield name, rows if len(classes) > 1 else rows | others
    for name in dict.fromkeys(scores.modifiers):
        if name:
            yield name, modifiers == name


def roc(labels: Labels, logits: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the ROC curve as false positive rates, true positive rates, thresholds on the logit.

    The first threshold is infinite: nothing is called fake. Points on a straight line between
    others are left out.

    Raises:
        DataError: nothing to draw: no rows, one class only, or a logit that is not finite.
    """
    _check(labels, logits)
    if len(np.unique(labels)) < 2:
        raise DataError(
            "a ROC curve needs real and fake images. Test both classes, or merge two tests."
        )
    points = curves.sort_for_roc(labels == 1, logits)
    hits, alarms = points.hits[1:], points.alarms[1:]
    turns = (np.diff(hits, 2) != 0) | (np.diff(alarms, 2) != 0)
    kept = np.flatnonzero(np.concatenate([[True], turns, [True]])[: len(hits)])
    return (
        np.append(0, alarms[kept] / alarms[-1]),
        np.append(0, hits[kept] / hits[-1]),
        np.append(np.inf, np.unique(logits)[::-1][kept]),
    )


def _check(labels: Labels, logits: Floats) -> None:
    if not len(labels):
        raise DataError("no scores to evaluate")
    broken = int(np.count_nonzero(~np.isfinite(logits)))
    if broken:
        raise DataError(
            f"{broken} of {len(logits)} logits are not finite numbers. Train the model again with a lower lr."
        )


def _confusion(scores: WeightedScores) -> tuple[tuple[int, int], tuple[int, int]]:
    return (
        (int(scores.true_negatives[0]), int(scores.false_positives[0])),
        (int(scores.false_negatives[0]), int(scores.true_positives[0])),
    )


def _verdict(logits: Floats, auc: IntervalEstimate | None) -> str:
    """Return the main caveat of the numbers; for the AUC by images alone.

    Few sources leave the area of any model open, which does not make it a guess.
    """
    if auc is None:
        return ""
    share = float(np.mean(logits > 0))
    words = ["constant"] if max(share, 1 - share) > CONSTANT else []
    if auc.low <= 0.5 <= auc.high:
        words.append("chance")
    elif auc.high < 0.5:
        words.append("below chance")
    return ", ".join(words)


def source_intervals(
    by_images: Mapping[str, IntervalEstimate],
    table: ScoreTable,
    design: JackknifeDesign,
    left: Mapping[str, Floats],
) -> dict[str, IntervalEstimate]:
    """Return the metrics of a table with their intervals over sources.

    Args:
        by_images: the metrics, by name, with their intervals over images.
        table: the scores.
        design: what is left out of the table.
        left: (F,) each metric on the remaining rows.
    """
    measures = {}
    for name, measure in by_images.items():
        metric = METRICS[name]
        sample = SourceSample(by_images=measure, table=table, design=design, left=left[name])
        measures[name] = metric.source_interval(metric, sample)
    return measures


def widen_degenerate(
    metric: Metric, measure: IntervalEstimate, design: JackknifeDesign
) -> IntervalEstimate:
    """Return a measure; a fraction of 0 or 1 with the interval for so few images."""
    varied = measure.low != measure.high or 0 < measure.value < 1
    if metric.scale is not Scale.SHARE or varied:
        return measure
    counts = [
        stratum.pictures for stratum in design.strata if not metric.of_fakes or stratum.label == 1
    ]
    return clopper_pearson(measure.value, sum(counts) if metric.pooled else min(counts))


def sources_json(sources: Mapping[int, int]) -> dict[str, Json]:
    """Return how many sources each class has, by its name."""
    return {NAMES[label]: count for label, count in sources.items()}


def few_sources(sources: Mapping[int, int]) -> str:
    """Return "3 real sources, 1 fake source (given this source)" of few; "" where all are many."""
    few = [
        f"{count} {NAMES[label]} source{'s' if count > 1 else ' (given this source)'}"
        for label, count in sources.items()
        if count < FEW
    ]
    return ", ".join(few)
