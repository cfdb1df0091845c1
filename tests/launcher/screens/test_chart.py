"""Curves of numbers as text."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.screens.chart import chart
from launcher.screens.terminal import in_ascii
from launcher.screens.text_table import width_of

FALLING = [(float(step), math.exp(-step / 20)) for step in range(1, 101)]


def texts(points: list[tuple[float, float]], width: int, height: int) -> list[str]:
    return [one.text for one in chart(points, width, height)]


def test_a_curve_has_numbers_on_both_axes() -> None:
    assert texts([(0, 0), (1, 1), (2, 2), (3, 3)], 14, 6) == [
        "3┤           █",
        " │       ▆▆▆▆█",
        " │    ▃▃▃█████",
        "0┤▁▁▁▁████████",
        " └────────────",
        "  0          3",
    ]


def test_a_high_curve_has_a_number_in_its_middle_too() -> None:
    drawn = texts(FALLING, 60, 12)
    assert [one.split("┤")[0].strip() for one in drawn if "┤" in one] == [
        "0.9512",
        "0.4265",
        "0.006738",
    ]
    assert drawn[-1].split() == ["1", "100"]


@given(
    st.lists(st.floats(), max_size=50),
    st.integers(1, 200),
    st.integers(1, 40),
)
def test_a_curve_stays_in_its_frame(values: list[float], width: int, height: int) -> None:
    drawn = texts([(float(step), value) for step, value in enumerate(values)], width, height)
    assert 1 <= len(drawn) <= max(1, height)
    assert all(width_of(one) <= width for one in drawn)


def test_numbers_that_are_none_are_left_out() -> None:
    drawn = texts([(1, math.nan), (2, math.inf), (3, 7.5)], 30, 6)
    assert drawn[0].startswith("7.537┤")
    assert texts([(1, math.nan)], 30, 6) == ["no numbers yet"]


def test_where_there_is_no_room_the_newest_number_is_told() -> None:
    assert texts(FALLING, 60, 2) == ["0.006738"]
    assert texts(FALLING, 8, 20) == ["0.006738"]


@pytest.mark.parametrize("height", [4, 9, 20])
def test_all_of_it_has_twins_in_ascii(height: int) -> None:
    assert "?" not in in_ascii("\n".join(texts(FALLING, 70, height)))


def test_what_hardly_varies_makes_no_mountains() -> None:
    drawn = texts([(step, 1 + step * 1e-6) for step in range(50)], 40, 8)
    assert [one.split("┤")[0].strip() for one in drawn if "┤" in one] == ["1.005", "0.995"]
    assert len({one.split("┤")[-1].split("│")[-1] for one in drawn[:-2]}) <= 3


def test_an_axis_may_begin_at_nought() -> None:
    drawn = [one.text for one in chart([(1, 4.0), (2, 5.0)], 30, 6, floor=0)]
    assert [one.split("┤")[0].strip() for one in drawn if "┤" in one] == ["5", "0"]
