"""The images that a diffuser learns from."""

from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from trueface.data.made_folders import digest_of_images as digest
from trueface.data.made_folders import load_images
from trueface.diffusion.settings import names_of_classes, training_folder
from trueface.diffusion.training import load_classes
from trueface.runtime.errors import DataError


def picture(path: Path, level: int, side: int = 8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(np.full((side, side, 3), level, dtype=np.uint8)).save(path)


def test_images_come_by_name_with_the_levels_of_their_files(tmp_path: Path) -> None:
    for level in (200, 3, 77):
        picture(tmp_path / f"{level:03}.png", level)
    images = load_images(tmp_path, size=8, channels=3, cpus=2)
    assert images.shape == (3, 3, 8, 8)
    assert images[:, 0, 0, 0].tolist() == [3, 77, 200]
    assert load_images(tmp_path, size=8, channels=1).shape == (3, 1, 8, 8)


def test_images_of_another_size_or_none_are_errors_that_name_them(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no image"):
        load_images(tmp_path, size=8, channels=3)
    picture(tmp_path / "a.png", 1)
    picture(tmp_path / "b.png", 1, side=9)
    with pytest.raises(DataError, match=r"b\.png has 9x9 pixels and not 8x8"):
        load_images(tmp_path, size=8, channels=3)


def test_each_folder_is_a_class(tmp_path: Path) -> None:
    for name, level in (("disc", 5), ("cross", 9), (".hidden", 1)):
        picture(tmp_path / "train" / name / "0.png", level)
    folder = training_folder(tmp_path, "classes:all")
    assert folder == tmp_path / "train"
    assert training_folder(tmp_path, "images:all") == tmp_path
    assert training_folder(tmp_path, "images:A") == tmp_path / "A"
    images, labels, names = load_classes(folder, size=8, channels=1)
    assert names == ("cross", "disc")
    assert images[:, 0, 0, 0].tolist() == [9, 5]
    assert labels.tolist() == [0, 1]
    assert digest(images, labels, names) != digest(images, labels.flip(0), names)


def test_fewer_than_two_classes_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folder of a class"):
        names_of_classes(tmp_path)
    (tmp_path / "cross").mkdir()
    with pytest.raises(DataError, match="1 folder of a class"):
        names_of_classes(tmp_path)
    with pytest.raises(DataError, match="there is no folder"):
        names_of_classes(tmp_path / "train")
