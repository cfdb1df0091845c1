import itertools
import re

import pytest

from trueface.report.svg import Box, Mark, placed, scatter

ROOM = Box(left=0, top=0, right=600, bottom=300)


def a_mark(name: str, time: float, quality: float, role: str = "method") -> Mark:
    assert role in {"method", "reference", "broken"}
    return Mark(name=name, time=time, quality=quality, spread=None, role=role)  # type: ignore[arg-type]  # just seen to be one


def drawn(*marks: Mark, before: float | None = 0.8, retrain: float | None = 0.9) -> str:
    return scatter(marks, before=before, retrain=retrain, across="time", up="accuracy")


@pytest.mark.parametrize("spread", [200, 20, 4])
def test_labels_lie_on_no_label_and_on_no_mark(spread: float) -> None:
    names = [f"method{number}" for number in range(14)]
    places = [
        (300 + spread * ((number * 7) % 14 - 7) / 7, 150 + spread * (number - 7) / 10)
        for number in range(14)
    ]
    labels = placed(names, places, room=ROOM)
    assert [label.text for label in labels] == names
    for one, other in itertools.combinations(labels, 2):
        assert one.box.overlap(other.box) == 0
    for label in labels:
        assert label.box.outside(ROOM) == 0


def test_a_lonely_label_stands_right_beside_its_mark() -> None:
    (label,) = placed(["scrub"], [(100, 100)], room=ROOM)
    assert not label.leader
    assert label.anchor == "start"
    assert label.x - 100 < 10


def test_a_label_at_the_right_edge_stands_left_of_its_mark() -> None:
    (label,) = placed(["retrain"], [(598, 100)], room=ROOM)
    assert label.anchor == "end"


def test_nothing_is_drawn_of_no_marks_or_of_those_without_a_time() -> None:
    assert drawn() == ""
    assert drawn(a_mark("a", 0.0, 0.5)) == ""


@pytest.mark.parametrize("count", [1, 2, 3])
def test_fewer_than_three_marks_are_no_plot(count: int) -> None:
    marks = [a_mark(name, 0.1 + place, 0.85) for place, name in enumerate("abc"[:count])]
    drawing = drawn(*marks, before=None, retrain=None)
    assert drawing.count("<circle") == (3 if count == 3 else 0)
    assert bool(drawing) == (count == 3)


def test_a_broken_model_far_below_lies_on_the_edge_with_its_value() -> None:
    text = drawn(
        a_mark("retrain", 1, 0.92, "reference"),
        a_mark("scrub", 0.2, 0.91),
        a_mark("ng", 0.01, 0.4, "broken"),
    )
    assert "ng 0.400" in text
    assert re.search(r'class="of-broken" d="M[\d.]+ [\d.]+h10l-5 8z"', text)


def test_a_broken_model_near_the_others_is_a_cross_among_them() -> None:
    text = drawn(
        a_mark("scrub", 0.2, 0.91), a_mark("ssd", 0.3, 0.9), a_mark("ng", 0.01, 0.85, "broken")
    )
    assert "ng 0.850" not in text
    assert "l8 8m0 -8l-8 8" in text


def test_names_are_escaped() -> None:
    text = drawn(*(a_mark("<script>", 0.2 * place, 0.9) for place in (1, 2, 3)))
    assert "&lt;script&gt;" in text
    assert "<script>" not in text
