from pathlib import Path

import PIL.Image
import pytest

from trueface.data.image_headers import ImageSize, Learned, read_size


def images(folder: Path, *sides: int) -> list[str]:
    files = []
    for number, side in enumerate(sides):
        file = folder / f"{number}.png"
        PIL.Image.new("L", (side + 7, side)).save(file)
        files.append(str(file))
    return files


def test_the_shorter_sides_of_a_sample_are_told(tmp_path: Path) -> None:
    (tmp_path / "no.png").write_text("no image")
    learned = Learned.of([*images(tmp_path, 30, 10, 20), str(tmp_path / "no.png")])
    assert learned == Learned(smallest=10, median=20, largest=30)
    assert Learned.from_json(learned.as_json()) == learned
    assert Learned.of([str(tmp_path / "no.png")]) is None


@pytest.mark.parametrize("content", [None, 3, {}, {"smallest": 1, "median": 0, "largest": "4"}])
def test_what_is_no_record_of_sizes_is_none(content: object) -> None:
    assert Learned.from_json(content) is None  # type: ignore[arg-type]  # as read from a file


def test_only_sizes_far_from_the_learned_ones_are_unlike(tmp_path: Path) -> None:
    learned = Learned(smallest=100, median=150, largest=200)
    files = [Path(file) for file in images(tmp_path, 66, 67, 150, 300, 301)]
    sizes = [size for file in files if (size := read_size(file))]
    assert [learned.unlike(size) for size in sizes] == [True, False, False, False, True]
    assert sizes[0] == ImageSize(73, 66)
