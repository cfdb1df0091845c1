"""Charts of the page, and the pictures made of them."""

import math
import os
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.screens.chart import MOST, Scale, finite, scale_of
from launcher.web.charts import (
    Series,
    legend,
    line_chart,
    smooth,
    spark,
    stacked_bar,
    thin,
    ticks,
)
from launcher.web.curves import smoothing_of, stem_of
from launcher.web.page import Address
from launcher.web.run_pictures import (
    MOST_OF_A_FOLDER,
    MOST_OF_A_JOB,
    find_pictures,
    open_below,
    parts_of,
    type_of,
)

EVIL = '<script>alert("1")</script>'


def a_curve(name: str = "loss", **changes: object) -> Series:
    points = [(float(x), 1 / (x + 1)) for x in range(20)]
    return Series(**{"name": name, "points": points} | changes)  # type: ignore[arg-type]  # as the test says


def draw_chart(*curves: Series, **how: Any) -> Element:
    return ElementTree.fromstring(str(line_chart(curves, title="loss", **how)))


def test_chart_has_a_line_per_curve_and_axis_numbers() -> None:
    svg = draw_chart(a_curve(), a_curve("val_loss"))
    assert [line.get("data-name") for line in svg.iter("polyline")] == ["loss", "val_loss"]
    ticks = [text.text for text in svg.iter("text")]
    assert {"0.2", "0.8", "15"} <= set(ticks)


def test_smoothed_curve_is_drawn_over_the_original() -> None:
    svg = draw_chart(a_curve(), smoothing=0.8)
    behind, before = svg.iter("polyline")
    assert "behind" in (behind.get("class") or "")
    assert behind.get("points") != before.get("points")


def test_curve_of_one_point_is_visible() -> None:
    svg = draw_chart(a_curve(points=[(3.0, 1.0)]))
    assert len(list(svg.iter("circle"))) == 1


def test_chart_without_numbers_is_empty() -> None:
    assert not line_chart([a_curve(points=[(0.0, math.nan)])], title="loss")
    assert not line_chart([a_curve(points=[(0.0, -1.0)])], title="loss", log=True)


def test_names_are_escaped() -> None:
    chart = line_chart([a_curve(EVIL)], title=EVIL) + legend([a_curve(EVIL)])
    assert "<script" not in chart
    assert "&lt;script&gt;" in chart


def test_numbers_near_zero_are_drawn_on_both_axes() -> None:
    points = [(0.0, 1e-323), (1.0, 5e-324), (2.0, 1.0), (3.0, 0.0)]
    for log in (False, True):
        for some in (points, points[:2], points[1:2]):
            line_chart([a_curve(points=some)], title="loss", log=log)
    only_tiny = line_chart([a_curve(points=points[:2])], title="loss")
    assert len(list(ElementTree.fromstring(str(only_tiny)).iter("polyline"))) == 1


def test_curve_that_starts_late_uses_the_whole_width() -> None:
    late = [(1e7 + x, float(x)) for x in range(100)]
    svg = draw_chart(a_curve(points=late))
    (line,) = svg.iter("polyline")
    across = [float(place.partition(",")[0]) for place in (line.get("points") or "").split()]
    assert max(across) - min(across) > 500
    assert {"10,000,020", "10,000,040"} <= {text.text for text in svg.iter("text")}


def test_small_value_next_to_a_large_one_is_readable() -> None:
    points = [(0.0, 100.0), (1.0, 0.0), (2.0, 0.02)]
    svg = draw_chart(a_curve(points=points))
    (line,) = svg.iter("polyline")
    _, zero, small = (float(at.partition(",")[2]) for at in (line.get("points") or "").split())
    assert small < zero


VALUES = st.lists(st.floats(-MOST, MOST), min_size=1, max_size=20)


@given(VALUES, st.booleans())
def test_every_value_is_within_its_axis(values: list[float], log: bool) -> None:
    scale = scale_of(values, log=log)
    assert scale.low < scale.high
    assert all(0 <= scale.place(value) <= 1 for value in values)


@given(VALUES, st.booleans(), st.integers(2, 10))
def test_axis_has_a_few_ordered_numbers(values: list[float], log: bool, most: int) -> None:
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


def test_values_not_above_zero_need_a_linear_axis() -> None:
    assert not scale_of([0, -1], log=True).log
    assert scale_of([0, 1, 10], log=True).low == 1


def test_flat_curve_is_drawn_flat() -> None:
    scale = scale_of([5.0, 5.0])
    assert scale.place(5.0) == pytest.approx(0.5)


def test_non_finite_value_has_no_position() -> None:
    points = [(0.0, 1.0), (1.0, math.nan), (2.0, math.inf), (3.0, -1.0)]
    assert finite(points) == [(0.0, 1.0), (3.0, -1.0)]
    assert finite(points, above_zero=True) == [(0.0, 1.0)]


def test_smoothing_starts_at_the_first_value_and_lags() -> None:
    points = [(0.0, 4.0), (1.0, 0.0), (2.0, 0.0)]
    values = [y for _, y in smooth(points, 0.5)]
    assert values[0] == 4.0
    assert values[1] == pytest.approx(4 * 0.25 / 0.75)
    assert 0 < values[2] < values[1]


def test_zero_weight_does_not_smooth() -> None:
    points = [(0.0, 4.0), (1.0, -2.0)]
    assert smooth(points, 0.0) == points


def test_thinned_curve_keeps_ends_and_peaks() -> None:
    points = [(float(x), math.sin(x / 50)) for x in range(10_000)]
    points[4321] = (4321.0, 9.0)
    points[777] = (777.0, -9.0)
    kept = thin(points, 300)
    assert 290 < len(kept) <= 300
    assert kept[0] == points[0]
    assert kept[-1] == points[-1]
    assert {(4321.0, 9.0), (777.0, -9.0)} <= set(kept)
    assert [x for x, _ in kept] == sorted(x for x, _ in kept)


def test_short_curve_is_not_thinned() -> None:
    points = [(0.0, 1.0), (1.0, 2.0)]
    assert thin(points, 10) == points


@pytest.mark.parametrize(
    ("metric", "stem"),
    [
        ("loss", ("loss", "")),
        ("val_loss", ("loss", "val")),
        ("validation/auc", ("auc", "validation")),
        ("loss.train", ("loss", "train")),
        ("Test_EER", ("EER", "test")),
        ("train", ("train", "")),
        ("evaluated", ("evaluated", "")),
    ],
)
def test_dataset_split_is_read_from_the_metric_name(metric: str, stem: tuple[str, str]) -> None:
    assert stem_of(metric) == stem


@pytest.mark.parametrize("text", ["nan", "-1", "1", "1e9", "", "much"])
def test_invalid_smoothing_does_not_smooth(text: str) -> None:
    address = Address(path="curves", query=(("smooth", text), ("scale", "log")))
    assert smoothing_of(address) == 0


def test_bar_segments_are_adjacent_and_within_the_bar() -> None:
    bar = ElementTree.fromstring(
        str(stacked_bar((("ours", 0.5), ("others", 0.0), ("promised", 0.9)), "a <note>"))
    )
    pieces = [(rect.get("class"), rect.get("x"), rect.get("width")) for rect in bar.iter("rect")]
    assert pieces == [("ours", "0.00", "50.00"), ("promised", "50.00", "50.00")]
    assert bar.get("aria-label") == "a <note>"


def test_sparkline_needs_two_values() -> None:
    assert not spark([0.5])
    assert len(str(spark([0.0, 2.0, 0.5])).split(",")) == 4


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    (folder / "net").mkdir(parents=True)
    return folder


def find_paths(**folders: Path) -> list[str]:
    return [f"{each.folder}/{each.path}" for each in find_pictures(folders).pictures]


def test_pictures_near_the_top_are_found_first(folder: Path) -> None:
    # a plot is one picture, whether or not it was drawn as PNG for papers, too
    drawings = ("a.svg", "a.png", "a.pdf")
    for name in (
        "net/preview.png",
        "z.JPG",
        *drawings,
        "notes.txt",
        "net/.hidden.png",
        "page.html",
    ):
        (folder / name).write_bytes(b"x")
    assert find_paths(run=folder) == ["run/a.svg", "run/z.JPG", "run/net/preview.png"]


def test_links_and_pipes_are_not_pictures(folder: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"x")
    (folder / "link.png").symlink_to(secret)
    (folder / "out").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe.png")
    assert find_paths(run=folder) == []


@pytest.mark.parametrize(
    "path", ["../secret.png", "net/../../secret.png", "/etc/passwd", "net//a.png", "", ".", "a\0b"]
)
def test_path_outside_the_folder_is_rejected(path: str) -> None:
    with pytest.raises(ValueError, match="not a path below"):
        parts_of(path)


def test_output_that_is_a_picture_is_found_alone(folder: Path) -> None:
    for name in ("plot.png", "other.png"):
        (folder / name).write_bytes(b"x")
    output = folder / "plot.png"
    assert find_paths(**{"output-3-0": output}) == ["output-3-0/plot.png"]
    with open_below(output, "plot.png") as (file, _):
        assert file.read() == b"x"
    with pytest.raises(OSError, match="directory"), open_below(output, "other.png"):
        pass


def test_dataset_folder_does_not_fill_the_page(folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for number in range(40):
        (folder / f"{number:02}.png").write_bytes(b"x")
        (data / f"{number:02}.png").write_bytes(b"x")
    gallery = find_pictures({"run": folder, "output-1-0": data})
    by_folder = [picture.folder for picture in gallery.pictures]
    assert by_folder.count("run") == MOST_OF_A_FOLDER
    assert by_folder.count("output-1-0") == MOST_OF_A_JOB
    assert gallery.left_out == 80 - MOST_OF_A_FOLDER - MOST_OF_A_JOB
    assert gallery.pictures[0].job is None
    assert gallery.pictures[-1].job == 1


def test_missing_folder_has_no_pictures(tmp_path: Path) -> None:
    assert find_paths(run=tmp_path / "none") == []


def test_names_that_no_url_can_contain_are_left_out(folder: Path) -> None:
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff.png")).write_bytes(b"x")
    (folder / "a\nb.png").write_bytes(b"x")
    assert find_paths(run=folder) == []


def test_only_pictures_have_a_type() -> None:
    assert type_of("a/B.PNG") == "image/png"
    assert [type_of(name) for name in ("page.html", "png", "a.png.py", "passwd")] == [""] * 4
