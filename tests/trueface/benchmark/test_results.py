"""The measures of a cell, with intervals, marks and reasons; and comparisons of many detectors."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest, friedmanchisquare
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from tests.trueface.intervals import interval_of
from trueface.benchmark.cells import CellScores, ModelFacts
from trueface.benchmark.leaderboard import (
    bootstrap_p,
    critical_difference,
    differences,
    friedman,
    holm,
    rank,
    select_independent_sets,
)
from trueface.benchmark.results import (
    CellMeasures,
    auc_change,
    evaluate_attacked,
    evaluate_unattacked,
)
from trueface.evaluation.arrays import Floats
from trueface.evaluation.estimates import Sampled, draws_over_seeds
from trueface.evaluation.inference import AttackResult, outcome
from trueface.predictions.predictions import Predictions

FACTS = ModelFacts(
    checkpoint_sha256="0", threshold=0.0, temperature=1.0, in_logits=False, source="validation",
    parameters=1, ms_image=1.0, device="cpu", threads=1,
)  # fmt: skip
KEYS = [f"s/{row}" for row in range(7)]
RANDOM = np.random.default_rng(1)
SEEDED = np.random.default_rng(0)


def scores(reals: Floats, fakes: Floats) -> CellScores:
    count = len(reals) + len(fakes)
    labels = np.array([0] * len(reals) + [1] * len(fakes), np.int8)
    logits = np.concatenate([reals, fakes]).astype(np.float64)
    names = tuple(f"{at}.png" for at in range(count))
    return CellScores(predictions=Predictions.from_margin(logits, labels, ids=names))


def with_logits(cell: CellScores, logits: Floats) -> CellScores:
    return replace(cell, predictions=cell.predictions.with_margin(logits))


def measure(cell: CellScores, facts: ModelFacts = FACTS) -> CellMeasures:
    sources = ["FFHQ" if label == 0 else "StyleGAN" for label in cell.predictions.labels]
    return evaluate_unattacked(cell, facts, [f"s/{path}" for path in cell.predictions.ids], sources)


def read_value(cell: CellMeasures, name: str) -> float:
    there = cell[name]
    assert there is not None
    assert there.value is not None, there.reason
    return there.value


def test_values_equal_scikit_learn_at_both_thresholds() -> None:
    cell = scores(RANDOM.normal(0.5, 1, 60), RANDOM.normal(2, 1, 40))
    made = measure(cell, replace(FACTS, threshold=1.2))
    fake = cell.predictions.labels == 1
    assert read_value(made, "auc") == pytest.approx(roc_auc_score(fake, cell.predictions.margin))
    assert read_value(made, "balanced_accuracy") == pytest.approx(
        balanced_accuracy_score(fake, cell.predictions.margin > 0)
    )
    assert read_value(made, "balanced_accuracy_at_threshold") == pytest.approx(
        balanced_accuracy_score(fake, cell.predictions.margin > 1.2)
    )
    assert made.counts == (60, 40)
    assert made.marked.mark == ""


def test_rates_of_one_source_have_wilson_intervals() -> None:
    cell = scores(np.full(30, -1.0), np.array([1.0] * 24 + [-1.0] * 6))
    rate = measure(cell)["tpr:StyleGAN"]
    assert rate is not None
    exact = binomtest(24, 30).proportion_ci(method="wilson")
    assert (rate.value, *interval_of(rate)) == pytest.approx((0.8, exact.low, exact.high))
    assert read_value(measure(cell), "tnr:FFHQ") == 1.0


@pytest.mark.parametrize(
    ("cell", "mark"),
    [
        (scores(RANDOM.normal(0, 1, 40), RANDOM.normal(0, 1, 40)), "chance"),
        (scores(np.zeros(40), np.zeros(40)), "constant"),
        (scores(np.arange(19.0), np.arange(20.0, 60.0)), "few images"),
        (scores(np.zeros(0), np.arange(40.0)), "one class"),
        (scores(np.arange(40.0), 30 + np.arange(40.0)), ""),
    ],
)
def test_cell_without_a_rank_is_marked(cell: CellScores, mark: str) -> None:
    assert measure(cell).marked.mark == mark


def test_few_images_give_values_without_intervals_and_one_class_gives_only_rates() -> None:
    few = measure(scores(np.arange(5.0), np.arange(5.0, 12.0)))["auc"]
    assert few is not None
    assert (few.value, few.interval) == (1.0, None)
    assert "fewer than 20 images" in few.reason
    alone = measure(scores(np.zeros(0), np.array([1.0] * 3 + [-1.0])))
    assert read_value(alone, "tpr:StyleGAN") == 0.75
    area = alone["auc"]
    assert area is not None
    assert (area.value, area.reason) == (None, "all images are fake")


def test_change_from_clean_images_is_paired() -> None:
    clean = scores(RANDOM.normal(0, 1, 100), RANDOM.normal(1, 1, 100))
    corrupted = with_logits(clean, clean.predictions.margin + 0.01 * RANDOM.standard_normal(200))
    change = auc_change(measure(corrupted), measure(clean))
    assert change.value is not None
    assert change.interval is not None
    alone = measure(clean)["auc"]
    assert alone is not None
    assert alone.interval is not None
    assert (
        change.interval.high - change.interval.low < (alone.interval.high - alone.interval.low) / 4
    )


def test_attack_counts_only_images_that_were_right_before() -> None:
    after = scores(np.array([1.0, -1.0, 1.0]), np.array([-1.0, -1.0, 1.0, -1.0]))
    before = np.array([-1.0, -1.0, 1.0, 1.0, 1.0, 1.0, -1.0])
    made = evaluate_attacked(
        replace(after, before=before, psnr=np.array([48.0] * 6 + [np.inf])), KEYS
    )
    assert read_value(made, "attack_success_evasion") == pytest.approx(2 / 3)
    assert read_value(made, "attack_success_defamation") == pytest.approx(1 / 2)
    assert read_value(made, "called_fake:fake") == 0.25
    assert read_value(made, "called_fake_before:fake") == 0.75
    assert read_value(made, "logit_shift:fake") == -2.0
    assert read_value(made, "psnr") == 48.0


def test_copies_of_an_image_count_as_far_as_they_differ() -> None:
    reals, fakes = np.full(30, -1.0), np.array([1.0] * 24 + [-1.0] * 6)
    attacked = np.array([-1.0] * 9 + [1.0] * 21)
    for copies in (1, 3):
        cell = scores(np.tile(reals, copies), np.tile(fakes, copies))
        keys = [key for at in (0, 30) for key in [f"s/{at + row}" for row in range(30)] * copies]
        sources = ["FFHQ" if label == 0 else "StyleGAN" for label in cell.predictions.labels]
        rate = evaluate_unattacked(cell, FACTS, keys, sources)["tpr:StyleGAN"]
        assert rate is not None
        exact = binomtest(24, 30).proportion_ci(method="wilson")
        assert interval_of(rate) == pytest.approx((exact.low, exact.high))
        after = with_logits(
            cell,
            np.concatenate([cell.predictions.margin[: 30 * copies], np.tile(attacked, copies)]),
        )
        before = np.concatenate([np.full(30 * copies, -1.0), np.full(30 * copies, 1.0)])
        success = evaluate_attacked(replace(after, before=before), keys)["attack_success_evasion"]
        exact = binomtest(9, 30).proportion_ci(method="wilson")
        assert success is not None
        assert interval_of(success) == pytest.approx((exact.low, exact.high))
        result = AttackResult(
            predictions=after.predictions,
            tried=np.ones(len(keys), np.bool_),
            psnr=np.full(len(keys), np.inf),
            largest_change=1,
            queries=0,
            threshold=0.0,
            keys=tuple(keys),
        )
        facts = outcome(cell.predictions.with_margin(before), result)["evasion"]
        assert isinstance(facts, dict)
        assert isinstance(facts["success"], dict)
        assert facts["success"]["high"] == pytest.approx(exact.high)


def test_attack_uses_the_threshold_that_its_scores_name() -> None:
    fakes, reals = np.array([3.0, 1.0, 1.0]), np.array([1.0, 3.0, 1.0])
    before = np.concatenate([reals, fakes])
    made = evaluate_attacked(
        replace(scores(reals, fakes - 2), before=before, threshold=2.0), KEYS[:6]
    )
    assert read_value(made, "attack_success_evasion") == 1  # the rate of one fake above 2
    assert read_value(made, "called_fake_before:fake") == pytest.approx(1 / 3)
    evasion = made["attack_success_evasion"]
    assert evasion is not None
    assert evasion.threshold == 2.0


def test_attack_on_a_detector_that_predicts_only_real_has_no_success() -> None:
    made = evaluate_attacked(
        replace(scores(-np.ones(3), -np.ones(3)), before=-np.ones(6)), KEYS[:6]
    )
    evasion = made["attack_success_evasion"]
    assert evasion is not None
    assert (evasion.value, evasion.reason) == (None, "no such image")


def test_calibration_is_measured_with_and_without_temperature() -> None:
    cell = scores(RANDOM.normal(-4, 3, 60), RANDOM.normal(4, 3, 60))
    outside = measure(cell, replace(FACTS, temperature=2.0))
    inside = measure(
        with_logits(cell, cell.predictions.margin / 2),
        replace(FACTS, temperature=2.0, in_logits=True),
    )
    for name in ("ece_unscaled", "ece_scaled"):
        assert read_value(outside, name) == pytest.approx(read_value(inside, name))
    assert read_value(outside, "ece") == read_value(outside, "ece_unscaled")
    assert read_value(inside, "ece") == read_value(inside, "ece_scaled")


def test_two_copies_of_one_model_have_the_same_probability_of_being_best() -> None:
    accuracies = 0.8 + 0.03 * SEEDED.standard_normal((4, 1000))
    worse = accuracies - 0.1 + 0.01 * SEEDED.standard_normal(accuracies.shape)
    first, second, third = rank(np.stack([accuracies, accuracies, worse]))
    assert first.best == second.best == pytest.approx(0.5, abs=0.05)
    assert first.rank == pytest.approx(1.5)
    assert (third.best, third.rank, third.interval) == (0, 3, (3, 3))
    assert bootstrap_p((accuracies - accuracies).mean(0)) == 1.0


def test_rank_is_the_mean_over_cells_with_an_interval_over_resamples() -> None:
    # in cell 0 the first is always better, in cell 1 in three of four resamples
    first = np.array([[2.0, 2, 2, 2], [2, 2, 2, 0]])
    second = np.ones((2, 4))
    better, other = rank(np.stack([first, second]))
    assert better.rank == pytest.approx((1 + 1 + 1 + 1.5) / 4)
    assert better.best == pytest.approx((1 + 1 + 1 + 0.5) / 4)
    assert better.best + other.best == pytest.approx(1)
    assert better.interval.low == 1.0
    assert 1.4 < better.interval.high <= 1.5


def test_seeds_are_resampled_from_three_seeds_on() -> None:
    spreads = [np.full(1000, value) for value in (0.7, 0.8, 0.9)]
    assert np.ptp(draws_over_seeds(spreads[:2], stream="a")) == 0
    drawn = draws_over_seeds(spreads, stream="a")
    # the standard deviation of a mean of three draws from three values
    assert drawn.std() == pytest.approx(np.std([0.7, 0.8, 0.9]) / math.sqrt(3), rel=0.1)
    assert np.array_equal(drawn, draws_over_seeds(spreads, stream="a"))
    assert not np.array_equal(drawn, draws_over_seeds(spreads, stream="b"))


def test_holm_correction_matches_the_paper() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_difference_is_paired_and_its_p_is_never_0() -> None:
    shared = 0.05 * SEEDED.standard_normal(1000)
    spreads = {"a": 0.8 + shared, "b": 0.82 + shared, "c": 0.8 + 0.001 + shared}
    values = {"a": 0.8, "b": 0.82, "c": 0.801}
    made = differences(
        {name: Sampled(value, spreads[name]) for name, value in values.items()},
        {("a", "b"): 0.02},
    )
    first = made[0]
    assert (first.first, first.second) == ("a", "b")
    assert first.difference.value == pytest.approx(0.02)
    # both share the rest, which adds no uncertainty
    assert interval_of(first.difference).low == pytest.approx(0.02)
    assert first.p == pytest.approx(2 / 1001)
    assert first.p_holm == pytest.approx(6 / 1001)
    assert first.p_delong == 0.02
    assert made[1].p_delong is None


def test_nemenyi_critical_difference_equals_the_published_table() -> None:
    # Demšar 2006, table 5: q.05 is 2.343, 2.569, 2.728, 2.850 of 3, 4, 5 and 6 models
    for models, q in ((3, 2.343), (4, 2.569), (5, 2.728), (6, 2.850)):
        expected = q * math.sqrt(models * (models + 1) / (6 * 8))
        assert critical_difference(models, 8) == pytest.approx(expected, abs=1e-3)


def test_friedman_test_needs_five_independent_datasets_and_three_models() -> None:
    values = {name: list(SEEDED.random(6)) for name in "abc"}
    four = friedman({name: each[:4] for name, each in values.items()}, list("1234"))
    assert four.p is None
    assert four.text == "not computed: only 4 independent image sets, and at least 5 are needed"
    single = friedman({name: each[:1] for name, each in values.items()}, ["1"])
    assert single.text == "not computed: only 1 independent image set, and at least 5 are needed"
    two = friedman({name: values[name] for name in "ab"}, list("123456"))
    assert two.reason == "only 2 models, and at least 3 are needed"
    made = friedman(values, list("123456"))
    assert made.p == pytest.approx(friedmanchisquare(*values.values()).pvalue)
    assert sum((made.mean_ranks or {}).values()) == pytest.approx(6)


def test_equal_models_do_not_differ_in_the_friedman_test() -> None:
    assert friedman({name: [0.5] * 5 for name in "abc"}, list("12345")).p == 1.0


def test_datasets_that_share_images_are_not_independent() -> None:
    images = {"gan1": ["a", "r"], "gan2": ["b", "r"], "other": ["c", "s"], "empty": []}
    assert select_independent_sets(images) == ("gan1", "other")
