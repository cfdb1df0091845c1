"""Charts of the page, and the pictures made of them."""

import math
import os
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.frontends.screens.chart import MOST, drawable_points, scale_of
from launcher.frontends.web.overview import spark, stacked_bar
from launcher.frontends.web.run_pictures import (
    MOST_OF_A_FOLDER,
    MOST_OF_A_JOB,
    find_pictures,
    open_below,
    parts_of,
    type_of,
)

VALUES = st.lists(st.floats(-MOST, MOST), min_size=1, max_size=20)


@given(VALUES)
def test_every_value_is_within_its_axis(values: list[float]) -> None:
    scale = scale_of(values)
    assert scale.low < scale.high
    assert all(0 <= scale.place(value) <= 1 for value in values)


def test_flat_curve_is_drawn_flat() -> None:
    scale = scale_of([5.0, 5.0])
    assert scale.place(5.0) == pytest.approx(0.5)


def test_non_finite_value_has_no_position() -> None:
    points = [(0.0, 1.0), (1.0, math.nan), (2.0, math.inf), (3.0, -1.0)]
    assert drawable_points(points) == [(0.0, 1.0), (3.0, -1.0)]
    assert drawable_points(points, above_zero=True) == [(0.0, 1.0)]


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
