"""What one cell of a benchmark is worth: every measure with its interval over images.

Intervals are of other images of the same sources: percentile bootstrap, classes apart, copies of an
image together; of shares of one class, Wilson's. Tables of the same images have the same resamples,
so that differences between cells and between models are paired.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from trueface.benchmark.cells import CellScores, ModelFacts
from trueface.evaluation.calibration import Labels
from trueface.evaluation.intervals import (
    Counts,
    Floats,
    Measure,
    at_limit,
    interval,
    resamples,
    unvaried,
)
from trueface.evaluation.metric import Metric, resampled_values
from trueface.evaluation.metric_registry import METRICS

LEAST = 20  # images of a class: with fewer there is no interval, and a cell has no rank
BALANCED, CALIBRATION, AREA = "balanced_accuracy", "ece", "auc"
PLAIN = (AREA, "ap", BALANCED, "tpr_at_1fpr", "eer", CALIBRATION)  # at threshold 0
AT_THRESHOLD = "balanced_accuracy_at_threshold"
UNSCALED, SCALED = "ece_unscaled", "ece_scaled"  # without the temperature of validation, and with
DELTA = "auc_minus_clean"
KINDS = ("real", "fake")


class Marked(NamedTuple):
    """Why a cell is not ranked."""

    # "chance", "constant", "few images", "one class", "confounded", "attack", "not run"; "": ranked
    mark: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """One measure of a cell, or why there is none."""

    name: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    threshold: float | None = None  # of the logit, where the measure has one
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A cell, measured."""

    values: tuple[Value, ...]
    marked: Marked
    area: Floats | None = None  # (R,) the AUC under each resample
    counts: tuple[int, int] = field(default=(0, 0))  # images that are real, fake

    def __getitem__(self, name: str) -> Value | None:
        return next((value for value in self.values if value.name == name), None)


def measure_scores(
    scores: CellScores, facts: ModelFacts, keys: Sequence[str], sources: Sequence[str]
) -> Measured:
    """Return the measures of a cell that was not attacked.

    Args:
        scores: of N images.
        facts: threshold and temperature of its model.
        keys: (N,) of the images; rows with one key are resampled together.
        sources: (N,) the folder of each below Real/ or Fake/.
    """
    labels, logits = scores.labels, scores.logits
    counts = _counts(labels)
    shares = tuple(_shares(labels, logits > 0, sources))
    if 0 in counts:
        reason = f"all images are {KINDS[int(counts[0] == 0)]}"
        empty = tuple(
            Value(name=name, reason=reason) for name in (*PLAIN, AT_THRESHOLD, UNSCALED, SCALED)
        )
        return Measured(values=(*empty, *shares), marked=Marked("one class", reason), counts=counts)
    weights = resamples(keys, labels, 0)
    values, area = _of_both(labels, logits, facts, weights)
    if min(counts) < LEAST:
        values = [_without_interval(value) for value in values]
    marked = _marked(logits, counts, next(value for value in values if value.name == AREA))
    return Measured(values=(*values, *shares), marked=marked, area=area, counts=counts)


def minus_clean(cell: Measured, clean: Measured) -> Value:
    """Return the change of the AUC from clean images to those of a cell, paired by resamples."""
    here, there = cell[AREA], clean[AREA]
    if cell.area is None or clean.area is None or here is None or there is None:
        return Value(name=DELTA, reason="no AUC of both")
    if here.value is None or there.value is None or cell.counts != clean.counts:
        return Value(name=DELTA, reason="not of the same images")
    change = interval(here.value - there.value, cell.area - clean.area)
    return Value(name=DELTA, value=change.value, low=change.low, high=change.high)


def measure_attack(scores: CellScores) -> Measured:
    """Return what an attack does: of fakes that were called fake, of reals that were called real.

    A model calls fake what lies above its own threshold, which the scores name.

    Source of the rule: only images that were right before count; else a detector that calls
    everything real could not be attacked, and one that calls everything fake would be safe.
    """
    labels, at = scores.labels, scores.threshold
    before = scores.before if scores.before is not None else scores.logits
    was, after = before > at, scores.logits > at
    counts = _counts(labels)
    values = []
    for name, label in (("evasion", 1), ("defamation", 0)):
        right = (labels == label) & (was == (label == 1))
        values.append(_share(f"attack_success_{name}", after[right] != (label == 1), at))
    for label in (1, 0):
        chosen = labels == label
        kind = KINDS[label]
        values.append(_share(f"called_fake_before:{kind}", was[chosen], at))
        values.append(_share(f"called_fake:{kind}", after[chosen], at))
        right = chosen & (was == (label == 1))
        shift = (scores.logits - before)[right]
        values.append(_median(f"logit_shift:{kind}", shift))
    if scores.psnr is not None:
        values.append(_median("psnr", scores.psnr[np.isfinite(scores.psnr)]))
    marked = Marked("attack", "attacks are compared with the random control, not ranked")
    return Measured(values=tuple(values), marked=marked, counts=counts)


def wilson(name: str, holds: Sequence[bool] | np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Value:
    """Return a share with Wilson's interval; of no image, the reason why there is none."""
    return _share(name, np.asarray(holds, dtype=np.bool_))


def _of_both(
    labels: Labels, logits: Floats, facts: ModelFacts, weights: Counts
) -> tuple[list[Value], Floats]:
    values: list[Value] = []
    area = np.zeros(0)
    plain = {name: METRICS[name] for name in PLAIN}
    for name, (value, spread) in _measures(labels, logits, plain, weights).items():
        threshold = 0.0 if name == BALANCED else None
        values.append(_value(name, value, threshold))
        area = spread if name == AREA else area
    shifted = _measures(
        labels, logits - facts.threshold, {AT_THRESHOLD: METRICS[BALANCED]}, weights
    )
    values.append(_value(AT_THRESHOLD, shifted[AT_THRESHOLD][0], facts.threshold))
    for name, changed in (
        (UNSCALED, facts.calibration.plain(logits)),
        (SCALED, facts.calibration.scaled(logits)),
    ):
        scaled = _measures(labels, changed, {name: METRICS[CALIBRATION]}, weights)
        values.append(_value(name, scaled[name][0]))
    return values, area


def _measures(
    labels: Labels, logits: Floats, metrics: dict[str, Metric], weights: Counts
) -> dict[str, tuple[Measure, Floats]]:
    fake = labels == 1
    spread = resampled_values(list(metrics.values()), fake, logits, weights)
    made = {}
    for name, metric in metrics.items():
        resampled = spread[metric.name]
        value = metric.image_interval(float(metric.value(labels, logits)), resampled)
        if value.low == value.high and value.value in (0.0, 1.0):
            value = at_limit(value.value, int(min(_counts(labels))))
        made[name] = (value, resampled)
    return made


def _shares(
    labels: Labels, called: np.ndarray[tuple[int], np.dtype[np.bool_]], sources: Sequence[str]
) -> Iterator[Value]:
    """Yield the TPR of each generator and the TNR of each set of real images, at threshold 0."""
    names = np.array(sources)
    for label, word in ((1, "tpr"), (0, "tnr")):
        for source in sorted(set(names[labels == label].tolist())):
            chosen = (labels == label) & (names == source)
            yield _share(f"{word}:{source}", called[chosen] == (label == 1), threshold=0.0)


def _share(
    name: str,
    holds: np.ndarray[tuple[int], np.dtype[np.bool_]],
    threshold: float | None = None,
) -> Value:
    if not len(holds):
        return Value(name=name, reason="no such image")
    share = unvaried(float(holds.mean()), len(holds))
    return _value(name, share, threshold)


def _median(name: str, values: Floats) -> Value:
    if not len(values):
        return Value(name=name, reason="no such image")
    return Value(name=name, value=float(np.median(values)))


def _value(name: str, measure: Measure, threshold: float | None = None) -> Value:
    return Value(
        name=name, value=measure.value, low=measure.low, high=measure.high, threshold=threshold
    )


def _without_interval(value: Value) -> Value:
    reason = f"fewer than {LEAST} images of a class: no interval"
    return Value(name=value.name, value=value.value, threshold=value.threshold, reason=reason)


def _marked(logits: Floats, counts: tuple[int, int], area: Value) -> Marked:
    if np.ptp(logits) < 1e-9:
        return Marked("constant", "every image has the same score")
    if min(counts) < LEAST:
        return Marked("few images", f"{min(counts)} images of a class, and {LEAST} are needed")
    if area.low is not None and area.high is not None and area.low <= 0.5 <= area.high:
        return Marked("chance", "the interval of the AUC holds .5")
    return Marked("", "")


def _counts(labels: Labels) -> tuple[int, int]:
    return int(np.sum(labels == 0)), int(np.sum(labels == 1))
