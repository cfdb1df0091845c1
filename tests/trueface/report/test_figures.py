"""Figures as values, and as SVG, PNG and PDF."""

import itertools
from collections.abc import Sequence
from xml.etree import ElementTree

import pytest

from trueface.report import svg
from trueface.report.figures import (
    Axis,
    Figure,
    Frame,
    Label,
    Marks,
    Polyline,
    band,
    line,
    lines_key,
    log_axis,
    number,
    place_names,
    steps,
    ticks,
)
from trueface.report.matplotlib_figures import render_figure
from trueface.report.method_plane import Role, TimedMethod, quality_by_time
from trueface.report.style import COLOURS, OWN, SERIES, STYLES

NASTY = '"><script>$\\frac'
PIXELS = Frame(600, 300, 0, 0, 0, 0, x=(0, 600), y=(300, 0))
FIGURE = Figure(
    Frame(),
    [
        steps([0, 0.5, 1], [0.2, 0.8], "real"),
        band([(0, 0.1), (1, 0.2)], [(0, 0.3), (1, 2)], 3),
        *line([(0, 0), (1, 1)], 9, marks=True),
        *(
            Marks(((0.5, 0.5), (0.6, 0.7)), shape, style, 2)
            for shape in ("disc", "square", "cross", "triangle")
            for style in ("kept", "method")
        ),
        Label((0.5, 0.5), NASTY, "end", 30, 8, "mark-label", leader=True),
    ],
    title=NASTY,
    description=NASTY,
    x=Axis(NASTY),
    y=Axis("up", (0, 1)),
    caption=NASTY,
    note=NASTY,
    key=lines_key((NASTY, "other")),
)


def test_value_is_inside_its_frame_and_an_outside_value_is_on_the_edge() -> None:
    frame = Frame(width=120, height=110, left=10, right=10, bottom=5, top=5)
    assert (
        frame.data_to_pixels(0, 0),
        frame.data_to_pixels(1, 1),
        frame.data_to_pixels(2, -1),
    ) == ((10, 105), (110, 5), (110, 105))
    assert Frame(x=(3, 3)).data_to_pixels(3, 0.5)[0] == Frame().left  # nothing is divided by zero


@pytest.mark.parametrize(
    ("least", "greatest", "found"),
    [
        (0, 1, (0, 0.2, 0.4, 0.6, 0.8, 1)),
        (-7, 12, (-5, 0, 5, 10)),
        (1, 12, (5, 10)),
        (0.69, 0.7, (0.69, 0.692, 0.694, 0.696, 0.698, 0.7)),
        (2, 2, (2,)),
        (0, 5e-4, (0, 1e-4, 2e-4, 3e-4, 4e-4, 5e-4)),
    ],
)
def test_ticks_are_round_numbers_within_the_range(
    least: float, greatest: float, found: tuple[float, ...]
) -> None:
    assert ticks(least, greatest) == pytest.approx(found)


def test_numbers_are_short_and_have_a_true_minus_sign() -> None:
    assert (number(0.25), number(-3.0), number(0.30000000000000004)) == ("0.25", "−3", "0.3")  # noqa: RUF001
    assert log_axis("ms", (-1, 1)).names == ["0.1", "0.2", "0.5", "1", "2", "5", "10"]


def test_sixteen_series_are_distinguishable() -> None:
    drawn = {
        svg.picture(FIGURE._replace(drawn=line([(0, 0), (1, 1)], series)))
        for series in range(SERIES * 2)
    }
    assert len(drawn) == SERIES * 2


def test_every_style_has_colours_of_both_themes() -> None:
    for style in STYLES.values():
        assert set(style[:2]) <= {"", OWN, *COLOURS}
        assert style.fill or style.stroke


def test_single_point_is_a_dot_and_no_point_is_empty() -> None:
    assert [type(each) for each in line([(0.5, 0.5)], 0)] == [Polyline, Marks]
    assert line([], 0) == []


def test_texts_are_escaped_in_every_figure() -> None:
    text = svg.render_framed(FIGURE)
    assert "<script" not in text
    assert (
        text.count("&lt;script") == 8
    )  # caption, note, label, axis, key, title, and twice what is read out


def test_figure_is_a_file_with_the_style_sheet() -> None:
    root = ElementTree.fromstring(svg.file(FIGURE))
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "--real" in (root[1].text or "")
    outline = [each.get("d", "") for each in root.iter() if each.get("class") == "real"]
    assert [each.count("Z") for each in outline] == [1]


@pytest.mark.parametrize("kind", ["png", "pdf"])
def test_matplotlib_draws_every_shape_to_the_same_bytes(kind: str) -> None:
    first, second = (render_figure(FIGURE, kind) for _ in range(2))  # type: ignore[arg-type]  # one of both
    assert first == second
    assert first[:4] in {b"\x89PNG", b"%PDF"}
    assert b"CreationDate" not in first
    other = FIGURE._replace(drawn=FIGURE.drawn[:-1])
    assert render_figure(other, kind) != first  # type: ignore[arg-type]  # likewise


@pytest.mark.parametrize("spread", [200, 20, 4])
def test_names_overlap_no_name_and_no_mark(spread: float) -> None:
    names = [f"method{number}" for number in range(14)]
    points = [
        (300 + spread * ((number * 7) % 14 - 7) / 7, 150 + spread * (number - 7) / 10)
        for number in range(14)
    ]
    labels = place_names(PIXELS, names, points)
    assert [label.text for label in labels] == names
    boxes = [label.box(PIXELS) for label in labels]
    for one, other in itertools.combinations(boxes, 2):
        assert one.overlap(other) < 1e-9
    for box in boxes:
        assert box.left >= 0
        assert box.right <= 600
        assert box.top >= 0
        assert box.bottom <= 300


@pytest.mark.parametrize(("x", "anchor"), [(100, "start"), (598, "end")])
def test_single_name_is_right_next_to_its_mark(x: float, anchor: str) -> None:
    (label,) = place_names(PIXELS, ["scrub"], [(x, 100)])
    assert not label.leader
    assert label.anchor == anchor
    assert abs(label.right) < 10


def draw_methods(*methods: tuple[str, float, float, Role]) -> Figure | None:
    timed = [TimedMethod(name, time, value, None, role) for name, time, value, role in methods]
    return quality_by_time(timed, {"before": 0.8}, x_label="time", y_label="accuracy")


def marks(figure: Figure | None) -> Sequence[tuple[str, str]]:
    assert figure is not None
    return [(each.shape, each.style) for each in figure.drawn if isinstance(each, Marks)]


def test_fewer_than_three_marks_with_a_time_give_no_figure() -> None:
    three: list[tuple[str, float, float, Role]] = [
        (name, 0.1 + place, 0.85, "method") for place, name in enumerate("abc")
    ]
    assert marks(draw_methods(*three)) == [("disc", "method")] * 3
    for methods in ((), three[:2], [*three[:2], ("c", 0.0, 0.5, "method")]):
        assert draw_methods(*methods) is None


@pytest.mark.parametrize(("quality", "shape"), [(0.4, "triangle"), (0.85, "cross")])
def test_broken_model_far_below_is_on_the_edge_with_its_value(quality: float, shape: str) -> None:
    figure = draw_methods(
        ("retrain", 1, 0.92, "reference"),
        ("scrub", 0.2, 0.91, "method"),
        ("ng", 0.01, quality, "broken"),
    )
    assert marks(figure)[-1] == (shape, "broken")
    assert figure is not None
    told = {each.text for each in figure.drawn if isinstance(each, Label)}
    assert ("ng 0.400" in told) is (shape == "triangle")
