from dataclasses import replace
from itertools import product
from math import comb

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.trueface.evaluation.tables import make_scores
from trueface.evaluation.significance import delong, mcnemar, pair
from trueface.predictions.predictions import Predictions
from trueface.runtime.errors import DataError

Labels = NDArray[np.int8]
Logits = NDArray[np.float64]


def table(names: list[str], logits: list[float], labels: list[int] | None = None) -> Predictions:
    paths = [f"PreSocial/Fake/{name}.png" for name in names]
    return make_scores(names, labels or [1] * len(names), logits, paths)


def discordant_logits(b: int, c: int, agree: int = 50) -> tuple[Labels, Logits, Logits]:
    """Return logits of fakes: `b` right only before, `c` right only after."""
    first = np.array([1.0] * b + [-1.0] * c + [1.0] * agree)
    second = np.array([-1.0] * b + [1.0] * c + [1.0] * agree)
    return np.ones(b + c + agree, np.int8), first, second


@pytest.mark.parametrize(("b", "c"), [(1, 5), (0, 6), (12, 12), (3, 3), (0, 0), (2, 22)])
def test_few_discordant_pairs_are_tested_exactly(b: int, c: int) -> None:
    test = mcnemar(*discordant_logits(b, c))
    assert test.method == "exact binomial"
    assert test.chi2 is None
    assert (test.only_first, test.only_second) == (b, c)
    of_coins = [comb(b + c, k) / 2 ** (b + c) for k in range(b + c + 1)]
    as_far = sum(p for k, p in enumerate(of_coins) if abs(2 * k - b - c) >= abs(b - c))
    assert test.p == pytest.approx(as_far)


def test_many_discordant_pairs_are_tested_by_chi_square_with_continuity_correction() -> None:
    test = mcnemar(*discordant_logits(10, 30))
    assert test.method == "chi² with continuity correction"
    assert test.chi2 == pytest.approx(19**2 / 40)
    assert test.p == pytest.approx(0.0026638, rel=1e-3)  # tail of chi² at 9.025, one degree


def test_approximation_is_close_to_the_exact_test_where_it_takes_over() -> None:
    for b in range(13):
        c = 25 - b
        exact = min(1.0, 2 * sum(comb(25, k) for k in range(b + 1)) / 2**25)
        assert mcnemar(*discordant_logits(b, c)).p == pytest.approx(exact, abs=0.01)


def test_equal_discordant_counts_show_no_difference() -> None:
    assert mcnemar(*discordant_logits(20, 20)).p == 1.0


def test_logit_of_zero_counts_as_real() -> None:
    test = mcnemar(np.array([0], np.int8), np.array([0.0]), np.array([0.1]))
    assert (test.only_first, test.only_second) == (1, 0)


def delong_by_definition(
    labels: Labels, first: Logits, second: Logits
) -> tuple[float, float, float]:
    """Return both AUCs and the variance of their difference, over all pairs of fakes and reals."""
    fakes, reals = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
    wins = np.array(
        [
            [[(one[f] > one[r]) + (one[f] == one[r]) / 2 for r in reals] for f in fakes]
            for one in (first, second)
        ]
    )  # (2, fakes, reals)
    areas = wins.mean((1, 2))
    s10, s01 = np.cov(wins.mean(2)), np.cov(wins.mean(1))
    covariance = s10 / len(fakes) + s01 / len(reals)
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    return float(areas[0]), float(areas[1]), float(variance)


@pytest.mark.parametrize(("seed", "digits"), list(product(range(4), (0, 1, 8))))
def test_fast_delong_equals_its_definition(seed: int, digits: int) -> None:
    rng = np.random.default_rng(seed)
    labels = (rng.random(70) < 0.4).astype(np.int8)
    common = rng.normal(size=70)
    first: Logits = (common + rng.normal(size=70) + labels).round(digits)
    second: Logits = (common + rng.normal(size=70) + 0.3 * labels).round(digits)
    test = delong(labels, first, second)
    one, two, variance = delong_by_definition(labels, first, second)
    assert test.first == pytest.approx(one)
    assert test.second == pytest.approx(two)
    assert test.error == pytest.approx(variance**0.5)
    assert test.z == pytest.approx((two - one) / variance**0.5)


def test_delong_depends_only_on_the_order_of_scores() -> None:
    rng = np.random.default_rng(0)
    labels = (np.arange(90) % 3 == 0).astype(np.int8)
    first, second = rng.normal(size=(2, 90)) + labels
    plain, bent = delong(labels, first, second), delong(labels, np.exp(first), second**3)
    assert bent.p == pytest.approx(plain.p)


def test_equivalent_models_differ_by_chance_at_the_nominal_rate() -> None:
    below = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        labels = (np.arange(120) % 2).astype(np.int8)
        common = rng.normal(size=120) + labels
        first, second = (common + rng.normal(size=120) for _ in range(2))
        test = delong(labels, first, second)
        assert test.p is not None
        below += test.p < 0.05
    assert 2 <= below <= 20  # 10 expected; outside with a probability of 1 in 500


def test_model_compared_with_itself_has_one_auc() -> None:
    labels = (np.arange(30) % 2).astype(np.int8)
    logits = np.random.default_rng(0).normal(size=30)
    test = delong(labels, logits, logits)
    assert (test.z, test.p, test.reason) == (None, 1.0, None)


def test_difference_that_no_image_changes_has_a_reason_instead_of_p() -> None:
    labels = np.array([0, 0, 1, 1], np.int8)
    test = delong(labels, np.array([0.0, 1, 2, 3]), np.array([3.0, 2, 1, 0]))
    assert (test.first, test.second, test.p) == (1.0, 0.0, None)
    assert test.reason is not None


def test_images_are_joined_by_path_in_any_order_and_the_others_are_counted() -> None:
    pairs = pair(table(["a", "b", "c"], [1, 2, 3]), table(["c", "x", "y", "a"], [30, 0, 0, 10]))
    assert pairs.joined_by == "path"
    assert pairs.keys == ("a", "c")
    assert pairs.first.tolist() == [1, 3]
    assert pairs.second.tolist() == [10, 30]
    assert (pairs.only_first, pairs.only_second) == (1, 2)


def test_images_of_another_network_are_joined_by_key() -> None:
    other = table(["b", "a"], [20, 10])
    other = replace(other, ids=tuple(p.replace("PreSocial", "Facebook") for p in other.ids))
    pairs = pair(table(["a", "b"], [1, 2]), other)
    assert pairs.joined_by == "key"
    assert pairs.second.tolist() == [10, 20]


def test_rows_without_names_are_paired_only_on_request_and_if_labels_agree() -> None:
    def old(labels: list[int]) -> Predictions:
        return make_scores([f"#{row}" for row in range(3)], labels, np.arange(3.0))

    with pytest.raises(DataError, match="--same-order"):
        pair(old([0, 1, 1]), old([0, 1, 1]))
    with pytest.raises(DataError, match="do not agree"):
        pair(old([0, 1, 1]), old([1, 0, 1]), same_order=True)
    pairs = pair(old([0, 1, 1]), old([0, 1, 1]), same_order=True)
    assert (pairs.joined_by, len(pairs)) == ("order", 3)


def test_rows_of_one_class_pair_in_any_order_but_shuffled_rows_give_a_warning() -> None:
    rng = np.random.default_rng(0)
    common = rng.normal(size=200)
    names = tuple(f"real:pre/#{row}" for row in range(200))

    def old(logits: Logits) -> Predictions:
        return make_scores(names, np.zeros(200), logits)

    one, other = old(common), old(common + rng.normal(size=200))
    assert pair(one, other, same_order=True).doubt is None
    shuffled = pair(one, old(rng.permutation(other.margin)), same_order=True)
    assert shuffled.doubt is not None
    assert "are hardly correlated" in shuffled.doubt
    assert pair(one, old(np.zeros(200)), same_order=True).doubt is not None


@pytest.mark.parametrize(
    ("first", "second", "match"),
    [
        (table(["a"], [1]), table(["b"], [1]), "no image is in both"),
        (
            table(["a", "b"], [1, 2], [1, 0]), table(["a", "b"], [1, 2], [1, 1]),
            "1 of 2 images are fake in one table",
        ),
        (
            table(["a", "b"], [1, 2]),
            make_scores("aa", [1, 1], [0, 0], ["Facebook/Fake/a.png", "Twitter/Fake/a.png"]),
            "keys of the second table belong to several images",
        ),
    ],
)  # fmt: skip
def test_tables_without_pairs_are_rejected(
    first: Predictions, second: Predictions, match: str
) -> None:
    with pytest.raises(DataError, match=match):
        pair(first, second)
    with pytest.raises(DataError, match="1 fakes and 2 reals"):
        delong(np.array([1, 0, 0], np.int8), np.zeros(3), np.zeros(3))
