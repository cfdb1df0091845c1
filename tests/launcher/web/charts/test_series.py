import math

import pytest

from launcher.screens.chart import finite
from launcher.web.charts import smoothed, thinned


def test_what_is_no_number_has_no_place() -> None:
    points = [(0.0, 1.0), (1.0, math.nan), (2.0, math.inf), (3.0, -1.0)]
    assert finite(points) == [(0.0, 1.0), (3.0, -1.0)]
    assert finite(points, above_zero=True) == [(0.0, 1.0)]


def test_smoothing_begins_at_the_first_value_and_lags_behind() -> None:
    points = [(0.0, 4.0), (1.0, 0.0), (2.0, 0.0)]
    values = [y for _, y in smoothed(points, 0.5)]
    assert values[0] == 4.0
    assert values[1] == pytest.approx(4 * 0.25 / 0.75)
    assert 0 < values[2] < values[1]


def test_without_weight_nothing_is_smoothed() -> None:
    points = [(0.0, 4.0), (1.0, -2.0)]
    assert smoothed(points, 0.0) == points


def test_a_thinned_curve_keeps_its_ends_and_its_peaks() -> None:
    points = [(float(x), math.sin(x / 50)) for x in range(10_000)]
    points[4321] = (4321.0, 9.0)
    points[777] = (777.0, -9.0)
    kept = thinned(points, 300)
    assert len(kept) <= 300
    assert kept[0] == points[0]
    assert kept[-1] == points[-1]
    assert {(4321.0, 9.0), (777.0, -9.0)} <= set(kept)
    assert [x for x, _ in kept] == sorted(x for x, _ in kept)


def test_a_short_curve_is_not_thinned() -> None:
    points = [(0.0, 1.0), (1.0, 2.0)]
    assert thinned(points, 10) == points
