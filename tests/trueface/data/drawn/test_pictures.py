"""Photographs made smaller: cropped around the middle, divided by name, with their attributes."""

from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from trueface.data.drawn.drawn_set import make_drawn
from trueface.data.drawn.layout import read_table
from trueface.data.drawn.pictures import small_square
from trueface.data.drawn.settings import DrawSettings
from trueface.data.made.folders import image_names
from trueface.runtime.errors import DataError

COUNT = 10


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    folder = tmp_path / "img_align_celeba"
    folder.mkdir()
    rows = []
    for number in range(1, COUNT + 1):
        pixels = np.full((24, 20, 3), number * 20, np.uint8)
        PIL.Image.fromarray(pixels).save(folder / f"{number:06d}.jpg")
        rows.append(f"{number:06d}.jpg  {1 if number % 2 else -1} -1")
    text = "\n".join([str(COUNT), "Male Young", *rows])
    (tmp_path / "list_attr_celeba.txt").write_text(text + "\n")
    return folder


def made_of(folder: Path, **given: object) -> Path:
    root = folder.parent / "made"
    settings = DrawSettings.model_validate(
        {"data_root": "made", "content": "resized", "source": "s", "images": 0, "size": 8}
        | {"crop": 16, **given}
    )
    make_drawn(root, settings, source=folder, attributes=folder.parent / "list_attr_celeba.txt")
    return root


def test_each_photograph_keeps_its_own_attributes(photographs: Path) -> None:
    root = made_of(photographs)
    counts = {}
    for part in "ABC":
        names = image_names(root / part)
        counts[part] = len(names)
        table = read_table(root / part / "attributes.csv")
        for name in names:
            number = int(name.removesuffix(".png"))
            assert table.of([name]) == [[number % 2, 0]]
            with PIL.Image.open(root / part / name) as picture:
                seen = np.array(picture)
            assert seen.shape == (8, 8, 3)
            assert abs(int(seen[4, 4, 0]) - number * 20) <= 2
    assert counts == {"A": 7, "B": 2, "C": 1}


def test_the_crop_is_around_the_middle(tmp_path: Path) -> None:
    pixels = np.zeros((30, 20, 3), np.uint8)
    pixels[9:21, 4:16] = 255
    PIL.Image.fromarray(pixels).save(tmp_path / "a.png")
    assert (small_square(tmp_path / "a.png", crop=12, size=6) == 255).all()
    assert (small_square(tmp_path / "a.png", crop=0, size=20)[:, 0] == 0).all()


def test_a_photograph_smaller_than_the_crop_is_named(photographs: Path) -> None:
    with pytest.raises(DataError, match=r"000001\.jpg has 20x24 pixels, less than crop: 21"):
        made_of(photographs, crop=21)


def test_a_photograph_without_attributes_is_named(photographs: Path) -> None:
    PIL.Image.new("RGB", (20, 24)).save(photographs / "stranger.jpg")
    with pytest.raises(DataError, match=r"no row of stranger\.jpg"):
        made_of(photographs)


def test_more_photographs_than_there_are_cannot_be_taken(photographs: Path) -> None:
    with pytest.raises(DataError, match="holds 10 photographs, and images is 11"):
        made_of(photographs, images=11)
