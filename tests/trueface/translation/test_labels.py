"""Labels: read by name, flipped one at a time, no image in two parts."""

from pathlib import Path

import PIL.Image
import pytest
import torch

from tests.trueface.translation.build import portraits
from trueface.data.drawn_set import attributes_of
from trueface.data.made_folders import image_names
from trueface.runtime.errors import DataError
from trueface.translation.translator import flipped, labels_of, refuse_shared


def test_labels_are_those_of_the_image_with_that_name(tmp_path: Path) -> None:
    root = portraits(tmp_path) / "A"
    names = image_names(root)[::-1]
    attributes, labels = labels_of(root, names, ("warm_skin", "dark_hair"))
    assert attributes == ("warm_skin", "dark_hair")
    for name, row in zip(names, labels.tolist(), strict=True):
        holds = attributes_of(name.removesuffix(".png"), 42)
        assert row == [float(holds["warm_skin"]), float(holds["dark_hair"])]


def test_each_attribute_is_flipped_alone() -> None:
    labels = torch.tensor([[1.0, 0, 1]])
    assert flipped(labels, ("a", "b", "c")).tolist() == [[[0, 0, 1]], [[1, 1, 1]], [[1, 0, 0]]]
    assert labels.tolist() == [[1, 0, 1]]


def test_a_face_has_one_hair_colour() -> None:
    names = ("Black_Hair", "Blond_Hair", "Brown_Hair", "Male", "Young")
    labels = torch.tensor([[1.0, 0, 0, 1, 0]])
    assert flipped(labels, names)[:, 0].tolist() == [
        [1, 0, 0, 1, 0],  # black already
        [0, 1, 0, 1, 0],
        [0, 0, 1, 1, 0],
        [1, 0, 0, 0, 0],
        [1, 0, 0, 1, 1],
    ]


def test_an_image_in_two_parts_is_an_error_that_names_it(tmp_path: Path) -> None:
    root = portraits(tmp_path)
    refuse_shared(root)
    twice = image_names(root / "A")[0]
    PIL.Image.new("RGB", (32, 32)).save(root / "C" / twice.replace(".png", ".jpg"))
    with pytest.raises(DataError, match=rf"{twice.removesuffix('.png')}\.jpg in A and C"):
        refuse_shared(root)
