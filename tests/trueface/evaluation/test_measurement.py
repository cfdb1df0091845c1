import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    f1_score,
    log_loss,
    precision_score,
    recall_score,
    roc_auc_score,
    roc_curve,
)

from tests.trueface.intervals import interval_of
from trueface.evaluation.estimates import RESAMPLES, SourcedScores
from trueface.evaluation.intervals.jackknife import jackknife_design, standard_error
from trueface.evaluation.intervals.resampling import resamples, values_under
from trueface.evaluation.measurement import (
    METRICS,
    evaluate_scores,
    roc,
    subset_masks,
    undefined_metrics,
)
from trueface.evaluation.metrics.probability import ECE
from trueface.evaluation.operating_threshold import Calibration
from trueface.evaluation.weighted_scores import ScoreTable, WeightedScores
from trueface.jobs.testing import numbers_of_test
from trueface.predictions.predictions import Predictions
from trueface.runtime.errors import DataError
from trueface.training.trainer import validate_logits

Labels = NDArray[np.int8]
Logits = NDArray[np.float64]


def draw_scores(count: int, shift: float, seed: int = 0) -> tuple[Labels, Logits, list[str]]:
    rng = np.random.default_rng(seed)
    labels = (np.arange(count) % 2).astype(np.int8)
    return labels, rng.normal(size=count) + shift * labels, [str(n) for n in range(count)]


def calibration_error(labels: Labels, logits: Logits) -> float:
    return ECE.value(WeightedScores.from_logits(labels, logits))


def test_values_of_a_small_table_equal_a_manual_count() -> None:
    labels = np.array([0, 0, 0, 1, 1], np.int8)
    logits = np.array([-1.0, -2.0, 1.0, 3.0, 0.0])  # exactly 0 counts as real
    report = evaluate_scores(labels, logits, keys=list("abcde"))
    assert report.confusion == ((2, 1), (1, 1))
    assert report.metrics["accuracy"].value == pytest.approx(3 / 5)
    assert report.metrics["balanced_accuracy"].value == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert report.metrics["auc"].value == pytest.approx(5 / 6)


def test_calibration_is_perfect_if_confidence_equals_accuracy() -> None:
    logit = np.log(0.8 / 0.2)
    right = np.array([1] * 80 + [0] * 20, np.int8)
    assert calibration_error(right, np.full(100, logit)) == pytest.approx(0, abs=1e-6)
    assert calibration_error(right, np.full(100, 20.0)) == pytest.approx(0.2, abs=1e-6)


def test_copies_of_an_image_do_not_narrow_an_interval() -> None:
    labels, logits, keys = draw_scores(100, 0.5)
    once = evaluate_scores(labels, logits, keys=keys).metrics["auc"]
    thrice = evaluate_scores(np.tile(labels, 3), np.tile(logits, 3), keys=keys * 3).metrics["auc"]
    apart = evaluate_scores(
        np.tile(labels, 3), np.tile(logits, 3), keys=[str(n) for n in range(300)]
    ).metrics["auc"]
    assert thrice.half_width == pytest.approx(once.half_width, rel=0.15)
    assert apart.half_width < 0.7 * once.half_width


@pytest.mark.parametrize(
    ("shift", "offset", "verdict"),
    [
        (0.0, 0.0, "chance"),
        (6.0, -3.0, ""),
        (-3.0, 0.0, "below chance"),
        (3.0, 50.0, "constant"),
        (0.0, 50.0, "constant, chance"),
        (-3.0, 50.0, "constant, below chance"),
    ],
)
def test_verdict_names_what_a_number_hides(shift: float, offset: float, verdict: str) -> None:
    labels, logits, keys = draw_scores(300, shift, seed=3)
    assert evaluate_scores(labels, logits + offset, keys=keys).verdict == verdict


def test_source_with_one_image_is_harmless() -> None:
    labels = np.array([0, 0, 0, 1, 1], np.int8)
    keys = ["a/1", "a/2", "b/1", "c/1", "d/1"]
    auc = evaluate_scores(labels, np.array([0.0, 1.0, 0.5, 2.0, 3.0]), keys=keys).metrics["auc"]
    assert auc.interval is not None
    assert 0 < auc.interval.low < 1
    assert auc.interval.high == 1.0


def test_rate_of_0_or_1_over_few_images_has_a_wide_interval() -> None:
    labels, logits, keys = draw_scores(200, 50.0)
    report = evaluate_scores(labels, logits - 25, keys=keys)
    assert report.metrics["accuracy"].value == interval_of(report.metrics["accuracy"]).high == 1
    assert interval_of(report.metrics["accuracy"]).low == pytest.approx(
        0.025 ** (1 / 200)
    )  # no error on 200 images
    assert report.metrics["recall"].value == 1
    assert interval_of(report.metrics["recall"]).low == pytest.approx(0.025 ** (1 / 100))


@pytest.mark.parametrize("count", [40, 400])
def test_intervals_of_an_always_wrong_model_contain_its_values(count: int) -> None:
    labels = (np.arange(count) % 2).astype(np.int8)
    logits = np.where(labels == 1, -2.0, 2.0) + np.random.default_rng(0).normal(0, 0.1, count)
    report = evaluate_scores(
        labels, logits, keys=[f"{label}/{n}" for n, label in enumerate(labels)]
    )
    for name, found in report.by_images.items():
        assert found.why or found.contains(found.value), name


def test_few_sources_widen_the_auc_interval_of_a_good_model_without_calling_it_chance() -> None:
    labels, logits, _ = draw_scores(2000, 1.0)
    sources = np.arange(2000) % 4 // 2  # two folders a class
    logits += np.where((sources == 1) & (labels == 1), 1.5, 0.0)
    keys = [f"{label}{s}/{n}" for n, (label, s) in enumerate(zip(labels, sources, strict=True))]
    report = evaluate_scores(labels, logits, keys=keys)
    assert report.sources == {0: 2, 1: 2}
    assert report.metrics["auc"].contains(0.5)
    assert report.by_images["auc"].excludes(0.5)
    assert report.verdict == ""


def test_calibration_bins_cover_confidences_from_one_half_to_one() -> None:
    # confidences .51 and .55: one bin of 15 between 0 and 1, two of 15 between .5 and 1
    logits = np.log(np.array([0.51, 0.55]) / np.array([0.49, 0.45]))
    error = calibration_error(np.array([1, 0], np.int8), logits)
    assert error == pytest.approx((0.49 + 0.55) / 2)


def draw_tied_scores(count: int = 60, seed: int = 0) -> tuple[Labels, Logits, list[str]]:
    labels, logits, _ = draw_scores(count, 1.0, seed)
    return labels, np.round(logits - 0.5, 1), [f"s{n % 4}/{n}" for n in range(count)]


def test_measures_of_two_classes_equal_scikit_learn() -> None:
    labels, logits, keys = draw_tied_scores(400)
    report = evaluate_scores(labels, logits, keys=keys)
    assert report == evaluate_scores(labels, logits, keys=keys)
    called = logits > 0
    expected = {
        "precision": precision_score(labels, called),
        "recall": recall_score(labels, called),
        "f1": f1_score(labels, called),
        "auc": roc_auc_score(labels, logits),
        "ap": average_precision_score(labels, logits),
        "loss": log_loss(labels, 1 / (1 + np.exp(-logits))),
    }
    assert {name: report.metrics[name].value for name in expected} == pytest.approx(expected)
    for shift in (0.5, 2.0, 8.0):
        labels, logits, keys = draw_scores(120, shift)
        for value in evaluate_scores(labels, logits - shift / 2, keys=keys).metrics.values():
            assert value.why or value.contains(value.value)


def confident_scores(size: float = 100.0) -> tuple[Labels, Logits, list[str]]:
    """Return a table of logits 5 on the right side, with one of each class on the wrong side."""
    labels = np.repeat(np.array([0, 1], np.int8), 20)
    logits = np.where(labels == 1, 5.0, -5.0)
    logits[[19, 39]] = [size, -size]
    return labels, logits, [f"{'fake' if label else 'real'}/{n}" for n, label in enumerate(labels)]


def test_loss_is_the_mean_over_images_for_losses_of_any_size() -> None:
    labels, logits, keys = confident_scores()
    expected = (38 * math.log1p(math.exp(-5)) + 2 * 100) / 40
    loss = evaluate_scores(labels, logits, keys=keys).metrics["loss"]
    assert loss.value == pytest.approx(expected, rel=1e-12)
    assert loss.why == "20 of 100 reals"


def test_every_loss_of_the_same_logits_is_equal() -> None:
    labels, logits, keys = confident_scores()
    fake = labels == 1
    calibration = Calibration()
    of_wide = Predictions(
        logits=np.column_stack([np.zeros(40), logits]).astype(np.float32),
        labels=labels.astype(np.int64),
        true_labels=labels.astype(np.int64),
    )
    losses = {
        "table": evaluate_scores(labels, logits, keys=keys).metrics["loss"].value,
        "resamples": values_under(
            [METRICS["loss"]], ScoreTable(labels=labels, logits=logits), np.ones((1, 40), np.uint8)
        )["loss"][0],
        "validation": validate_logits(logits, fake).loss,
        "test": numbers_of_test(Predictions.from_margin(logits, labels), calibration)["loss"],
        "unlearning": of_wide.loss(of_wide.labels),
    }
    assert losses == pytest.approx(dict.fromkeys(losses, losses["table"]), rel=1e-6)


def test_equal_error_rate_is_interpolated_between_two_points_of_the_curve() -> None:
    # descending: fake, real, fake, fake, real, real, real, fake; the line from FPR 1/4, TPR 3/4
    # is met where both error rates are 1/4
    labels = np.array([1, 0, 1, 1, 0, 0, 0, 1], np.int8)
    report = evaluate_scores(labels, -np.arange(8.0), keys=list("abcdefgh"))
    assert report.metrics["eer"].value == pytest.approx(1 / 4)
    # two reals against one fake between them: FPR jumps from 1/2 to 1/2 while TPR goes 0 to 1
    between = evaluate_scores(
        np.array([0, 1, 0], np.int8), np.array([3.0, 2.0, 1.0]), keys=list("abc")
    )
    assert between.metrics["eer"].value == pytest.approx(1 / 2)
    # one tie of all is the diagonal, which meets FPR = 1 - TPR in the middle
    alike = evaluate_scores(np.array([0, 1, 1], np.int8), np.ones(3), keys=list("abc"))
    assert alike.metrics["eer"].value == pytest.approx(1 / 2)


def test_resample_equals_scikit_learn_on_its_repeated_rows() -> None:
    labels, logits, keys = draw_tied_scores()
    weights = resamples(keys, labels, 0)
    assert weights.shape == (RESAMPLES, len(labels))
    table = SourcedScores(labels=labels, logits=logits, keys=keys)
    spread = table.resample_metrics(list(METRICS.values()))
    for number in range(0, RESAMPLES, 97):
        rows = np.repeat(np.arange(len(labels)), weights[number])
        one, called = labels[rows], logits[rows] > 0
        fpr, tpr, _ = roc_curve(one, logits[rows], drop_intermediate=False)
        expected = {
            "accuracy": accuracy_score(one, called),
            "balanced_accuracy": balanced_accuracy_score(one, called),
            "precision": precision_score(one, called),
            "recall": recall_score(one, called),
            "f1": f1_score(one, called),
            "auc": roc_auc_score(one, logits[rows]),
            "ap": average_precision_score(one, logits[rows]),
            "tpr_at_1fpr": tpr[fpr <= 0.01].max(),
            "ece": calibration_error(one, logits[rows]),
            "loss": log_loss(one, 1 / (1 + np.exp(-logits[rows]))),
        }
        found = {name: spread[name][number] for name in expected}
        assert found == pytest.approx(expected, abs=1e-6)


def test_only_requested_measures_have_reasons() -> None:
    table = SourcedScores(labels=np.zeros(3, np.int8), logits=-np.ones(3), keys=list("abc"))
    every = undefined_metrics(table)
    assert {"auc", "recall"} <= every.keys()
    assert undefined_metrics(table, {"auc", "accuracy"}) == {"auc": every["auc"]}


def test_table_is_divided_by_folder_and_by_modifier() -> None:
    rows = [
        (f"{folder}/{name}", f"{key}/{name}", label, logit + 0.01 * name)
        for folder, key, label, logit in (
            ("PreSocial/Fake/StyleGAN2/a", "StyleGAN2/a", 1, 2.0),
            ("TrueFace_PostSocial/Facebook/Fake/StyleGAN2/a", "StyleGAN2/a", 1, -2.0),
            ("PreSocial/Real/FFHQ", "FFHQ", 0, -1.0),
            ("MyNet/Real/FFHQ", "FFHQ", 0, 1.0),
        )
        for name in range(10)
    ]
    paths, keys, labels, logits = zip(*rows, strict=True)
    scores = Predictions.from_margin(
        np.array(logits), np.array(labels, np.int8), ids=paths, keys=keys
    )
    parts = dict(subset_masks(scores))
    assert list(parts) == ["StyleGAN2/a", "FFHQ", "pre", "fb", "MyNet"]
    # the reals of MyNet are not paired with fakes of pre and fb, nor are fakes of fb with these reals
    assert parts["StyleGAN2/a"].sum() == parts["FFHQ"].sum() == 30
    assert {name: int(parts[name].sum()) for name in ("pre", "fb", "MyNet")} == {
        "pre": 20, "fb": 10, "MyNet": 10,
    }  # fmt: skip
    assert scores.labels[parts["fb"]].all()


def test_subset_with_both_classes_needs_no_other_images() -> None:
    labels, logits, _ = draw_scores(20, 1.0)
    scores = Predictions.from_margin(
        logits,
        labels,
        ids=tuple(f"Fake/x/{n}" if label else f"Real/x/{n}" for n, label in enumerate(labels)),
        keys=tuple(f"x/{n}" for n in range(20)),
    )
    rows = dict(subset_masks(scores))
    assert list(rows) == ["x", "none"]
    assert all(each.all() for each in rows.values())


def test_curve_runs_from_no_image_called_fake_to_all() -> None:
    labels, logits, _ = draw_scores(50, 1.0)
    fpr, tpr, thresholds = roc(labels, logits)
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)
    assert np.isinf(thresholds[0])
    with pytest.raises(DataError, match="needs real and fake images"):
        roc(np.ones(3, np.int8), np.zeros(3))


def keys_of_sources(counts: tuple[int, ...], label: int = 0) -> tuple[list[str], np.ndarray]:
    keys = [f"{label}{s}/{n}" for s, count in enumerate(counts) for n in range(count)]
    return keys, np.full(len(keys), label)


def test_standard_error_of_a_mean_uses_the_means_of_its_sources() -> None:
    keys, labels = keys_of_sources((40, 40, 40))
    values = np.random.default_rng(0).random((120, 1)).astype(np.float32)
    made = jackknife_design(keys, labels, 0)
    error = standard_error(made, made.weighted_means(values)[:, 0])
    means = values.reshape(3, 40).mean(1)
    assert error.error == pytest.approx(stats.sem(means), rel=1e-4)
    assert error.freedom == pytest.approx(2)
    assert error.half == pytest.approx(stats.t.ppf(0.975, 2) * stats.sem(means), rel=1e-4)


def test_source_with_most_images_leaves_less_than_one_degree_of_freedom_per_source() -> None:
    keys, labels = keys_of_sources((1000, 100, 100))
    made = jackknife_design(keys, labels, 0)
    values = np.random.default_rng(0).random((1200, 1)).astype(np.float32)
    assert 1 <= standard_error(made, made.weighted_means(values)[:, 0]).freedom < 1.5


def test_hundreds_of_sources_are_jackknifed_in_groups() -> None:
    keys, labels = keys_of_sources((2,) * 300)
    made = jackknife_design(keys, labels, 0)
    assert made.sources == {0: 300}
    assert len(made.weights) == 51


@pytest.mark.parametrize(
    ("logits", "match"),
    [([0.0, math.nan], "1 of 2 logits"), ([0.0, math.inf], "1 of 2 logits"), ([], "no scores")],
)
def test_broken_model_and_empty_scores_have_no_measures(logits: list[float], match: str) -> None:
    with pytest.raises(DataError, match=match):
        evaluate_scores(
            np.arange(len(logits), dtype=np.int8), np.array(logits), keys=["a", "b"][: len(logits)]
        )


@pytest.mark.parametrize(
    ("labels", "logits", "values", "reasons"),
    [
        (
            [1, 1, 1, 1], [1.0, 2.0, -1.0, 3.0], {"accuracy": 0.75, "recall": 0.75},
            dict.fromkeys(("auc", "balanced_accuracy"), "all images are fake"),
        ),
        (
            [0, 0, 0, 0], [1.0, -1.0, 2.0, 3.0], {"accuracy": 0.25},
            dict.fromkeys(("auc", "recall"), "all images are real"),
        ),
        (
            [0, 1, 1], [-1.0, -2.0, -3.0], {"recall": 0, "f1": 0},
            {"precision": "no image was predicted fake"},
        ),
    ],
)  # fmt: skip
def test_undefined_measure_of_few_images_or_one_class_has_a_reason(
    labels: list[int], logits: list[float], values: dict[str, float], reasons: dict[str, str]
) -> None:
    report = evaluate_scores(
        np.array(labels, np.int8), np.array(logits), keys=list("abcd"[: len(labels)])
    )
    assert {name: report.metrics[name].value for name in values} == pytest.approx(values)
    assert {name: report.reasons[name] for name in reasons} == reasons
    assert not set(reasons) & set(report.metrics)
    assert report.reason == (None if len(set(labels)) > 1 else next(iter(reasons.values())))
    if report.reason:
        assert report.verdict == ""
