from xml.etree import ElementTree

import pytest

from trueface.report.svg import (
    DASHES,
    SERIES,
    Frame,
    axes,
    key,
    line,
    number,
    plots_in,
    steps,
    svg,
    ticks,
)


def test_a_value_lies_in_its_frame_and_one_outside_on_its_edge() -> None:
    frame = Frame(width=120, height=110, left=10, right=10, bottom=5, top=5)
    assert frame.at(0, 0) == (10, 105)
    assert frame.at(1, 1) == (110, 5)
    assert frame.at(2, -1) == (110, 105)


def test_a_frame_without_extent_does_not_divide_by_zero() -> None:
    assert Frame(x=(3, 3)).at(3, 0.5)[0] == Frame().left


@pytest.mark.parametrize(
    ("least", "greatest", "found"),
    [
        (0, 1, (0, 0.2, 0.4, 0.6, 0.8, 1)),
        (-7, 12, (-5, 0, 5, 10)),
        (1, 12, (5, 10)),
        (0.69, 0.7, (0.69, 0.692, 0.694, 0.696, 0.698, 0.7)),
        (2, 2, (2,)),
    ],
)
def test_ticks_are_round_numbers_within_the_range(
    least: float, greatest: float, found: tuple[float, ...]
) -> None:
    assert ticks(least, greatest) == pytest.approx(found)


def test_sixteen_series_can_be_told_apart() -> None:
    drawn = {line(Frame(), [(0, 0), (1, 1)], series) for series in range(SERIES * 2)}
    assert len(drawn) == SERIES * 2
    assert len(DASHES) > 1


def test_names_are_escaped_wherever_they_are_drawn() -> None:
    name = '"><script>'
    frame = Frame()
    for text in (
        svg(frame, [], title=name, description=name),
        axes(frame, name, name),
        key([name]),
    ):
        assert "<script>" not in text


def test_a_single_point_is_a_dot_and_none_is_nothing() -> None:
    assert "circle" in line(Frame(), [(0.5, 0.5)], 0)
    assert line(Frame(), [], 0) == ""


def test_a_histogram_is_one_closed_outline() -> None:
    assert steps(Frame(), [0, 0.5, 1], [0.2, 0.8], "real").count("Z") == 1


def test_numbers_are_short_and_have_a_true_minus() -> None:
    assert (number(0.25), number(-3.0), number(0.30000000000000004)) == ("0.25", "−3", "0.3")  # noqa: RUF001


def test_each_plot_of_some_html_is_a_file_with_the_style_sheet() -> None:
    plots = [svg(Frame(), ["<path/>"], title=title, description="") for title in ("a & b", "c")]
    files = list(plots_in(f"<h2>x</h2>{plots[0]}<p>between</p>{plots[1]}", "a > b { --c: red; }"))
    assert [title for title, _ in files] == ["a & b", "c"]
    for _, text in files:
        root = ElementTree.fromstring(text)
        assert [child.tag.partition("}")[2] for child in root] == ["title", "style", "path"]
        assert root[1].text == "a > b { --c: red; }"
