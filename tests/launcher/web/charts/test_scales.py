import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.screens.chart import MOST, Scale, scale_of
from launcher.web.charts import ticks

VALUES = st.lists(st.floats(-MOST, MOST), min_size=1, max_size=20)


@given(VALUES, st.booleans())
def test_every_value_lies_on_its_axis(values: list[float], log: bool) -> None:
    scale = scale_of(values, log=log)
    assert scale.low < scale.high
    assert all(0 <= scale.place(value) <= 1 for value in values)


@given(VALUES, st.booleans(), st.integers(2, 10))
def test_an_axis_has_a_few_numbers_in_order(values: list[float], log: bool, most: int) -> None:
    numbers = ticks(scale_of(values, log=log), most)
    assert len(numbers) <= most + 2
    assert numbers == sorted(numbers)


def test_a_linear_axis_has_round_numbers() -> None:
    assert ticks(Scale(low=0, high=1), 5) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert ticks(Scale(low=-3, high=17), 4) == pytest.approx([0, 5, 10, 15])


def test_a_logarithmic_axis_has_powers_of_ten() -> None:
    scale = scale_of([0.001, 10], log=True)
    assert ticks(scale, 6) == pytest.approx([0.001, 0.01, 0.1, 1, 10])
    assert scale.place(0.1) == pytest.approx(0.5)


def test_values_that_are_not_above_zero_need_a_linear_axis() -> None:
    assert not scale_of([0, -1], log=True).log
    assert scale_of([0, 1, 10], log=True).low == 1


def test_a_flat_curve_makes_no_mountains() -> None:
    scale = scale_of([5.0, 5.0])
    assert scale.place(5.0) == pytest.approx(0.5)
