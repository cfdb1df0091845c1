import math
from xml.etree import ElementTree

from launcher.web.charts import Series, legend, line_chart

EVIL = '<script>alert("1")</script>'


def a_curve(name: str = "loss", **changes: object) -> Series:
    points = [(float(x), 1 / (x + 1)) for x in range(20)]
    return Series(**{"name": name, "points": points} | changes)  # type: ignore[arg-type]  # as the test says


def test_a_chart_has_a_line_for_each_curve_and_numbers_beside_it() -> None:
    svg = ElementTree.fromstring(str(line_chart([a_curve(), a_curve("val_loss")], title="loss")))
    assert [line.get("data-name") for line in svg.iter("polyline")] == ["loss", "val_loss"]
    ticks = [text.text for text in svg.iter("text")]
    assert {"0.2", "0.8", "15"} <= set(ticks)


def test_a_smoothed_curve_lies_before_the_curve_as_it_is() -> None:
    svg = ElementTree.fromstring(str(line_chart([a_curve()], title="loss", smoothing=0.8)))
    behind, before = svg.iter("polyline")
    assert "behind" in (behind.get("class") or "")
    assert behind.get("points") != before.get("points")


def test_a_curve_of_one_point_is_seen() -> None:
    svg = ElementTree.fromstring(str(line_chart([a_curve(points=[(3.0, 1.0)])], title="loss")))
    assert len(list(svg.iter("circle"))) == 1


def test_no_chart_is_made_of_no_numbers() -> None:
    assert not line_chart([a_curve(points=[(0.0, math.nan)])], title="loss")
    assert not line_chart([a_curve(points=[(0.0, -1.0)])], title="loss", log=True)


def test_names_are_escaped() -> None:
    chart = line_chart([a_curve(EVIL)], title=EVIL) + legend([a_curve(EVIL)])
    assert "<script" not in chart
    assert "&lt;script&gt;" in chart


def test_numbers_next_to_zero_are_drawn_on_both_axes() -> None:
    points = [(0.0, 1e-323), (1.0, 5e-324), (2.0, 1.0), (3.0, 0.0)]
    for log in (False, True):
        for some in (points, points[:2], points[1:2]):
            line_chart([a_curve(points=some)], title="loss", log=log)
    only_tiny = line_chart([a_curve(points=points[:2])], title="loss")
    assert len(list(ElementTree.fromstring(str(only_tiny)).iter("polyline"))) == 1


def test_a_curve_that_begins_late_has_the_whole_width() -> None:
    late = [(1e7 + x, float(x)) for x in range(100)]
    svg = ElementTree.fromstring(str(line_chart([a_curve(points=late)], title="loss")))
    (line,) = svg.iter("polyline")
    across = [float(place.partition(",")[0]) for place in (line.get("points") or "").split()]
    assert max(across) - min(across) > 500
    assert {"10,000,020", "10,000,040"} <= {text.text for text in svg.iter("text")}


def test_a_small_value_beside_a_large_one_can_be_read_off() -> None:
    points = [(0.0, 100.0), (1.0, 0.0), (2.0, 0.02)]
    svg = ElementTree.fromstring(str(line_chart([a_curve(points=points)], title="loss")))
    (line,) = svg.iter("polyline")
    _, zero, small = (float(at.partition(",")[2]) for at in (line.get("points") or "").split())
    assert small < zero
