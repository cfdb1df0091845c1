import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import log_loss, roc_auc_score

from trueface.errors import DataError
from trueface.metrics import calibration_error, measure

Labels = NDArray[np.int8]
Logits = NDArray[np.float64]


def drawn(count: int, shift: float, seed: int = 0) -> tuple[Labels, Logits, list[str]]:
    random = np.random.default_rng(seed)
    labels = (np.arange(count) % 2).astype(np.int8)
    return labels, random.normal(size=count) + shift * labels, [str(n) for n in range(count)]


def test_values_are_those_of_scikit_learn() -> None:
    labels, logits, keys = drawn(400, 1.0)
    report = measure(labels, np.round(logits, 1), keys=keys)
    assert report.auc is not None
    assert report.auc.value == pytest.approx(roc_auc_score(labels, np.round(logits, 1)))
    probabilities = 1 / (1 + np.exp(-np.round(logits, 1)))
    assert report.loss.value == pytest.approx(log_loss(labels, probabilities))


def test_values_of_a_table_small_enough_to_count_by_hand() -> None:
    labels = np.array([0, 0, 0, 1, 1], np.int8)
    logits = np.array([-1.0, -2.0, 1.0, 3.0, 0.0])  # exactly 0 counts as real
    report = measure(labels, logits, keys=list("abcde"))
    assert report.balanced_accuracy is not None
    assert report.auc is not None
    assert report.confusion == ((2, 1), (1, 1))
    assert report.accuracy.value == pytest.approx(3 / 5)
    assert report.balanced_accuracy.value == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert report.auc.value == pytest.approx(5 / 6)


def test_calibration_is_perfect_when_confidence_is_the_share_of_right_answers() -> None:
    logit = np.log(0.8 / 0.2)
    right = np.array([1] * 80 + [0] * 20, np.int8)
    assert calibration_error(right, np.full(100, logit)) == pytest.approx(0, abs=1e-6)
    assert calibration_error(right, np.full(100, 20.0)) == pytest.approx(0.2, abs=1e-6)


@pytest.mark.parametrize("shift", [0.5, 2.0, 8.0])
def test_every_value_lies_in_its_interval(shift: float) -> None:
    labels, logits, keys = drawn(120, shift)
    report = measure(labels, logits - shift / 2, keys=keys)
    for value in (report.accuracy, report.auc, report.ece, report.loss):
        assert value is not None
        assert value.low <= value.value <= value.high


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    held = 0
    for seed in range(60):
        labels, logits, keys = drawn(200, 0.0, seed)
        report = measure(labels, logits, keys=keys)
        assert report.auc is not None
        held += report.verdict == "chance"
        assert report.auc.low <= report.auc.value <= report.auc.high
    assert held >= 51  # 57 expected; fewer than 51 has a probability of 1 in 200


def test_the_interval_of_an_area_is_as_wide_as_the_formula_of_hanley_and_mcneil_says() -> None:
    labels, logits, keys = drawn(600, 1.0)
    auc = measure(labels, logits, keys=keys).auc
    assert auc is not None
    a, n = auc.value, 300
    q1, q2 = a / (2 - a), 2 * a * a / (1 + a)
    error = np.sqrt((a * (1 - a) + (n - 1) * (q1 + q2 - 2 * a * a)) / (n * n))
    assert auc.high - auc.low == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_copies_of_an_image_do_not_narrow_an_interval() -> None:
    labels, logits, keys = drawn(100, 0.5)
    once = measure(labels, logits, keys=keys).auc
    thrice = measure(np.tile(labels, 3), np.tile(logits, 3), keys=keys * 3).auc
    apart = measure(np.tile(labels, 3), np.tile(logits, 3), keys=[str(n) for n in range(300)]).auc
    assert once is not None
    assert thrice is not None
    assert apart is not None
    assert thrice.high - thrice.low == pytest.approx(once.high - once.low, rel=0.15)
    assert apart.high - apart.low < 0.7 * (once.high - once.low)


def test_the_same_table_has_the_same_intervals() -> None:
    labels, logits, keys = drawn(50, 0.5)
    assert measure(labels, logits, keys=keys) == measure(labels, logits, keys=keys)


def test_one_class_alone_has_no_area_and_says_why() -> None:
    report = measure(np.ones(4, np.int8), np.array([1.0, 2.0, -1.0, 3.0]), keys=list("abcd"))
    assert report.auc is None
    assert report.balanced_accuracy is None
    assert report.reason == "all images are fake"
    assert report.accuracy.value == pytest.approx(0.75)
    assert report.verdict == ""


@pytest.mark.parametrize(
    ("shift", "offset", "verdict"),
    [(0.0, 0.0, "chance"), (6.0, -3.0, ""), (-3.0, 0.0, "below chance"), (3.0, 50.0, "constant")],
)
def test_a_verdict_names_what_a_number_hides(shift: float, offset: float, verdict: str) -> None:
    labels, logits, keys = drawn(300, shift, seed=3)
    assert measure(labels, logits + offset, keys=keys).verdict == verdict


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_a_broken_model_has_no_measures(broken: float) -> None:
    with pytest.raises(DataError, match="1 of 2 logits"):
        measure(np.array([0, 1], np.int8), np.array([0.0, broken]), keys=["a", "b"])


def test_no_scores_have_no_measures() -> None:
    with pytest.raises(DataError, match="no scores"):
        measure(np.array([], np.int8), np.array([]), keys=[])


def test_sources_that_differ_widen_an_interval_as_more_images_cannot() -> None:
    random = np.random.default_rng(0)
    labels = (np.arange(4000) >= 2000).astype(np.int8)
    sources = np.arange(4000) // 500  # four folders a class, each liked or disliked by chance
    logits = random.normal(size=4000) + 0.5 * random.normal(size=8)[sources]
    apart = [f"folder{source}/{number}" for number, source in enumerate(sources)]
    wide = measure(labels, logits, keys=apart)
    narrow = measure(labels, logits, keys=[str(number) for number in range(4000)])
    assert wide.auc is not None
    assert narrow.auc is not None
    assert narrow.auc.high - narrow.auc.low < 0.04
    assert wide.auc.high - wide.auc.low > 0.15


def test_a_source_of_one_image_does_no_harm() -> None:
    labels = np.array([0, 0, 0, 1, 1], np.int8)
    keys = ["a/1", "a/2", "b/1", "c/1", "d/1"]
    auc = measure(labels, np.array([0.0, 1.0, 0.5, 2.0, 3.0]), keys=keys).auc
    assert auc is not None
    assert auc.low == auc.high == 1.0
