"""What the headers of image files tell of their class."""

import random
from pathlib import Path

import PIL.Image
import pytest

from trueface.data.image_headers import (
    FORMAT,
    SIZE,
    TABLES,
    read_header,
    sample_headers,
    shortcut,
    told_apart,
)

COUNT = 24  # files of a class


def files(folder: Path, *, real: str, fake: str, quality: int = 75) -> dict[str, int]:
    """Write images of both classes; return file → label."""
    labels = {}
    for label, suffix in ((0, real), (1, fake)):
        for number in range(COUNT):
            path = folder / f"{label}-{number}.{suffix}"
            PIL.Image.new("RGB", (8, 8)).save(path, quality=quality if label else 75)
            labels[str(path)] = label
    return labels


def test_a_class_in_another_format_is_a_shortcut(tmp_path: Path) -> None:
    headers, unreadable = sample_headers(files(tmp_path, real="jpg", fake="png"))
    assert unreadable == 0
    tells = shortcut(headers, FORMAT)
    assert tells is not None
    assert tells.accuracy == pytest.approx(1)
    assert (tells.real, tells.fake) == ("24 × JPEG", "24 × PNG")
    assert tells.sentence == (
        "the file format alone tells fake from real images in 100% of the cases"
    )
    assert shortcut(headers, SIZE) is None
    assert shortcut(headers, TABLES) is None  # one class has none


def test_other_jpeg_tables_are_a_shortcut_and_equal_ones_are_none(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    headers, _ = sample_headers(files(tmp_path / "other", real="jpg", fake="jpg", quality=90))
    assert shortcut(headers, TABLES) is not None
    (tmp_path / "same").mkdir()
    headers, _ = sample_headers(files(tmp_path / "same", real="jpg", fake="jpg"))
    assert shortcut(headers, TABLES) is None


def test_a_file_that_is_no_image_has_no_header(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"no image")
    assert read_header(str(path), 0) is None
    assert sample_headers({str(path): 0}) == ((), 1)


def test_many_sizes_drawn_alike_are_no_difference() -> None:
    draw = random.Random(0)
    reals, fakes = ([str(draw.randrange(10_000)) for _ in range(200)] for _ in range(2))
    assert told_apart(reals, fakes) == pytest.approx(0.5, abs=0.05)


def test_one_value_in_common_does_not_hide_a_difference() -> None:
    assert told_apart(["a"] * 100, ["a"] * 50 + ["b"] * 50) == pytest.approx(0.75)
    assert told_apart(["a"] * 100, ["a"] * 100) == pytest.approx(0.5)
