import numpy as np
import pytest

from trueface.evaluation.operating_threshold import (
    Calibration,
    best_threshold,
    fit_calibration,
    fit_temperature,
    most_accurate_threshold,
)
from trueface.runtime.files import Json


def draw_calibrated_logits(count: int, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Return labels drawn from the probabilities of logits, and the logits times a temperature."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, count)
    labels = (rng.random(count) < 1 / (1 + np.exp(-logits))).astype(np.int8)
    return labels, logits * temperature


@pytest.mark.parametrize("temperature", [0.01, 1.0, 20.0])
def test_known_temperature_is_recovered(temperature: float) -> None:
    labels, logits = draw_calibrated_logits(5000, temperature)
    assert fit_temperature(labels, logits) == pytest.approx(temperature, rel=0.1)


def test_logits_without_an_error_have_a_finite_temperature() -> None:
    labels = np.array([0] * 10 + [1] * 10, np.int8)
    logits = np.where(labels == 1, 1.0, -1.0)
    assert 0.05 < fit_temperature(labels, logits) < 1


@pytest.mark.parametrize("constant", [0.0, 0.3, -40.0])
def test_constant_logits_keep_temperature_1(constant: float) -> None:
    labels = np.array([0, 1] * 20, np.int8)
    assert fit_calibration(labels, np.full(40, constant)).temperature == 1.0


@pytest.mark.parametrize(
    ("reals", "fakes", "warned"),
    [
        ([-2, -1, -1, 0, -3], [1, 2, 3, 1, 2], 0),
        ([1, 2, 3, 1, 2], [-2, -1, -1, 0, -3], 1),  # the reverse order
        ([-2, -1, -1, 0, -3], [1, 2, 3, 1, -100], 1),
        ([1, 1, 1, 1, 1], [1, 1, 1, 1, 1], 0),  # constant: no temperature
    ],
)
def test_temperature_that_makes_every_probability_a_half_is_warned_of(
    caplog: pytest.LogCaptureFixture, reals: list[float], fakes: list[float], warned: int
) -> None:
    labels, logits = np.repeat([0, 1], 5).astype(np.int8), np.array([*reals, *fakes], np.float64)
    fitted = fit_calibration(labels, logits)
    assert [("every probability is about 0.5" in each) for each in caplog.messages] == [
        True
    ] * warned
    assert (np.abs(fitted.apply_temperature(logits)).max() < 0.04) == bool(warned)


def test_threshold_is_halfway_between_the_classes() -> None:
    labels, logits = np.array([0, 0, 1, 1], np.int8), np.array([1.0, 2.0, 4.0, 5.0])
    assert best_threshold(labels, logits) == pytest.approx(3.0, abs=0.1)


def test_equal_logits_are_never_separated() -> None:
    labels, logits = np.array([0, 1, 0, 1], np.int8), np.zeros(4)
    assert best_threshold(labels, logits) == 0.0


def test_one_class_keeps_the_default_threshold() -> None:
    assert fit_calibration(np.ones(5, np.int8), np.arange(5.0)) == Calibration()


def test_calibration_survives_a_round_trip_through_its_record() -> None:
    fitted = Calibration(temperature=2.0, threshold=0.5).fold_temperature()
    assert Calibration.read(fitted.json_record) == fitted
    assert (fitted.threshold, fitted.in_logits) == (0.25, True)
    records: list[Json] = [None, [], {}, {"temperature": "2", "threshold": 0.0}]
    for broken in records:
        assert Calibration.read(broken) is None


def test_scaled_and_plain_logits_differ_by_the_temperature() -> None:
    logits = np.array([2.0, -4.0])
    plain = Calibration(temperature=2.0)
    assert plain.apply_temperature(logits).tolist() == [1.0, -2.0]
    assert plain.undo_temperature(logits) is logits
    folded = plain.fold_temperature()
    assert folded.undo_temperature(plain.apply_temperature(logits)).tolist() == logits.tolist()


def test_no_view_of_the_images_has_more_than_10_percent_false_alarms() -> None:
    labels, logits = draw_calibrated_logits(4000, 1.0)
    logits[2000:] += 1.0  # the second view looks more like a fake
    threshold = fit_calibration(labels, logits, [2000, 2000]).threshold
    first, second = ((own > threshold).mean() for own in np.split(np.where(labels, -99, logits), 2))
    reals = 1 - labels[2000:].mean()
    assert second / reals == pytest.approx(0.1, abs=0.01)
    assert first < second
    assert fit_calibration(labels, logits).threshold == best_threshold(labels, logits) < threshold


def test_well_separated_views_keep_the_best_threshold() -> None:
    labels = np.tile(np.array([0, 1], np.int8), 100)
    logits = np.where(labels == 1, 4.0, -4.0) + np.linspace(-1, 1, 200)
    both, together = fit_calibration(labels, logits, [100, 100]), fit_calibration(labels, logits)
    assert both == together


@pytest.mark.parametrize(
    ("logits", "fakes", "expected"),
    [
        ([-1.0, 1.0], [False, True], 0.0),
        ([1.0, 2.0, 4.0], [False, False, True], 3.0),
        ([1.0, 1.0, 4.0], [False, True, True], 0.5),  # equal logits are not divided
        ([-3.0, -1.0, 2.0, 6.0], [False, True, False, True], -2.0),  # as good as 4, nearer to 0
        ([5.0], [True], 4.5),
    ],
)
def test_most_accurate_threshold_is_between_two_logits_and_nearest_to_0(
    logits: list[float], fakes: list[bool], expected: float
) -> None:
    assert most_accurate_threshold(np.array(fakes), np.array(logits)) == expected
