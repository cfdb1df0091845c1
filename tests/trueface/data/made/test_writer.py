"""Folders that jobs make."""

from pathlib import Path

import PIL.Image
import pytest
import torch

from trueface.data.made.folders import image_names, made_folder, read_images, read_made, rounded
from trueface.runtime.errors import DataError, JobError

NAMES = ("1.jpg", "x/2.png")


@pytest.mark.parametrize("channels", [1, 3])
def test_images_come_back_as_they_were_rounded_under_their_names(
    tmp_path: Path, channels: int
) -> None:
    images = torch.rand(2, channels, 5, 6, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with made_folder(tmp_path / "made") as made:
        made.write(NAMES, images)
        made.record({"kind": "purify", "seed": 3})
    names = image_names(tmp_path / "made")
    assert names == ("1.png", "x/2.png")
    read = read_images(tmp_path / "made", names, channels=channels)
    assert torch.equal(read, rounded(images))
    with PIL.Image.open(tmp_path / "made/1.png") as file:
        assert file.mode == ("L" if channels == 1 else "RGB")
    assert read_made(tmp_path / "made") == {"schema": 1, "kind": "purify", "seed": 3}


def test_nothing_is_left_after_an_error_and_what_was_there_stays(tmp_path: Path) -> None:
    with made_folder(tmp_path / "made") as made:
        made.record({"seed": 1})

    def interrupted() -> None:
        with made_folder(tmp_path / "made") as made:
            made.record({"seed": 2})
            raise RuntimeError

    with pytest.raises(RuntimeError):
        interrupted()
    assert read_made(tmp_path / "made")["seed"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_a_new_folder_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    for name in ("old.png", "new.png"):
        with made_folder(tmp_path / "made") as made:
            made.write([name], torch.zeros(1, 3, 4, 4))
    assert image_names(tmp_path / "made") == ("new.png",)


def test_numbers_that_are_not_finite_are_an_error_that_names_the_image(tmp_path: Path) -> None:
    images = torch.zeros(2, 3, 4, 4)
    images[1, 0, 0, 0] = torch.nan
    with (
        pytest.raises(JobError, match=r"x/2\.png became an image with numbers that are not"),
        made_folder(tmp_path / "made") as made,
    ):
        made.write(NAMES, images)


def test_a_folder_without_a_record_is_an_error_that_says_who_writes_it(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"has no made\.json: a job of disrupt, purify or translate"
    ):
        read_made(tmp_path)
