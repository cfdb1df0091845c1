"""Ranks, differences and tests of several models: against SciPy, tables and values by hand."""

import math

import numpy as np
import pytest
from scipy.stats import friedmanchisquare

from trueface.benchmark.leaderboard import (
    bootstrap_p,
    critical_difference,
    differences,
    friedman,
    holm,
    independent,
    rank,
)
from trueface.evaluation.intervals import resampled_over_seeds

RANDOM = np.random.default_rng(0)


def test_two_copies_of_one_model_are_the_best_with_the_same_probability() -> None:
    accuracies = 0.8 + 0.03 * RANDOM.standard_normal((4, 1000))
    worse = accuracies - 0.1 + 0.01 * RANDOM.standard_normal(accuracies.shape)
    first, second, third = rank(np.stack([accuracies, accuracies, worse]))
    assert first.best == second.best == pytest.approx(0.5, abs=0.05)
    assert first.rank == pytest.approx(1.5)
    assert (third.best, third.rank, third.low, third.high) == (0, 3, 3, 3)
    assert bootstrap_p((accuracies - accuracies).mean(0)) == 1.0


def test_a_rank_is_the_mean_over_cells_and_its_interval_is_over_resamples() -> None:
    # in cell 0 the first is always better, in cell 1 in three of four resamples
    first = np.array([[2.0, 2, 2, 2], [2, 2, 2, 0]])
    second = np.ones((2, 4))
    better, other = rank(np.stack([first, second]))
    assert better.rank == pytest.approx((1 + 1 + 1 + 1.5) / 4)
    assert better.best == pytest.approx((1 + 1 + 1 + 0.5) / 4)
    assert better.best + other.best == pytest.approx(1)
    assert better.low == 1.0
    assert 1.4 < better.high <= 1.5


def test_seeds_are_drawn_anew_from_three_on() -> None:
    spreads = [np.full(1000, value) for value in (0.7, 0.8, 0.9)]
    assert np.ptp(resampled_over_seeds(spreads[:2], stream="a")) == 0
    drawn = resampled_over_seeds(spreads, stream="a")
    # the standard deviation of a mean of three draws from three values
    assert drawn.std() == pytest.approx(np.std([0.7, 0.8, 0.9]) / math.sqrt(3), rel=0.1)
    assert np.array_equal(drawn, resampled_over_seeds(spreads, stream="a"))
    assert not np.array_equal(drawn, resampled_over_seeds(spreads, stream="b"))


def test_holm_corrects_as_his_paper_does() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_a_difference_is_paired_and_has_a_p_that_is_never_0() -> None:
    shared = 0.05 * RANDOM.standard_normal(1000)
    spreads = {"a": 0.8 + shared, "b": 0.82 + shared, "c": 0.8 + 0.001 + shared}
    made = differences({"a": 0.8, "b": 0.82, "c": 0.801}, spreads, {("a", "b"): 0.02})
    first = made[0]
    assert (first.first, first.second) == ("a", "b")
    assert first.value == pytest.approx(0.02)
    assert first.low == pytest.approx(0.02)  # what both share is no uncertainty of the difference
    assert first.p == pytest.approx(2 / 1001)
    assert first.p_holm == pytest.approx(6 / 1001)
    assert first.p_delong == 0.02
    assert made[1].p_delong is None


def test_nemenyis_critical_difference_is_that_of_the_published_table() -> None:
    # Demšar 2006, table 5: q.05 is 2.343, 2.569, 2.728, 2.850 of 3, 4, 5 and 6 models
    for models, q in ((3, 2.343), (4, 2.569), (5, 2.728), (6, 2.850)):
        expected = q * math.sqrt(models * (models + 1) / (6 * 8))
        assert critical_difference(models, 8) == pytest.approx(expected, abs=1e-3)


def test_friedmans_test_needs_five_independent_sets_and_three_models() -> None:
    values = {name: list(RANDOM.random(6)) for name in "abc"}
    four = friedman({name: each[:4] for name, each in values.items()}, list("1234"))
    assert four.p is None
    assert four.text == "none: 4 independent sets of images, and 5 are needed"
    single = friedman({name: each[:1] for name, each in values.items()}, ["1"])
    assert single.text == "none: 1 independent set of images, and 5 are needed"
    two = friedman({name: values[name] for name in "ab"}, list("123456"))
    assert two.reason == "2 models, and 3 are needed"
    made = friedman(values, list("123456"))
    assert made.p == pytest.approx(friedmanchisquare(*values.values()).pvalue)
    assert sum((made.mean_ranks or {}).values()) == pytest.approx(6)


def test_equal_models_give_no_difference_in_friedmans_test() -> None:
    assert friedman({name: [0.5] * 5 for name in "abc"}, list("12345")).p == 1.0


def test_sets_that_share_images_are_not_independent() -> None:
    images = {"gan1": ["a", "r"], "gan2": ["b", "r"], "other": ["c", "s"], "empty": []}
    assert independent(images) == ("gan1", "other")
