from pathlib import Path

import PIL.Image
import pytest
import torch

from tests.trueface.erasing.measures.known_models import prototypes, recogniser
from trueface.erasing.measures.likeness import likeness
from trueface.erasing.measures.sheet import write_sheet


def test_equal_samples_are_alike_and_the_floor_is_that_of_other_noise() -> None:
    images = torch.rand(8, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    features = recogniser().seen(images)[1]
    same = likeness(images, images, features, features, features.flip(0) + 1)
    assert same.ssim == pytest.approx(1)
    assert same.feature_distance == 0
    assert same.frechet == pytest.approx(0, abs=1e-6)
    assert same.frechet_floor == pytest.approx(16)  # the mean of 16 numbers moved by 1
    assert same.n == 8


def test_a_sheet_has_a_row_a_class_and_tiles_without_margins(tmp_path: Path) -> None:
    samples = prototypes()[:, None].repeat(1, 6, 1, 1, 1)
    assert write_sheet(tmp_path / "samples.png", samples) == (3, 4)
    with PIL.Image.open(tmp_path / "samples.png") as picture:
        assert picture.size == (16, 12)
        assert picture.getpixel((0, 0)) == 223  # of a bright row
        assert picture.getpixel((15, 0)) == 223
        assert picture.getpixel((15, 4)) == 32
