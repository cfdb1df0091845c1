import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from benchmarks.coverage import SHOWN, Setting, coverage
from trueface.evaluation.intervals import Scale, design, ends, standard_error
from trueface.evaluation.measurement import measure


def of(counts: tuple[int, ...], label: int = 0) -> tuple[list[str], np.ndarray]:
    keys = [f"{label}{s}/{n}" for s, count in enumerate(counts) for n in range(count)]
    return keys, np.full(len(keys), label)


@pytest.mark.parametrize("spread", [pytest.param(0.0, marks=pytest.mark.night), 0.06])
def test_three_sources_hold_the_truth_as_often_as_they_say(spread: float) -> None:
    found = coverage(Setting(real=(100,) * 3, fake=(100,) * 3, spread=spread), 150, seed=1)
    for name in SHOWN:
        assert found[name] >= 90, name
    assert found["accuracy"] < 99.5


def test_the_error_of_a_mean_is_that_of_the_means_of_its_sources() -> None:
    keys, labels = of((40, 40, 40))
    values = np.random.default_rng(0).random((120, 1)).astype(np.float32)
    made = design(keys, labels, 0)
    error = standard_error(made, made.means(values)[:, 0])
    means = values.reshape(3, 40).mean(1)
    assert error.error == pytest.approx(stats.sem(means), rel=1e-4)
    assert error.freedom == pytest.approx(2)
    assert error.half == pytest.approx(stats.t.ppf(0.975, 2) * stats.sem(means), rel=1e-4)


def test_a_source_of_most_images_leaves_less_than_one_degree_a_source() -> None:
    keys, labels = of((1000, 100, 100))
    made = design(keys, labels, 0)
    values = np.random.default_rng(0).random((1200, 1)).astype(np.float32)
    assert 1 <= standard_error(made, made.means(values)[:, 0]).freedom < 1.5


def test_a_large_class_outvotes_the_other_in_an_accuracy_and_not_in_an_area() -> None:
    (keys, reals), (others, fakes) = of((150,) * 3), of((10,) * 3, 1)
    labels = np.concatenate([reals, fakes])
    logits = np.random.default_rng(0).normal(size=len(labels)) + 2 * labels - 1
    report = measure(labels, logits, keys=[*keys, *others])
    made, right = design([*keys, *others], labels, 0), (logits > 0) == (labels == 1)
    areas = [roc_auc_score(labels[row > 0], logits[row > 0]) for row in made.weights]
    accuracies = made.means(right[:, None].astype(np.float32))[:, 0]
    for name, left, even in (("auc", np.array(areas), True), ("accuracy", accuracies, False)):
        found = report.metrics[name]
        wanted, other = (
            ends(found.value, standard_error(made, left, even=each).half, Scale.SHARE)
            for each in (even, not even)
        )
        assert (found.low, found.high) == pytest.approx(wanted, abs=1e-4), name
        assert wanted != pytest.approx(other, abs=1e-3), name


def test_of_one_source_the_interval_is_of_its_images_and_says_so() -> None:
    labels = np.repeat(np.array([0, 1], np.int8), 200)
    logits = np.random.default_rng(0).normal(size=400) + 2 * labels - 1
    keys = [f"{label}/{n}" for n, label in enumerate(labels)]
    report = measure(labels, logits, keys=keys)
    assert report.sources == {0: 1, 1: 1}
    assert report.metrics.get("auc") == report.by_images["auc"]
    width = report.metrics["accuracy"].high - report.metrics["accuracy"].low
    p = report.metrics["accuracy"].value
    assert width == pytest.approx(2 * 1.96 * math.sqrt(p * (1 - p) / 400), rel=0.1)


def test_more_images_of_the_same_three_sources_do_not_narrow_an_interval() -> None:
    widths = []
    for count in (100, 800):
        shift = np.array([-0.6, 0.0, 0.7])[np.arange(3 * count) % 3]
        random = np.random.default_rng(0)
        labels = np.repeat(np.array([0, 1], np.int8), 3 * count)
        logits = np.concatenate([shift - 1, shift + 1]) + random.normal(size=6 * count)
        keys = [f"{n // (3 * count)}{n % 3}/{n}" for n in range(6 * count)]
        auc = measure(labels, logits, keys=keys).metrics.get("auc")
        assert auc is not None
        widths.append(auc.high - auc.low)
    assert widths[1] > 0.8 * widths[0] > 0.1


@pytest.mark.parametrize("value", [0.001, 0.5, 0.999])
@pytest.mark.parametrize("half", [0.01, 0.6, 1e6])
def test_an_interval_stays_within_the_limits_of_its_measure(value: float, half: float) -> None:
    low, high = ends(value, half, Scale.SHARE)
    assert 0 <= low <= value <= high <= 1
    low, high = ends(2 * value - 1, half, Scale.SHIFT)
    assert -1 <= low <= 2 * value - 1 <= high <= 1
    low, high = ends(value, half, Scale.LOSS)
    assert 0 <= low <= value <= high


@pytest.mark.parametrize("counts", [(1, 2501), (1,) * 30])
def test_an_equal_error_rate_is_no_surer_than_its_images(counts: tuple[int, ...]) -> None:
    (keys, reals), (others, fakes) = of(counts), of(counts, 1)
    labels = np.concatenate([reals, fakes])
    logits = np.random.default_rng(0).normal(size=len(labels)) + 2 * labels - 1
    report = measure(labels, logits, keys=keys + others)
    found = report.metrics.get("eer")
    assert found is not None
    assert found.low <= report.by_images["eer"].low < found.value
    assert found.high >= report.by_images["eer"].high > found.value


def test_hundreds_of_sources_are_left_out_in_groups() -> None:
    keys, labels = of((2,) * 300)
    made = design(keys, labels, 0)
    assert made.sources == {0: 300}
    assert len(made.weights) == 51
