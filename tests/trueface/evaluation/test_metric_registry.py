import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.metrics import accuracy_score, balanced_accuracy_score, fbeta_score, log_loss

import trueface
from tests.trueface.evaluation.tables import make_scores
from tests.trueface.intervals import interval_of
from trueface.evaluation import results
from trueface.evaluation.comparison import contrast
from trueface.evaluation.estimate import Difference, Estimate
from trueface.evaluation.intervals.resampling import values_under
from trueface.evaluation.measurement import METRICS, collect, evaluate_scores
from trueface.evaluation.metrics.confusion import ACCURACY, BALANCED_ACCURACY, F1
from trueface.evaluation.metrics.probability import LOSS
from trueface.evaluation.weighted_scores import WeightedScores
from trueface.predictions.csv_tables import write_csv
from trueface.runtime import paths
from trueface.runtime.errors import UsageError

# values and intervals of earlier versions: metrics that became objects must not change them
EARLIER = json.loads((Path(__file__).parents[2] / "data/metric_values.json").read_text())
SIZES = {"many sources": 240, "one source": 90, "few and tied": 24, "fakes": 20, "perfect": 40}


def make_table(name: str) -> tuple[NDArray[np.int8], NDArray[np.float64], tuple[str, ...]]:
    rng, count = np.random.default_rng(len(name)), SIZES[name]
    labels = (np.arange(count) % 2).astype(np.int8)
    logits: NDArray[np.float64] = rng.normal(size=count) + 1.5 * labels - 0.7
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


def equals_expected(measure: Estimate | Difference | None, expected: list[float] | None) -> bool:
    if measure is None or expected is None:
        return measure is None and expected is None
    value, *interval = expected
    if not interval:  # none is printed for so few images
        return measure.interval is None and measure.value == pytest.approx(value, rel=1e-12)
    # resamples are products of float32 matrices: processors round their sums in different orders
    return measure.value == pytest.approx(value, rel=1e-12, abs=1e-15) and interval_of(
        measure
    ) == pytest.approx(interval, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("name", SIZES)
def test_values_intervals_and_differences_equal_earlier_versions(name: str) -> None:
    labels, logits, keys = make_table(name)
    report = evaluate_scores(labels, logits, keys=keys)
    noise = np.random.default_rng(9).normal(size=len(labels))
    other = np.round(logits * 0.8 + noise, 3)
    before, after = (make_scores(keys, labels, column) for column in (logits, other))
    change = contrast(before, after)
    earlier = EARLIER[name]
    assert dict(report.reasons) == earlier["reasons"]
    for metric, expected in earlier["over sources"].items():
        if name != "many sources":  # intervals over the images of one source have other methods now
            value = report.metrics.get(metric)
            assert (None if value is None else value.value) == (
                None if expected is None else pytest.approx(expected[0], rel=1e-6, abs=1e-6)
            )
            continue
        assert equals_expected(report.metrics.get(metric), expected), metric
        assert equals_expected(report.by_images.get(metric), earlier["by images"].get(metric)), (
            metric
        )
        assert equals_expected(change.difference[metric], earlier["difference"][metric]), metric


def test_differences_between_other_images_equal_earlier_versions() -> None:
    labels, logits, keys = make_table("many sources")
    other = np.round(logits * 0.8 + np.random.default_rng(9).normal(size=len(labels)), 3)
    half = np.arange(len(labels)) < len(labels) // 2
    before = make_scores(keys, labels, logits).rows(half)
    after = make_scores(keys, labels, other).rows(~half)
    change = contrast(before, after).difference
    for metric, expected in EARLIER["many sources"]["difference of other images"].items():
        assert equals_expected(change[metric], expected), metric


def test_metrics_are_in_the_order_of_modules_then_of_source() -> None:
    assert list(METRICS) == [
        *("accuracy", "balanced_accuracy", "precision", "recall", "f1"),
        *("auc", "ap", "eer", "tpr_at_1fpr"),
        *("ece", "loss"),
    ]


def test_two_metrics_with_one_name_are_rejected_and_both_modules_are_named() -> None:
    first, second = ModuleType("metrics.first"), ModuleType("metrics.second")
    first.__dict__["ACCURACY"], second.__dict__["F1"] = ACCURACY, F1
    assert list(collect([first, second])) == ["accuracy", "f1"]
    second.__dict__["AGAIN"] = ACCURACY  # imported from where it is defined: the same metric
    assert list(collect([first, second])) == ["accuracy", "f1"]
    second.__dict__["AGAIN"] = replace(ACCURACY, title="Another")
    with pytest.raises(
        UsageError, match=r"'accuracy' is defined in metrics\.first and in metrics\.second"
    ):
        collect([first, second])


NEW_METRIC = """
from trueface.evaluation.metric import Metric

def f2(scores):
    hits = 5 * scores.true_positives
    return hits / (hits + 4 * scores.false_negatives + scores.false_positives)

F2 = Metric(
    name="f2",
    title="F2 score",
    compute=f2,
)
"""
PROGRAM = """
import json, sys
from pathlib import Path
from trueface.evaluation.results import table
from trueface.report.run_tables import SHOWN
(row,) = table(Path(sys.argv[1]), [("m", "gan2:pre")])
print(json.dumps([row["f2"], [metric.heading for metric in SHOWN]]))
"""


def test_new_file_adds_a_metric_to_cached_tables_and_to_the_report(
    tmp_path: Path,
) -> None:
    labels, logits, keys = make_table("few and tied")
    scores = make_scores(keys, labels, logits)
    write_csv(paths.scores(tmp_path / "run" / "m", "m", "gan2:pre"), scores)
    assert "f2" not in results.table(tmp_path / "run", [("m", "gan2:pre")])[0]
    tree = tmp_path / "tree" / "trueface"
    shutil.copytree(Path(trueface.__file__).parent, tree)  # with its compiled files
    (tree / "evaluation/metrics/f2.py").write_text(NEW_METRIC)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "run")],
        cwd=tree.parent,
        env={**os.environ, "PYTHONPATH": str(tree.parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    row, headings = json.loads(done.stdout)
    assert row["value"] == pytest.approx(fbeta_score(labels, logits > 0, beta=2))
    assert row["low"] < row["value"] < row["high"]
    assert headings[-2:] == ["F2 score", "ECE"]


def test_value_equals_that_of_a_resample_with_each_image_once() -> None:
    labels, logits, _ = make_table("many sources")
    scores = WeightedScores.from_logits(labels, logits)
    once = np.ones((2, len(labels)), np.uint8)
    for name, values in values_under(list(METRICS.values()), scores.table, once).items():
        assert values == pytest.approx(METRICS[name].value(scores), rel=1e-5), name


def test_detector_with_one_column_of_logits_has_the_values_of_its_margins() -> None:
    labels, logits, _ = make_table("many sources")
    columns = logits[:, None], np.column_stack([np.zeros_like(logits), logits])
    one, *others = (WeightedScores.from_logits(labels, each) for each in (logits, *columns))
    for name, metric in METRICS.items():
        for other in others:
            # the confidence of two columns is not rounded to float32
            assert metric.value(other) == pytest.approx(metric.value(one), rel=1e-6), name


def test_metrics_of_several_classes_equal_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    labels = rng.choice([0, 1, 2, 4], 80)  # class 3 has no image
    logits = (rng.normal(size=(80, 5)) + 2 * np.eye(5)[labels]).astype(np.float32)
    logits[:, 3] -= 5  # scikit-learn warns of predictions of such a class
    scores = WeightedScores.from_logits(labels, logits)
    weights = np.stack([np.ones(80, int), rng.integers(1, 4, 80)]).astype(np.uint8)
    metrics = (ACCURACY, BALANCED_ACCURACY, LOSS)
    found = values_under(metrics, scores.table, weights)
    for number, counts in enumerate(weights):
        rows = np.repeat(np.arange(80), counts)
        called, likely = logits[rows].argmax(1), softmax(logits[rows].astype(np.float64), axis=1)
        expected = {
            "accuracy": accuracy_score(labels[rows], called),
            "balanced_accuracy": balanced_accuracy_score(labels[rows], called),
            "loss": log_loss(labels[rows], likely, labels=range(5)),
        }
        assert {name: found[name][number] for name in expected} == pytest.approx(expected)
        if number == 0:
            values = {metric.name: metric.value(scores) for metric in metrics}
            assert values == pytest.approx(expected)
