import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from numpy.typing import NDArray

from trueface.evaluation.bootstrap import Measure
from trueface.evaluation.comparison import contrast
from trueface.evaluation.measurement import measure
from trueface.evaluation.metric_registry import METRICS, collect
from trueface.evaluation.metrics.confusion import ACCURACY, F1
from trueface.evaluation.score_tables import Scores

# values and intervals of earlier versions: metrics that became objects must not change them
EARLIER = json.loads((Path(__file__).parents[2] / "data/metric_values.json").read_text())
SIZES = {"many sources": 240, "one source": 90, "few and tied": 24, "fakes": 20, "perfect": 40}


def table(name: str) -> tuple[NDArray[np.int8], NDArray[np.float64], tuple[str, ...]]:
    random, count = np.random.default_rng(len(name)), SIZES[name]
    labels = (np.arange(count) % 2).astype(np.int8)
    logits: NDArray[np.float64] = random.normal(size=count) + 1.5 * labels - 0.7
    sources = np.arange(count) // 2 % 4
    match name:
        case "one source":
            sources[:] = 0
        case "few and tied":
            logits[:], sources[:] = np.round(logits), sources % 2
        case "fakes":
            labels[:] = 1
        case "perfect":
            logits[:] = (2.0 * labels - 1) * 3
    pairs = enumerate(zip(labels, sources, strict=True))
    return labels, logits, tuple(f"{label}{source}/{number}" for number, (label, source) in pairs)


def same(measure: Measure | None, expected: list[float] | None) -> bool:
    if measure is None or expected is None:
        return measure is None and expected is None
    numbers = [measure.value, measure.low, measure.high]
    return numbers == pytest.approx(expected, rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("name", SIZES)
def test_values_intervals_and_differences_are_those_of_earlier_versions(name: str) -> None:
    labels, logits, keys = table(name)
    report = measure(labels, logits, keys=keys)
    noise = np.random.default_rng(9).normal(size=len(labels))
    other = np.round(logits * 0.8 + noise, 3)
    before, after = (
        Scores(paths=keys, keys=keys, labels=labels, logits=column) for column in (logits, other)
    )
    change = contrast(before, after)
    earlier = EARLIER[name]
    assert dict(report.reasons) == earlier["reasons"]
    for metric, expected in earlier["over sources"].items():
        assert same(report.metrics.get(metric), expected), metric
        assert same(report.by_images.get(metric), earlier["by images"].get(metric)), metric
        assert same(change.difference[metric], earlier["difference"][metric]), metric


def test_differences_of_other_images_are_those_of_earlier_versions() -> None:
    labels, logits, keys = table("many sources")
    other = np.round(logits * 0.8 + np.random.default_rng(9).normal(size=len(labels)), 3)
    half = np.arange(len(labels)) < len(labels) // 2
    before = Scores(paths=keys, keys=keys, labels=labels, logits=logits).rows(half)
    after = Scores(paths=keys, keys=keys, labels=labels, logits=other).rows(~half)
    change = contrast(before, after).difference
    for metric, expected in EARLIER["many sources"]["difference of other images"].items():
        assert same(change[metric], expected), metric


def test_metrics_come_in_the_order_of_their_modules_and_then_as_they_are_written() -> None:
    assert list(METRICS) == [
        *("accuracy", "balanced_accuracy", "precision", "recall", "f1"),
        *("auc", "ap", "eer", "tpr_at_1fpr"),
        *("ece", "loss"),
    ]


def test_two_metrics_of_one_name_are_refused_and_both_modules_are_named() -> None:
    first, second = ModuleType("metrics.first"), ModuleType("metrics.second")
    first.__dict__["ACCURACY"], second.__dict__["F1"] = ACCURACY, F1
    assert list(collect([first, second])) == ["accuracy", "f1"]
    second.__dict__["AGAIN"] = ACCURACY  # imported from where it is defined: the same metric
    assert list(collect([first, second])) == ["accuracy", "f1"]
    second.__dict__["AGAIN"] = replace(ACCURACY, title="Another")
    with pytest.raises(ValueError, match=r"accuracy: in metrics\.first and in metrics\.second"):
        collect([first, second])
