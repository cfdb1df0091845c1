"""Membership inference: chance where there is nothing to find, and found where there is."""

import numpy as np
import pytest

from tests.trueface.unlearning.unlearned_runs import make_predictions
from trueface.predictions.predictions import Predictions
from trueface.unlearning.evaluation.measures import UndefinedMetric
from trueface.unlearning.evaluation.membership_inference import (
    at_few_false_alarms,
    by_entropy,
    by_loss,
    membership,
)

COUNT = 300


def predictions_with_margin(
    sure: float, seed: int, *, count: int = COUNT, wrong: bool = False
) -> Predictions:
    """Return predictions of one mean confidence, all right (or all wrong), of two classes."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, count)
    margin = rng.normal(sure, 1.0, count) * np.where(truth == 1, 1, -1)
    part = make_predictions(
        (1 - truth if wrong else truth).tolist(), truth.tolist(), true=truth.tolist()
    )
    part.logits[:] = np.stack([np.zeros(count), margin], 1)
    return part


def test_members_of_an_overfitted_model_are_found() -> None:
    forget, retain, test = (
        predictions_with_margin(8, 1),
        predictions_with_margin(8, 2),
        predictions_with_margin(0.5, 3),
    )
    parts = {"forget": forget, "retain": retain, "validation": test, "test": test}
    found = membership(parts, goal="instances").values
    assert found["mia_loss"] > 0.9
    assert found["mia_entropy"] > 0.9
    assert found["mia_svc"] < 0.1  # the share that is taken for others


def test_wrong_labels_are_compared_with_labels_wrong_in_the_same_way() -> None:
    # a model that never saw the wrong labels has a high loss on them, and that gives nothing away
    forget, test = predictions_with_margin(4, 1, wrong=True), predictions_with_margin(4, 3)
    assert by_loss(forget=forget, nonmembers=test).value == pytest.approx(0.5, abs=0.08)
    remembered = predictions_with_margin(-4, 1, wrong=True)
    assert by_loss(forget=remembered, nonmembers=test).value > 0.95


def test_too_few_samples_give_no_attack() -> None:
    few, many = predictions_with_margin(2, 1, count=40), predictions_with_margin(2, 2)
    with pytest.raises(UndefinedMetric, match="needs 50"):
        by_entropy(retain=few, nonmembers=many, forget=many)
    with pytest.raises(UndefinedMetric, match="needs 50"):
        by_loss(forget=few, nonmembers=many)


def test_class_missing_from_the_test_gives_no_attack() -> None:
    forget = make_predictions([2] * 60, [0] * 60, classes=3, noise=1)
    test = make_predictions([0, 1] * 60, [0, 1] * 60, classes=3, noise=2)
    with pytest.raises(
        UndefinedMetric, match="no sample outside the training belongs to the forgotten classes"
    ):
        by_loss(forget=forget, nonmembers=test)


def test_constant_model_reveals_nothing() -> None:
    same = make_predictions([0, 1] * 50, [1, 1] * 50)
    with pytest.raises(UndefinedMetric, match="gives all samples the same output"):
        by_entropy(retain=same, nonmembers=same, forget=same)


def test_interval_of_an_attack_narrows_with_more_images() -> None:
    few, many = (
        by_loss(
            forget=predictions_with_margin(2, 1, count=count),
            nonmembers=predictions_with_margin(2, 3, count=count),
        ).half_width
        for count in (100, 1600)
    )
    assert many < 0.5 * few


def test_validation_images_that_chose_the_epoch_are_not_non_members() -> None:
    some = predictions_with_margin(2, 1)
    parts = {"forget": some, "retain": some, "validation": predictions_with_margin(2, 3)}
    found = membership(parts, goal="flips")
    assert not found.values
    assert "validation images were used to choose the epoch" in found.reasons["mia_loss"]


def test_attack_confident_about_a_few_is_visible_at_few_false_alarms() -> None:
    forget, test = (
        predictions_with_margin(2, 1, count=400),
        predictions_with_margin(2, 2, count=1100),
    )
    forget.logits[:40, 1] *= 6  # a tenth is known by heart
    found = at_few_false_alarms(forget=forget, nonmembers=test)
    assert found.contains(found.value)
    assert found.interval is not None
    assert found.interval.low > 0.05
    assert by_loss(forget=forget, nonmembers=test).value < 0.6
    with pytest.raises(UndefinedMetric, match="a false-positive rate of 1 % needs 1,000"):
        at_few_false_alarms(forget=forget, nonmembers=predictions_with_margin(2, 2, count=800))


def test_thousand_non_members_are_enough_for_any_number_of_forgotten_samples() -> None:
    few, test = predictions_with_margin(2, 1, count=100), predictions_with_margin(2, 2, count=4000)
    found = at_few_false_alarms(forget=few, nonmembers=test)
    assert found.contains(found.value)
    assert found.value < 0.05
    with pytest.raises(
        UndefinedMetric,
        match=r"800 samples of the forgotten classes",
    ):
        at_few_false_alarms(forget=few, nonmembers=predictions_with_margin(2, 2, count=800))
    with pytest.raises(UndefinedMetric, match="40 forgotten samples have a counterpart"):
        at_few_false_alarms(forget=predictions_with_margin(2, 1, count=40), nonmembers=test)


def test_classes_are_weighted_among_non_members_as_among_forgotten_samples() -> None:
    # one class has lower losses, seen or not; it is most of the forgotten and a half of the test
    forget, test = (easy_and_hard_class(*counts) for counts in ((3800, 200), (2000, 2000)))
    assert at_few_false_alarms(forget=forget, nonmembers=test).value == pytest.approx(
        0.01, abs=0.008
    )


def test_copies_of_an_image_do_not_narrow_the_interval_of_an_attack() -> None:
    forget, test = (
        predictions_with_margin(2, 1, count=200),
        predictions_with_margin(2, 2, count=200),
    )
    once = by_loss(forget=forget, nonmembers=test)
    four = by_loss(forget=copy_to_networks(forget, "in"), nonmembers=copy_to_networks(test, "out"))
    assert four.half_width > 0.8 * once.half_width


def easy_and_hard_class(easy: int, hard: int) -> Predictions:
    """Return predictions of two classes, of which the first has the lower losses."""
    truth = [0] * easy + [1] * hard
    rng = np.random.default_rng(easy)
    margins = np.where(np.array(truth) == 0, -4, 0) + rng.normal(0, 1, easy + hard)
    part = make_predictions(truth, truth, true=truth)
    part.logits[:] = np.stack([np.zeros(easy + hard), margins], 1)
    return part


def copy_to_networks(part: Predictions, place: str) -> Predictions:
    """Return predictions of the same images in four networks."""
    names = tuple(
        f"{net}:{place}/{n}" for net in ("pre", "fb", "tl", "tw") for n in range(len(part))
    )
    return Predictions(
        logits=np.tile(part.logits, (4, 1)),
        labels=np.tile(part.labels, 4),
        true_labels=np.tile(part.true_labels, 4),
        ids=names,
    )


def test_attack_with_one_result_for_all_of_few_samples_has_a_wide_interval() -> None:
    forget, test = (
        predictions_with_margins(100, np.random.default_rng(seed).normal(20, 0.1, 100), seed)
        for seed in (1, 2)
    )
    found = by_loss(forget=forget, nonmembers=test)
    assert found.value == 0.5
    low, high = found.interval or (0, 0)
    assert 0.42 < low < 0.45 < 0.55 < high < 0.58


@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_interval_of_every_attack_contains_its_value(share: float) -> None:
    rng = np.random.default_rng(0)
    parts = {
        name: predictions_with_margins(
            len(noise), np.where(rng.random(len(noise)) < of_sure, 20.0, noise), 0
        )
        for name, of_sure, noise in (
            ("forget", share, rng.normal(0, 1, 400)),
            ("retain", 0.5, rng.normal(2, 1, 400)),
            ("test", 1 - share, rng.normal(1, 1, 1000)),
        )
    }
    found = membership(parts, goal="flips").values
    for name in ("mia_entropy", "mia_svc", "mia_loss", "mia_tpr"):
        assert 0 <= found[f"{name}_low"] <= found[name] <= found[f"{name}_high"] <= 1
        assert found[f"{name}_low"] < found[f"{name}_high"]


def predictions_with_margins(count: int, margins: np.ndarray, seed: int) -> Predictions:
    """Return predictions with these margins, half of either class."""
    truth = np.random.default_rng(seed).permutation(count) % 2
    part = make_predictions(truth.tolist(), truth.tolist(), true=truth.tolist())
    part.logits[:] = np.stack([np.zeros(count), margins * np.where(truth == 1, 1, -1)], 1)
    return part
