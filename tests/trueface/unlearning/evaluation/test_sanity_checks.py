"""Alarms: raised where a result is worth nothing, silent where it is sound."""

import math
from typing import Any

import numpy as np
import pytest

from tests.trueface.unlearning.said import RUINS, flips, one_class, said
from trueface.evaluation.predictions import Answered
from trueface.unlearning.evaluation.sanity import (
    Alarm,
    Sort,
    class_name,
    judged,
    noise,
    noise_floor,
)

NAMES = ("real", "fake")
TRUTH = [0, 1, 1] * 30


def alarms(parts: dict[str, Answered], **given: Any) -> tuple[Alarm, ...]:
    """Return what a model is warned of, but for what says that it is ruined."""
    return tuple(alarm for alarm in judged(parts, **given) if alarm.sort not in RUINS)


def sorts(parts: dict[str, Answered], **given: object) -> set[Sort]:
    """Return what a model is warned of."""
    return {one.sort for one in alarms(parts, goal="flips", names=NAMES, **given)}


def test_a_sound_model_raises_none() -> None:
    assert alarms(flips(7), goal="flips", names=NAMES) == ()
    assert alarms(one_class(0, wrong=3), goal="class", forgotten=(2,)) == ()


def test_a_constant_predictor_raises_the_alarm_and_names_the_share() -> None:
    parts = flips(7) | {"test": said(TRUTH, [1] * 90, true=TRUTH)}
    found = {one.sort: one.text for one in alarms(parts, goal="flips", names=NAMES)}
    assert found[Sort.CONSTANT] == "100.0% of the answers are 'fake'"
    assert found[Sort.SHARE] == "the accuracy on the test, 66.67%, is exactly the share of fake"


def test_one_class_in_the_test_makes_no_constant_predictor() -> None:
    parts = flips(7) | {"test": said([1] * 90, [1] * 90)}
    assert sorts(parts) == set()


def test_a_class_that_nobody_should_name_is_not_counted() -> None:
    parts = one_class(0)
    del parts["test"]
    parts["validation"] = said([0, 2] * 20, [0, 0] * 20, classes=3)
    assert alarms(parts, goal="class", forgotten=(2,)) == ()


def test_a_broken_model_raises_that_alarm_alone() -> None:
    parts = flips(7)
    parts["retain"].logits[0, 0] = math.nan
    assert sorts(parts) == {Sort.BROKEN}


def test_wrong_labels_of_one_class_raise_the_alarm() -> None:
    parts = flips(7) | {"forget": said([0] * 20, [1] * 20, true=[1] * 20)}
    assert sorts(parts) == {Sort.ONE_CLASS}


def test_wrong_validation_labels_raise_the_alarm() -> None:
    parts = flips(7) | {"validation": said([0, 1, 1], [0, 1, 0], true=[0, 1, 0])}
    assert sorts(parts) == {Sort.VALIDATION}


def test_a_change_within_the_noise_of_retraining_raises_the_alarm() -> None:
    retrained = (0.95, 0.96, 0.97)
    assert noise_floor(retrained) == pytest.approx(4.303 * 0.01 * math.sqrt(2), rel=1e-3)
    assert noise_floor(retrained, seeds=2) == pytest.approx(0.04303, rel=1e-3)
    small, large = noise(0.90, 0.91, retrained), noise(0.90, 0.97, retrained)
    assert small is not None
    assert small.sort is Sort.NOISE
    assert "+1.00 points" in small.text
    assert large is None


@pytest.mark.parametrize("retrained", [(), (0.95,), (0.95, 0.97)])
def test_fewer_than_three_retrained_models_tell_no_noise(retrained: tuple[float, ...]) -> None:
    alarm = noise(0.90, 0.99, retrained)
    assert alarm is not None
    assert alarm.sort is Sort.NOISE_UNKNOWN
    assert "of 3 seeds or more" in alarm.text


@pytest.mark.parametrize("seeds", [3, 5])
def test_pure_noise_passes_for_a_change_in_5_percent_of_cases(seeds: int) -> None:
    random = np.random.default_rng(seeds)
    passed = 0
    for _ in range(4000):
        before, after, retrained = random.normal(0.9, 0.01, (3, seeds))
        passed += noise(before.mean(), after.mean(), retrained.tolist(), seeds=seeds) is None
    assert 0.04 <= passed / 4000 <= 0.06


def test_a_class_without_a_name_is_called_by_its_number() -> None:
    assert [class_name(label, NAMES) for label in (0, 1, 2)] == ["real", "fake", "2"]
