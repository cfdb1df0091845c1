"""The measurement of a score table: every metric, with its intervals.

Positive = fake throughout: precision is the fraction of true fakes among images called fake, recall the
fraction of fakes called fake. An undefined metric is missing, and `reasons` says why.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pkgutil import iter_modules
from types import MappingProxyType, ModuleType

import numpy as np
from numpy.typing import NDArray

from trueface.evaluation import curves, metrics
from trueface.evaluation.arrays import Floats
from trueface.evaluation.curves import Labels
from trueface.evaluation.estimate import Estimate, Over, class_name
from trueface.evaluation.estimates import SourcedScores, estimates
from trueface.evaluation.metric import Metric
from trueface.evaluation.weighted_scores import WeightedScores
from trueface.predictions.predictions import Predictions
from trueface.runtime.errors import DataError, UsageError
from trueface.runtime.files import Json

ENDS = frozenset({"low", "high", "why"})
CONSTANT = 0.99  # from this fraction of equal predictions on, a model is constant


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


def _metric_modules() -> list[ModuleType]:
    names = sorted(module.name for module in iter_modules(metrics.__path__))
    return [import_module(f"{metrics.__name__}.{name}") for name in names]


# those of each module in metrics/, modules by name, in each as they are written
METRICS = MappingProxyType(collect(_metric_modules()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All metrics of one score table."""

    n: int
    sources: Mapping[int, int]  # folders that the images of each class (0 real) come from
    over: Mapping[int, Over]  # scope of the intervals of each class
    few_sources: str  # classes of few sources or images, whose intervals may be too narrow; ""
    metrics: Mapping[str, Estimate]  # by name; those that `reasons` has are undefined
    confusion: tuple[tuple[int, int], tuple[int, int]]  # rows true real, fake; columns predicted
    reason: str | None  # why there is no metric of two classes
    reasons: Mapping[str, str]  # why a metric is undefined, by name
    verdict: str  # "constant", "chance", "below chance", the first and one more, or ""

    @property
    def by_images(self) -> Mapping[str, Estimate]:
        """The metrics with their intervals over other images of the very same sources."""
        return {name: measure.by_images for name, measure in self.metrics.items()}

    @property
    def has_two_sources(self) -> bool:
        """Whether a class has exactly two sources, so that tables show intervals over images, too."""
        return 2 in self.sources.values()


def evaluate_scores(
    labels: Labels,
    logits: Floats,
    *,
    keys: Sequence[str],
    videos: Sequence[str] = (),
    names: Collection[str] | None = None,
) -> Report:
    """Return every metric of a score table with its interval.

    Args:
        labels: (N,) 1 fake, 0 real.
        logits: (N,) positive = fake; exactly 0 counts as real, as in the original system.
        keys: (N,) "<source>/<name>" of the images; rows with one key are copies of one image.
        videos: (N,) video of a frame, "" of no frame. (): no row is a frame.
        names: of the metrics that are wanted; None: all.

    Raises:
        DataError: empty, or a logit that is not finite: such a model has no score.
    """
    return evaluate_table(
        SourcedScores(labels=labels, logits=logits, keys=keys, videos=videos), names=names
    )


def evaluate_table(table: SourcedScores, *, names: Collection[str] | None = None) -> Report:
    """Return the report of `evaluate_scores` of a table."""
    labels, logits = table.labels, table.logits
    _refuse_broken_scores(labels, logits)
    reasons = dict(undefined_metrics(table, names))
    metrics = [metric for name, metric in METRICS.items() if names is None or name in names]
    defined = [each for each in metrics if each.name not in reasons]
    with np.errstate(over="ignore", invalid="ignore"):
        reasons |= {
            each.name: "the logits are too large"
            for each in defined
            if not np.isfinite(each.value(table.whole))
        }
        measures = estimates([each for each in defined if each.name not in reasons], table)
    auc = measures.get("auc")
    return Report(
        n=len(labels),
        sources=table.sources,
        over=table.design.scopes,
        few_sources=table.few_sources,
        metrics=measures,
        confusion=_confusion(table.whole),
        reason=reasons.get("auc"),
        reasons=reasons,
        verdict=_verdict(logits, None if auc is None else auc.by_images),
    )


def undefined_metrics(
    table: SourcedScores, names: Collection[str] | None = None
) -> Mapping[str, str]:
    """Return why metrics are undefined, by name."""
    fake, called = table.labels == 1, table.logits > 0
    reasons = {
        name: metric.why_undefined(fake, called)
        for name, metric in METRICS.items()
        if names is None or name in names
    }
    return {name: reason for name, reason in reasons.items() if reason}


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
    _refuse_broken_scores(labels, logits)
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


def _refuse_broken_scores(labels: NDArray[np.integer], logits: NDArray[np.floating]) -> None:
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


def _verdict(logits: NDArray[np.floating], auc: Estimate | None) -> str:
    """Return the main caveat of the numbers; for the AUC by images alone.

    Few sources leave the area of any model open, which does not make it a guess.
    """
    if auc is None:
        return ""
    share = float(np.mean(logits > 0))
    words = ["constant"] if max(share, 1 - share) > CONSTANT else []
    if auc.contains(0.5):
        words.append("chance")
    elif auc.excludes(0.5) and auc.value < 0.5:
        words.append("below chance")
    return ", ".join(words)


def measure_json(report: Report, name: str, *, brief: bool = False) -> Json:
    """Return a metric of a report as JSON, None if it is undefined. Two sources of a class give both intervals.

    Args:
        report: the report.
        name: of the metric.
        brief: leave out `over` if it is that of the report.
    """
    measure = report.metrics.get(name)
    if measure is None:
        return None
    record = measure.json_record
    if brief and measure.over == report.over:
        del record["over"]
    if report.has_two_sources and measure.images is not None:
        ends = measure.images.json_record
        over = measure.images.over.values()
        kept = ENDS | {"over"} if Over.VIDEOS in over else ENDS
        record["images"] = {key: value for key, value in ends.items() if key in kept}
    return record


def sources_json(sources: Mapping[int, int]) -> dict[str, Json]:
    """Return how many sources each class has, by its name."""
    return {class_name(label): count for label, count in sources.items()}


def over_json(interval_scopes: Mapping[int, Over]) -> dict[str, Json]:
    """Return the scope of the intervals of each class, by its name."""
    return {class_name(label): each for label, each in interval_scopes.items()}
