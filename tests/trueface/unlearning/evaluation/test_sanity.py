"""Alarms: raised where a result is worth nothing or a model is ruined, silent where it is sound."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.trueface.unlearning.unlearned_runs import (
    RUINS,
    change_classes,
    class_predictions,
    flip_predictions,
    make_predictions,
)
from trueface.evaluation.estimates import clustered_mean
from trueface.predictions.predictions import Predictions
from trueface.unlearning.evaluation.alarms import Alarm, AlarmKind, class_name, noise, noise_floor
from trueface.unlearning.evaluation.answer_comparison import accuracy_loss
from trueface.unlearning.evaluation.sanity import (
    count_effective_classes,
    find_alarms,
    lost_accuracy_alarm,
)

K = 10
PER_CLASS = 30
Parts = dict[str, Predictions]


def ten_class_predictions(wrong: float, *, forgets: bool = True, seed: int = 0) -> Parts:
    """Return predictions of a model of ten classes that was to forget class 0.

    Args:
        wrong: fraction of wrong predictions on the retain set, spread over all other classes.
        forgets: whether class 0 is gone.
        seed: of where it is wrong.
    """
    rng = np.random.default_rng(seed)

    def answers(labels: Sequence[int], noise: int) -> Predictions:
        called = np.array(labels)
        places = rng.permutation(len(called))[: round(wrong * len(called))]
        called[places] = (called[places] + rng.integers(1, K, len(places))) % K
        if forgets:
            called = np.where(called == 0, rng.integers(1, K, len(called)), called)
        return make_predictions(labels, called.tolist(), classes=K, noise=seed + noise)

    stay, gone = list(range(1, K)) * PER_CLASS, [0] * PER_CLASS
    return {
        "forget": answers(gone, 1),
        "retain": answers(stay, 2),
        "validation": answers(stay, 3),
        "test": answers([*stay, *gone], 4),
    }


def ruin_alarms(parts: Parts, **given: Any) -> tuple[Alarm, ...]:
    """Return the alarms of a ruined model."""
    return tuple(alarm for alarm in find_alarms(parts, **given) if alarm.alarm_kind in RUINS)


def class_ruin_kinds(
    parts: Parts, before: Parts | None = None, retrained: Parts | None = None
) -> set[AlarmKind]:
    """Return the kinds of ruin alarms of a model of ten classes."""
    alarms = ruin_alarms(
        parts, goal="class", original=before, retrained_parts=retrained, forgotten_classes=(0,)
    )
    return {alarm.alarm_kind for alarm in alarms}


def flip_ruin_kinds(
    parts: Parts, before: Parts | None = None, retrained: Parts | None = None
) -> set[AlarmKind]:
    """Return the kinds of ruin alarms of a detector."""
    alarms = ruin_alarms(parts, goal="flips", original=before, retrained_parts=retrained)
    return {alarm.alarm_kind for alarm in alarms}


def permute_classes(parts: Parts, change: Mapping[int, int]) -> Parts:
    """Return the predictions with some classes replaced: {class: new class}."""
    columns = np.arange(K)
    columns[list(change.values())] = list(change)
    return {name: replace(part, logits=part.logits[:, columns]) for name, part in parts.items()}


def test_model_that_forgot_and_lost_nothing_raises_no_alarm() -> None:
    before = ten_class_predictions(0.5, forgets=False)
    assert (
        class_ruin_kinds(
            ten_class_predictions(0.5, seed=5),
            before,
            retrained=ten_class_predictions(0.45, seed=9),
        )
        == set()
    )
    assert (
        flip_ruin_kinds(
            flip_predictions(4),
            flip_predictions(10, follows=30),
            retrained=flip_predictions(3, seed=2),
        )
        == set()
    )
    assert [
        *ruin_alarms(
            class_predictions(0, wrong=3),
            goal="class",
            original=class_predictions(40),
            forgotten_classes=(2,),
        )
    ] == []


def test_two_classes_predicted_for_nine_are_reported_by_name() -> None:
    parts = ten_class_predictions(0.1)
    for part in parts.values():
        part.logits[:, [0, *range(3, K)]] -= 50
    names = [f"class {one}" for one in range(K)]
    alarms = {
        alarm.alarm_kind: alarm.text
        for alarm in ruin_alarms(
            parts, goal="class", original=None, forgotten_classes=(0,), names=names
        )
    }
    assert AlarmKind.FEW_ANSWERS in alarms
    assert "270 of 270 predictions on the test set are 'class " in alarms[AlarmKind.FEW_ANSWERS]


def test_inverted_detector_is_reported() -> None:
    parts = flip_predictions(4)
    turned = {name: replace(one, logits=-one.logits) for name, one in parts.items()}
    assert {AlarmKind.BELOW_CHANCE, AlarmKind.PERMUTED} <= flip_ruin_kinds(turned)


def test_two_swapped_classes_are_reported() -> None:
    parts = permute_classes(ten_class_predictions(0.2), {1: 2, 2: 1})
    (alarm,) = ruin_alarms(parts, goal="class", original=None, forgotten_classes=(0,))
    assert alarm.alarm_kind is AlarmKind.PERMUTED
    assert "'1' as '2', '2' as '1'" in alarm.text


def test_lost_accuracy_on_retained_data_is_reported_with_its_interval() -> None:
    before = ten_class_predictions(0.2, forgets=False)
    (alarm,) = ruin_alarms(
        ten_class_predictions(0.35, seed=5), goal="class", original=before, forgotten_classes=(0,)
    )
    assert alarm.alarm_kind is AlarmKind.LOST
    assert "points (95 % CI " in alarm.text
    assert "the model before unlearning" in alarm.text


def test_loss_that_retraining_also_has_is_not_attributed_to_the_method() -> None:
    before = ten_class_predictions(0.2, forgets=False)
    assert (
        class_ruin_kinds(
            ten_class_predictions(0.35, seed=5),
            before,
            retrained=ten_class_predictions(0.36, seed=9),
        )
        == set()
    )


def test_memorized_wrong_labels_may_be_forgotten_but_not_half_of_the_retained_data() -> None:
    before, after = flip_predictions(4, follows=40), flip_predictions(4)
    truth = after["retain"].true_labels.tolist()
    after["retain"] = make_predictions(truth, change_classes(truth, 40, seed=3), true=truth)
    assert flip_ruin_kinds(after, before) == {AlarmKind.LOST}
    after["retain"] = make_predictions(truth, change_classes(truth, 6, seed=3), true=truth)
    assert flip_ruin_kinds(after, before) == set()


def test_identical_or_nearly_identical_predictions_are_reported() -> None:
    before = flip_predictions(20, follows=30)
    (alarm,) = ruin_alarms(flip_predictions(20, follows=30), goal="flips", original=before)
    assert (alarm.alarm_kind, alarm.text.endswith("exactly the same as before")) == (
        AlarmKind.UNTOUCHED,
        True,
    )
    nearly = {name: replace(one, logits=one.logits * 1.001) for name, one in before.items()}
    (alarm,) = ruin_alarms(nearly, goal="flips", original=before)
    assert (alarm.alarm_kind, "0 of" in alarm.text) == (AlarmKind.UNTOUCHED, True)


def test_different_samples_before_and_after_are_not_compared() -> None:
    before = {name: replace(one, ids=()) for name, one in flip_predictions(4).items()}
    for part in before.values():
        part.labels[:] = 1 - part.labels
    assert flip_ruin_kinds(flip_predictions(16), before) == set()


def test_too_few_samples_raise_no_alarm() -> None:
    parts = {name: first_rows(part, 10) for name, part in flip_predictions(40).items()}
    assert flip_ruin_kinds(parts, parts | {"forget": flip_predictions(4)["forget"]}) == set()


def first_rows(part: Predictions, count: int) -> Predictions:
    """Return the first rows."""
    return Predictions(
        logits=part.logits[:count],
        labels=part.labels[:count],
        true_labels=part.true_labels[:count],
        ids=part.ids[:count],
    )


def test_interval_of_a_loss_has_95_percent_coverage_and_copies_count_as_one_image() -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(1000):
        drawn = rng.choice([-1.0, 0.0, 1.0], size=300, p=[0.05, 0.8, 0.15])
        measure = clustered_mean(
            np.repeat(drawn, 4), [f"{at}" for at in range(300) for _ in range(4)]
        )
        low, high = measure.interval or (0, 0)
        inside += low <= 0.1 <= high
    assert 0.93 <= inside / 1000 <= 0.97


def test_copies_in_several_networks_do_not_narrow_an_interval() -> None:
    truth = [0, 1] * 100
    once = make_predictions(
        truth, change_classes(truth, 60), ids=tuple(f"pre:a/{at}" for at in range(200))
    )
    ids = tuple(f"{net}:a/{at}" for net in ("pre", "fb") for at in range(200))
    twice = make_predictions(truth * 2, change_classes(truth, 60) * 2, ids=ids)
    ends = []
    for part in (once, twice):
        sound = replace(part, logits=np.eye(2, dtype=np.float32)[part.labels])
        alarm = lost_accuracy_alarm(part, [("before", sound)], noun="the test", margin=0)
        assert alarm is not None
        ends.append(alarm.text)
    assert ends[0] == ends[1]


@pytest.mark.parametrize(("labels", "expected"), [([0] * 9, 1), ([0, 1, 2] * 3, 3)])
def test_effective_number_of_classes(labels: list[int], expected: float) -> None:
    assert count_effective_classes(np.array(labels)) == pytest.approx(expected)


def test_files_with_one_name_in_two_folders_are_two_images() -> None:
    truth = [0, 1] * 100
    named = tuple(f"train/{name}/12:{at}.png" for name in ("cat", "dog") for at in range(100))
    bare = tuple(map(str, range(200)))
    first, second = (
        accuracy_loss(
            make_predictions(truth, change_classes(truth, 60), ids=ids),
            [("x", make_predictions(truth, truth, ids=ids))],
        )
        for ids in (named, bare)
    )
    assert first == second


NAMES = ("real", "fake")


TRUTH = [0, 1, 1] * 30


def other_alarms(parts: dict[str, Predictions], **given: Any) -> tuple[Alarm, ...]:
    """Return the alarms of a model, except those of a ruined model."""
    return tuple(alarm for alarm in find_alarms(parts, **given) if alarm.alarm_kind not in RUINS)


def other_alarm_kinds(parts: dict[str, Predictions], **given: object) -> set[AlarmKind]:
    """Return the kinds of other alarms of a model."""
    return {one.alarm_kind for one in other_alarms(parts, goal="flips", names=NAMES, **given)}


def test_sound_model_raises_no_alarm() -> None:
    assert other_alarms(flip_predictions(7), goal="flips", names=NAMES) == ()
    assert other_alarms(class_predictions(0, wrong=3), goal="class", forgotten_classes=(2,)) == ()


def test_constant_predictor_raises_the_alarm_with_its_share() -> None:
    parts = flip_predictions(7) | {"test": make_predictions(TRUTH, [1] * 90, true=TRUTH)}
    found = {one.alarm_kind: one.text for one in other_alarms(parts, goal="flips", names=NAMES)}
    assert found[AlarmKind.CONSTANT] == "100.0% of the predictions are 'fake'"
    assert (
        found[AlarmKind.SHARE]
        == "the accuracy on the test set, 66.67%, is exactly the share of fake"
    )


def test_single_class_in_the_test_is_not_a_constant_predictor() -> None:
    parts = flip_predictions(7) | {"test": make_predictions([1] * 90, [1] * 90)}
    assert other_alarm_kinds(parts) == set()


def test_class_that_should_not_be_predicted_is_not_counted() -> None:
    parts = class_predictions(0)
    del parts["test"]
    parts["validation"] = make_predictions([0, 2] * 20, [0, 0] * 20, classes=3)
    assert other_alarms(parts, goal="class", forgotten_classes=(2,)) == ()


def test_broken_model_raises_only_its_own_alarm() -> None:
    parts = flip_predictions(7)
    parts["retain"].logits[0, 0] = math.nan
    assert other_alarm_kinds(parts) == {AlarmKind.BROKEN}


def test_wrong_labels_of_one_class_raise_the_alarm() -> None:
    parts = flip_predictions(7) | {"forget": make_predictions([0] * 20, [1] * 20, true=[1] * 20)}
    assert other_alarm_kinds(parts) == {AlarmKind.ONE_CLASS}


def test_wrong_validation_labels_raise_the_alarm() -> None:
    parts = flip_predictions(7) | {
        "validation": make_predictions([0, 1, 1], [0, 1, 0], true=[0, 1, 0])
    }
    assert other_alarm_kinds(parts) == {AlarmKind.VALIDATION}


def test_change_within_the_noise_of_retraining_raises_the_alarm() -> None:
    retrained = (0.95, 0.96, 0.97)
    assert noise_floor(retrained) == pytest.approx(4.303 * 0.01 * math.sqrt(2), rel=1e-3)
    assert noise_floor(retrained, seeds=2) == pytest.approx(0.04303, rel=1e-3)
    small, large = noise(0.90, 0.91, retrained), noise(0.90, 0.97, retrained)
    assert small is not None
    assert small.alarm_kind is AlarmKind.NOISE
    assert "+1.00 points" in small.text
    assert large is None


@pytest.mark.parametrize("retrained", [(), (0.95,), (0.95, 0.97)])
def test_fewer_than_three_retrained_models_give_no_noise_estimate(
    retrained: tuple[float, ...],
) -> None:
    alarm = noise(0.90, 0.99, retrained)
    assert alarm is not None
    assert alarm.alarm_kind is AlarmKind.NOISE_UNKNOWN
    assert "of at least 3 seeds" in alarm.text


@pytest.mark.parametrize("seeds", [3, 5])
def test_pure_noise_passes_as_a_change_in_5_percent_of_cases(seeds: int) -> None:
    rng = np.random.default_rng(seeds)
    passed = 0
    for _ in range(4000):
        before, after, retrained = rng.normal(0.9, 0.01, (3, seeds))
        passed += noise(before.mean(), after.mean(), retrained.tolist(), seeds=seeds) is None
    assert 0.04 <= passed / 4000 <= 0.06


def test_class_without_a_name_is_called_by_its_number() -> None:
    assert [class_name(label, NAMES) for label in (0, 1, 2)] == ["real", "fake", "2"]
