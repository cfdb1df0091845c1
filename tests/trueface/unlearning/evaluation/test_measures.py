"""Measures of predictions: known values, and rejected inputs."""

import math

import numpy as np
import pytest

from tests.trueface.unlearning.unlearned_runs import (
    class_predictions,
    flip_predictions,
    make_predictions,
)
from trueface.evaluation import measurement
from trueface.evaluation.metrics.curve import AUC, EER
from trueface.evaluation.metrics.probability import ECE, LOSS
from trueface.evaluation.weighted_scores import WeightedScores
from trueface.predictions.predictions import Predictions
from trueface.runtime.errors import DataError
from trueface.unlearning.evaluation.measures import (
    UndefinedMetric,
    accuracy_at_val_threshold,
    accuracy_with_ci,
    align_samples,
    compare_with_retrained,
    compute_metrics,
    distance,
    divergence,
    recovery,
    single_model_metrics,
    tug_of_war,
    unlearning_score,
)
from trueface.unlearning.evaluation.published_figures import CIFAR_10
from trueface.unlearning.registry import Goal


def trained_scores(part: Predictions) -> WeightedScores:
    return WeightedScores.from_logits(part.labels, part.logits)


def test_copy_of_published_figures_agrees_with_their_scores() -> None:
    assert len(CIFAR_10) == 36
    assert all(
        unlearning_score(one.test_retain, one.test_forget) == pytest.approx(one.us, abs=1e-4)
        for one in CIFAR_10
    )


def test_tug_of_war_with_an_equal_model_is_one() -> None:
    assert tug_of_war(0, 0, 0) == 1
    assert tug_of_war(0.5, 0, 0) == 0.5


def test_equal_model_has_no_gap_to_its_retrained_model() -> None:
    parts = flip_predictions(8)
    one = single_model_metrics(parts, goal="flips")
    comparison = compare_with_retrained(parts, parts, measures=one, reference_measures=one)
    assert comparison.values["tow"] == 1
    assert comparison.values["gap_test"] == 0
    for name in ("kl_forget", "kl_test", "distance_forget", "distance_test"):
        assert comparison.values[name] == pytest.approx(0, abs=1e-12)
    assert "mia" in comparison.reasons["gap"]  # membership was not measured


def test_flips_are_measured_against_both_labels() -> None:
    found = single_model_metrics(flip_predictions(8, follows=10), goal="flips").values
    assert found["forget"] == 10 / 40
    assert found["forget_true"] == 30 / 40
    assert found["retain"] == 1
    assert found["val"] == 78 / 80
    assert found["test"] == 72 / 80
    assert 0.5 < found["auc"] <= 1


def test_forgotten_class_divides_the_test() -> None:
    found = single_model_metrics(
        class_predictions(10, wrong=8), goal="class", forgotten_classes=(2,)
    )
    assert found.values["test_retain"] == 72 / 80
    assert found.values["test_forget"] == 10 / 40
    assert found.values["us"] == pytest.approx(unlearning_score(90, 25))
    assert "two classes" in found.reasons["auc"]


def test_missing_test_has_a_reason_and_calibration_uses_validation() -> None:
    parts = flip_predictions(8)
    del parts["test"]
    found = single_model_metrics(parts, goal="flips")
    assert found.reasons["test"] == "there is no test set"
    assert found.values["ece"] == ECE.value(trained_scores(parts["validation"]))


def test_unknown_true_labels_give_a_reason() -> None:
    parts = class_predictions(0)
    assert single_model_metrics(parts, goal="class", forgotten_classes=(2,)).reasons[
        "forget_true"
    ] == ("the true labels are unknown")


def test_two_classes_are_measured_as_detectors_are() -> None:
    part = flip_predictions(8)["test"]
    margin = (part.logits[:, 1] - part.logits[:, 0]).astype(np.float64)
    labels = part.labels.astype(np.int8)
    report = measurement.evaluate_scores(labels, margin, keys=part.ids)
    assert report.metrics.get("auc") is not None
    assert report.metrics.get("eer") is not None
    scores = trained_scores(part)
    for metric in (AUC, EER, LOSS):
        assert metric.value(scores) == pytest.approx(report.metrics[metric.name].value), metric.name
    assert ECE.value(scores) == pytest.approx(report.metrics["ece"].value, abs=1e-6)
    assert part.loss(part.labels) == pytest.approx(report.metrics["loss"].value)


def test_confident_and_wrong_model_is_not_calibrated() -> None:
    part = make_predictions([0, 1, 2] * 10, [1, 2, 0] * 10, classes=3, sure=30)
    assert ECE.value(trained_scores(part)) == pytest.approx(1)


def test_large_logits_have_finite_probabilities() -> None:
    part = make_predictions([0, 1], [1, 0], sure=1e4)
    assert np.isfinite(part.log_probabilities()).all()
    assert part.loss(part.labels) == pytest.approx(1e4)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_non_finite_predictions_are_rejected(value: float) -> None:
    parts = flip_predictions(8)
    parts["test"].logits[3, 0] = value
    with pytest.raises(DataError, match="1 of 80 predictions on test are not finite"):
        single_model_metrics(parts, goal="flips")


def test_non_finite_measure_is_left_out() -> None:
    found = compute_metrics({"odd": lambda: math.nan})
    assert found.values == {}
    assert found.reasons == {"odd": "the value is nan"}
    assert found.get("odd") is None


def test_later_measures_take_precedence() -> None:
    first, second = compute_metrics({"a": lambda: 1.0}), compute_metrics({"a": lambda: 2.0})
    assert (first | second).values == {"a": 2.0}


def test_divergence_and_distance_have_known_values() -> None:
    even, sure = np.log([[0.5, 0.5]]), np.log([[0.9, 0.1]])
    expected = 0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1)
    assert divergence(sure, even) == pytest.approx(expected)
    assert distance(sure, even) == pytest.approx(math.sqrt(2) * 0.4)


def test_predictions_are_matched_by_name() -> None:
    first = make_predictions([0, 1, 1], [0, 1, 0], ids=("a", "b", "c"))
    second = make_predictions([1, 0, 1], [1, 0, 1], ids=("b", "a", "c"))
    assert align_samples(first, second).logits.argmax(1).tolist() == [0, 1, 1]
    with pytest.raises(UndefinedMetric, match="other samples"):
        align_samples(first, make_predictions([1, 0, 1], [1, 0, 1], ids=("b", "a", "d")))
    with pytest.raises(UndefinedMetric, match="other samples"):
        align_samples(make_predictions([0, 1], [0, 1]), make_predictions([0, 0], [0, 1]))
    with pytest.raises(UndefinedMetric, match="other classes"):
        align_samples(make_predictions([0, 1], [0, 1]), make_predictions([0, 1], [0, 1], classes=3))


def test_recovery_is_the_fraction_of_damage_undone() -> None:
    poisoned, ours, clean = (
        flip_predictions(24)["test"],
        flip_predictions(12)["test"],
        flip_predictions(4)["test"],
    )
    found = recovery(ours, poisoned, clean)
    assert found.value == pytest.approx(12 / 20)
    assert found.contains(found.value)
    assert found.half_width > 0
    assert recovery(poisoned, poisoned, clean).value == 0
    assert recovery(clean, poisoned, clean).value == 1


def test_recovery_is_undefined_without_damage() -> None:
    same = flip_predictions(4)["test"]
    with pytest.raises(UndefinedMetric, match="recovery needs at least"):
        recovery(same, same, same)
    with pytest.raises(UndefinedMetric, match="recovery needs at least"):
        recovery(same, same, flip_predictions(8)["test"])  # the clean model is the worse one


def test_shifted_threshold_is_not_damage_once_it_is_tuned() -> None:
    parts = flip_predictions(8)
    shifted = {name: flip_predictions(8)[name] for name in ("test", "validation")}
    for part in shifted.values():
        part.logits[:, 1] += 10  # all are called class 1
    assert single_model_metrics(flip_predictions(8) | shifted, goal="flips").values["test"] == 0.5
    plain = accuracy_at_val_threshold(parts["test"], parts["validation"])
    assert accuracy_at_val_threshold(shifted["test"], shifted["validation"]) == pytest.approx(plain)
    assert plain > 0.85


def test_threshold_is_between_scores_and_never_splits_equal_ones() -> None:
    validation = make_predictions([0, 1, 1], [0, 0, 1])  # two answers alike, of both classes
    assert accuracy_at_val_threshold(validation, validation) == 2 / 3
    with pytest.raises(UndefinedMetric, match="two classes"):
        accuracy_at_val_threshold(make_predictions([0], [0], classes=3), validation)


def test_accuracy_has_an_interval() -> None:
    found = accuracy_with_ci(flip_predictions(8)["test"])
    assert found.value == 0.9
    low, high = found.interval or (0, 0)
    assert 0.8 < low < 0.9 < high < 1
    values = single_model_metrics(flip_predictions(8), goal="flips").values
    assert (values["test_low"], values["test_high"]) == found.interval


def test_copies_of_an_image_in_several_networks_do_not_narrow_an_interval() -> None:
    truth = [n % 2 for n in range(60)]
    wrong = [1 - label if n % 7 == 0 else label for n, label in enumerate(truth)]
    keys = [f"{'FFHQ' if label == 0 else 'StyleGAN2/psi'}/{n}" for n, label in enumerate(truth)]
    once = accuracy_with_ci(make_predictions(truth, wrong, ids=tuple(f"pre:{key}" for key in keys)))
    copies = tuple(f"{modifier}:{key}" for modifier in ("pre", "fb", "tl", "tw") for key in keys)
    four = accuracy_with_ci(make_predictions(truth * 4, wrong * 4, ids=copies))
    assert four.value == once.value
    assert four.half_width == pytest.approx(once.half_width, rel=0.15)


def test_sources_with_equal_accuracy_keep_the_uncertainty_of_their_images() -> None:
    truth = [n // 60 for n in range(120)]
    keys = tuple(f"{n // 20}/{n}" for n in range(120))

    def asked(wrong: int) -> Predictions:
        """Return predictions with `wrong` of 20 wrong in each source."""
        calls = [1 - label if n % 20 < wrong else label for n, label in enumerate(truth)]
        return make_predictions(truth, calls, true=truth, ids=keys)

    found = accuracy_with_ci(asked(2))
    assert found.value == pytest.approx(0.9)
    low, high = found.interval or (0, 0)
    assert 0.8 < low < 0.87 < 0.93 < high < 0.97
    undone = recovery(asked(4), asked(8), asked(1))
    low, high = undone.interval or (0, 0)
    assert low + 0.1 < undone.value < high - 0.1


def test_interval_of_three_sources_uses_three_units() -> None:
    truth = [0] * 300 + [1] * 300
    # all in one source
    wrong = [1 - label if n % 300 < 40 else label for n, label in enumerate(truth)]
    keys = tuple(f"pre:{label}/{n % 300 // 100}/{n}" for n, label in enumerate(truth))
    apart = accuracy_with_ci(make_predictions(truth, wrong, ids=keys))
    alike = accuracy_with_ci(
        make_predictions(truth, wrong, ids=tuple(f"pre:{n}" for n in range(600)))
    )
    assert apart.half_width > 4 * alike.half_width


def random_predictions(classes: int) -> dict[str, Predictions]:
    """Return predictions that are right more often than not, with two logits for two classes."""
    rng = np.random.default_rng(classes)
    parts = {}
    for name, count in (("forget", 40), ("retain", 90), ("validation", 60), ("test", 120)):
        true = rng.integers(0, classes, count)
        logits = rng.normal(size=(count, classes)) + 2 * np.eye(classes)[true]
        parts[name] = Predictions(
            logits=logits.astype(np.float32),
            labels=true,
            true_labels=true,
            ids=tuple(f"pre:{n % 4}/{n}" for n in range(count)),
        )
    return parts


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (2, {
            "test": 0.8916666666666667, "test_low": 0.8300326698056243, "test_high": 0.9327612864472965,
            "test_tuned": 0.8916666666666667, "auc": 0.9660734149054505, "eer": 0.10344827586206896,
            "ece": 0.10656289495439246, "loss": 0.27219084224660967,
        }),
        (3, {
            "test_retain": 0.9375, "test_retain_low": 0.708920553270993,
            "test_retain_high": 0.9892915208440819, "ece": 0.20109877077656685, "loss": 0.3728886121999513,
        }),
        (12, {
            "test_retain": 0.6545454545454545, "test_retain_low": 0.5453575705202832,
            "test_retain_high": 0.7495529586094191, "ece": 0.2764704645549292, "loss": 1.28278298490847,
        }),
    ],
)  # fmt: skip
def test_measures_of_random_predictions_equal_earlier_versions(
    classes: int, expected: dict[str, float]
) -> None:
    goal: Goal = "flips" if classes == 2 else "class"
    found = single_model_metrics(
        random_predictions(classes), goal=goal, forgotten_classes=(1,)
    ).values
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-9)
