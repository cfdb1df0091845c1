"""Formulas that exist in several places agree to the bit, and each equals an independent reference."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_softmax, softmax
from scipy.stats import gaussian_kde
from sklearn.metrics import brier_score_loss, roc_auc_score, roc_curve

from trueface.evaluation.calibration import probabilities
from trueface.evaluation.curves import threshold_at_fpr
from trueface.evaluation.group_rates import SortedScores, group_aucs
from trueface.evaluation.intervals.resampling import values_under
from trueface.evaluation.measurement import METRICS, roc
from trueface.evaluation.metrics.confusion import ACCURACY, BALANCED_ACCURACY
from trueface.evaluation.metrics.curve import AUC, EER, TPR_AT_1_FPR
from trueface.evaluation.metrics.probability import ECE, LOSS
from trueface.evaluation.operating_threshold import (
    PLACES,
    best_threshold,
    fit_temperature,
    most_accurate_threshold,
)
from trueface.evaluation.significance import delong
from trueface.evaluation.weighted_scores import ScoreTable, WeightedScores
from trueface.jobs.testing import numbers_of_test
from trueface.models.logits import cross_entropy
from trueface.predictions.predictions import Predictions
from trueface.training.trainer import validate_logits

Labels = NDArray[np.int64]
Logits = NDArray[np.float64]
BINS = 15


def random_table(count: int, seed: int, digits: int = 8) -> tuple[Labels, Logits]:
    """Return a table of both classes; few digits make ties."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(count) % 2)
    return labels, np.round(rng.normal(size=count) + 1.5 * labels - 0.7, digits)


def detector_table(name: str) -> tuple[Labels, Logits]:
    """Return a table of a detector: a random one or an edge case."""
    labels, logits = random_table(41, len(name))
    match name:
        case "ties":
            logits = np.round(logits)
        case "reals only":
            labels = np.zeros_like(labels)
        case "fakes only":
            labels = np.ones_like(labels)
        case "one row":
            labels, logits = labels[:1], logits[:1]
        case "all logits 0":
            logits = np.zeros_like(logits)
        case "negative zeros":
            logits = -np.zeros_like(logits)
        case "large":
            logits = logits * 1e300
        case "small":
            logits = logits * 1e-300
        case "infinite":
            logits = np.where(logits > 0, np.inf, -np.inf)
    return labels, logits


TABLES = (
    *("random", "ties", "reals only", "fakes only", "one row"),
    *("all logits 0", "negative zeros", "large", "small", "infinite"),
)


@pytest.mark.parametrize("name", TABLES)
def test_accuracies_and_losses_of_a_detector_agree_to_the_bit(name: str) -> None:
    labels, logits = detector_table(name)
    part = Predictions.from_margin(logits, labels)
    scores = WeightedScores.from_logits(labels, logits)
    validation = validate_logits(logits, labels == 1)
    with np.errstate(invalid="ignore"):  # the mean of infinite logits of both signs
        test = numbers_of_test(part)
    assert np.array_equal(scores.table.predicted_classes, part.predicted_classes)
    assert np.array_equal(scores.table.margins, part.margin)
    assert scores.table.classes == part.class_count
    accuracies = [ACCURACY.value(scores), part.accuracy("true"), validation.accuracy]
    assert {*accuracies, test["accuracy"]} == {np.mean((logits > 0) == (labels == 1))}
    balanced = BALANCED_ACCURACY.value(scores)
    assert balanced == part.balanced_accuracy("true")
    assert validation.balanced_accuracy == (balanced if len({*labels.tolist()}) == 2 else None)
    assert LOSS.value(scores) == validation.loss == test["loss"]


@pytest.mark.parametrize("classes", [2, 3, 12])
@pytest.mark.parametrize("case", ["random", "ties", "one class", "one row", "large"])
def test_accuracies_and_losses_of_several_classes_agree_to_the_bit(case: str, classes: int) -> None:
    rng = np.random.default_rng(classes)
    labels = rng.integers(0, classes, 60)
    logits = (rng.normal(size=(60, classes)) + 2 * np.eye(classes)[labels]).astype(np.float32)
    match case:
        case "ties":
            logits = np.round(logits)
        case "one class":
            labels = np.full_like(labels, classes - 1)
        case "one row":
            labels, logits = labels[:1], logits[:1]
        case "large":
            logits = logits * np.float32(1e30)
    part = Predictions(logits=logits, labels=labels, true_labels=labels)
    scores = WeightedScores.from_logits(labels, logits)
    assert np.array_equal(scores.table.predicted_classes, part.predicted_classes)
    assert np.array_equal(
        scores.table.predicted_classes, torch.from_numpy(logits).argmax(1).numpy()
    )
    assert ACCURACY.value(scores) == part.accuracy("true")
    assert BALANCED_ACCURACY.value(scores) == part.balanced_accuracy("true")
    assert np.array_equal(scores.table.losses, part.losses(labels))
    assert LOSS.value(scores) == part.loss(labels)
    validated = float(cross_entropy(torch.from_numpy(logits), torch.from_numpy(labels)))
    assert part.loss(labels) == pytest.approx(validated, rel=1e-5)  # torch computes in float32
    assert part.log_probabilities() == pytest.approx(log_softmax(logits.astype(np.float64), axis=1))


def test_loss_of_one_logit_is_that_of_its_two_classes() -> None:
    labels, logits = random_table(200, 1)
    part = Predictions.from_margin(20 * logits, labels)
    losses = ScoreTable(labels=labels, logits=20 * logits).losses
    # the softmax of 0 and z rounds losses below 1e-16 to 0, and that of one logit does not
    assert part.losses(labels) == pytest.approx(losses, rel=1e-12, abs=1e-15)


def test_probability_is_the_logistic_function() -> None:
    logits = np.array([-800.0, -40.0, -1.0, 0.0, 1.0, 40.0, 800.0])
    assert probabilities(logits) == pytest.approx(expit(logits), rel=1e-12, abs=1e-300)


@pytest.mark.parametrize("digits", [0, 1, 8])
def test_areas_of_a_metric_a_group_and_a_test_equal_scikit_learn(digits: int) -> None:
    for seed in range(5):
        labels, logits = random_table(83, seed, digits)
        fake = labels == 1
        area = AUC.value(WeightedScores.from_logits(labels, logits))
        (of_group,) = group_aucs(
            SortedScores.from_logits(fake, logits), np.zeros(len(labels), np.int64), 1
        )
        assert area == of_group
        assert area == pytest.approx(delong(labels.astype(np.int8), logits, logits).first)
        assert area == pytest.approx(roc_auc_score(labels, logits))


@pytest.mark.parametrize(("digits", "count"), [(0, 40), (1, 157), (8, 1201)])
def test_threshold_at_a_false_positive_rate_is_that_of_its_metric(digits: int, count: int) -> None:
    labels, logits = random_table(count, count, digits)
    fakes, reals = logits[labels == 1], logits[labels == 0]
    for percent in (1, 10):
        threshold = threshold_at_fpr(reals, percent)
        lowest = min(each for each in reals if 100 * sum(reals > each) <= percent * len(reals))
        assert threshold == lowest
    found = TPR_AT_1_FPR.value(WeightedScores.from_logits(labels, logits))
    assert found == np.mean(fakes > threshold_at_fpr(reals))


def equal_error_rate(labels: Labels, logits: Logits) -> float:
    """Return where the line through the error rates at rising thresholds has FPR = FNR."""
    fakes, reals = logits[labels == 1], logits[labels == 0]
    thresholds = [np.inf, *sorted({*logits.tolist()}, reverse=True)]
    rates = [(float(np.mean(reals >= at)), float(np.mean(fakes < at))) for at in thresholds]
    for (fpr, fnr), (next_fpr, next_fnr) in pairwise(rates):
        if next_fpr >= next_fnr:
            along = (fnr - fpr) / ((next_fpr - fpr) + (fnr - next_fnr))
            return fpr + along * (next_fpr - fpr)
    raise AssertionError("the last threshold calls every image fake")


def calibration_error(correct: NDArray[np.bool_], confidence: Logits, least: float) -> float:
    """Return the calibration error over 15 bins of equal width, bin by bin."""
    total, edges = 0.0, np.linspace(least, 1, BINS + 1)
    for low, high in pairwise(edges):
        inside = (confidence >= low) & ((confidence < high) | (high == 1))
        if inside.any():
            gap = abs(correct[inside].mean() - confidence[inside].mean())
            total += inside.mean() * gap
    return total


@pytest.mark.parametrize("digits", [0, 1, 8])
def test_weighted_rows_have_the_values_of_repeated_rows(digits: int) -> None:
    labels, logits = random_table(90, digits, digits)
    logits[::2] *= 4  # bins with too much and with too little confidence
    rng = np.random.default_rng(digits)
    weights = rng.integers(0, 4, (6, len(labels))).astype(np.uint8)  # rows of weight 0 are out
    table = ScoreTable(labels=labels, logits=logits)
    found = values_under(list(METRICS.values()), table, weights)
    for number, counts in enumerate(weights):
        rows = np.repeat(np.arange(len(labels)), counts)
        once = WeightedScores.from_logits(labels[rows], logits[rows])
        for name, metric in METRICS.items():
            assert found[name][number] == pytest.approx(metric.value(once), rel=1e-5), name
        expected = equal_error_rate(labels[rows], logits[rows])
        assert found["eer"][number] == pytest.approx(expected, abs=1e-12)
        assert EER.value(once) == pytest.approx(expected, abs=1e-12)
        confidence = expit(np.abs(logits[rows]))
        expected = calibration_error((logits[rows] > 0) == labels[rows], confidence, 0.5)
        assert found["ece"][number] == pytest.approx(expected, abs=1e-6)


def test_resample_without_a_class_has_no_value_where_a_metric_needs_it() -> None:
    labels, logits = random_table(20, 0)
    weights = np.stack([labels == 0, labels == 1, labels >= 0]).astype(np.uint8)
    table = ScoreTable(labels=labels, logits=logits)
    found = values_under(list(METRICS.values()), table, weights)
    assert np.isfinite([values[2] for values in found.values()]).all()
    assert np.isnan(found["auc"][:2]).all()
    assert np.isnan(found["recall"][0])
    for number, rows in enumerate((labels == 0, labels == 1)):
        assert found["accuracy"][number] == np.mean((logits > 0)[rows] == labels[rows])


@pytest.mark.parametrize("classes", [2, 3, 12])
def test_calibration_error_of_several_classes_equals_a_loop_over_bins(classes: int) -> None:
    rng = np.random.default_rng(classes)
    labels = rng.integers(0, classes, 300)
    logits = rng.normal(size=(300, classes)) + 2 * np.eye(classes)[labels]
    logits[::2] *= 4  # bins with too much and with too little confidence
    likely = softmax(logits, axis=1)
    correct = likely.argmax(1) == labels
    expected = calibration_error(correct, likely.max(1), 0.5 if classes == 2 else 0.0)
    assert ECE.value(WeightedScores.from_logits(labels, logits)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("seed", "expected"),
    [(5, 0.08234918460087026), (11, 0.016387540983330208), (23, 0.05807070407405585)],
)
def test_calibration_error_of_weak_predictions_keeps_the_bits_of_earlier_versions(
    seed: int, expected: float
) -> None:
    rng = np.random.default_rng(seed)
    logits = (rng.normal(size=(200, 10)) * 0.3).astype(np.float32)  # fewer than 8 bins are used
    labels = rng.integers(0, 10, 200)
    assert ECE.value(WeightedScores.from_logits(labels, logits)) == expected


@pytest.mark.parametrize("digits", [0, 1, 8])
def test_curve_equals_scikit_learn(digits: int) -> None:
    labels, logits = random_table(120, digits, digits)
    found, expected = roc(labels.astype(np.int8), logits), roc_curve(labels, logits)
    for column, other in zip(found, expected, strict=True):
        assert column == pytest.approx(other)


@pytest.mark.parametrize(("digits", "count"), [(0, 30), (1, 50), (8, 50), (8, 1)])
def test_most_accurate_threshold_is_the_best_of_all(digits: int, count: int) -> None:
    for seed in range(10):
        labels, logits = random_table(count, seed, digits)
        fake, distinct = labels == 1, np.unique(logits)
        between = [distinct[0] - 0.5, *(distinct[1:] + distinct[:-1]) / 2, distinct[-1] + 0.5]
        right = [int(np.sum((logits > at) == fake)) for at in between]
        best = [at for at, count in zip(between, right, strict=True) if count == max(right)]
        assert most_accurate_threshold(fake, logits) == pytest.approx(min(best, key=abs))


@pytest.mark.parametrize("seed", range(3))
def test_threshold_is_the_best_one_of_a_kernel_density_estimate(seed: int) -> None:
    labels, logits = random_table(150, seed)
    places = np.unique(np.quantile(logits, np.linspace(0, 1, PLACES)))
    below = []
    for label in (0, 1):
        own = logits[labels == label]
        quarter, three = np.percentile(own, (25, 75))
        width = 1.06 * min(own.std(), (three - quarter) / 1.34) * len(own) ** -0.2
        density = gaussian_kde(own, bw_method=width / own.std(ddof=1))
        below.append(np.array([density.integrate_box_1d(-np.inf, at) for at in places]))
    merit = below[0] - below[1]
    chosen = int(np.argmin(np.abs(places - best_threshold(labels, logits))))
    assert merit[chosen] == pytest.approx(merit.max(), abs=1e-6)


@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
def test_temperature_minimizes_the_cross_entropy_with_smoothed_targets(scale: float) -> None:
    labels, logits = random_table(300, 2)
    labels, logits = labels[logits < 1], scale * logits[logits < 1]  # classes of different sizes
    sizes = np.bincount(labels)
    assert sizes[0] != sizes[1]

    def loss(temperature: float) -> float:
        fake = expit(logits / temperature)
        total = 0.0
        for label, count in enumerate(sizes):
            target = (count + 1) / (count + 2) if label else 1 / (count + 2)
            own = fake[labels == label]
            total -= np.mean(target * np.log(own) + (1 - target) * np.log(1 - own))
        return float(total)

    best = minimize_scalar(
        loss, bounds=(scale / 20, scale * 20), method="bounded", options={"xatol": 1e-9}
    )
    assert fit_temperature(labels, logits) == pytest.approx(best.x, rel=1e-3)


def test_mean_of_a_value_per_image_equals_the_weighted_sums_and_scikit_learn() -> None:
    labels, logits = random_table(60, 5)
    table = ScoreTable(labels=labels, logits=logits)
    rng = np.random.default_rng(6)
    weights = rng.multinomial(60, np.full(60, 1 / 60), size=7).astype(np.uint32)
    scale = rng.uniform(0.5, 2, size=(7, 2))
    for scores in (
        WeightedScores(table=table),
        WeightedScores(table=table, weights=weights),
        WeightedScores(table=table, weights=weights, scale=scale),
    ):
        accuracy = scores.hits.sum(1) / scores.images
        assert scores.mean(table.correct.astype(float)) == pytest.approx(accuracy, rel=1e-12)
        assert scores.mean(table.losses) == pytest.approx(scores.loss / scores.images, rel=1e-5)
    brier = WeightedScores(table=table).mean((probabilities(logits) - labels) ** 2)
    assert brier == pytest.approx([brier_score_loss(labels, expit(logits))], rel=1e-12)


def test_mean_of_one_class_has_the_scale_of_its_images() -> None:
    labels, logits = np.ones(4, np.int64), np.array([1.0, -1.0, 2.0, 3.0])
    table = ScoreTable(labels=labels, logits=logits)
    scores = WeightedScores(
        table=table, weights=np.array([[1, 2, 0, 1]], np.uint32), scale=np.array([[3.0]])
    )
    assert scores.mean(logits) == pytest.approx([(1 - 2 + 3) / 4])
