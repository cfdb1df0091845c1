import random
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms import v2

from trueface.data.augmentations.steps import AugmentationSteps
from trueface.training.settings import TrainSettings

SIDE = st.integers(1, 300)
WHERE: dict[str, Any] = {"data_root": "data", "split_path": "splits", "resize_size": 32}


@given(SIDE, SIDE, st.integers(0, 10_000), st.floats(0.01, 1.5), st.floats(0.1, 6))
def test_the_crop_is_the_one_that_torchvision_would_choose(
    height: int, width: int, seed: int, scale: float, ratio: float
) -> None:
    settings = TrainSettings(
        **WHERE, resize_prob=1, resize_scale=[scale / 2, scale], resize_ratio=[ratio / 2, ratio]
    )
    crop = (
        AugmentationSteps.of(settings).draw(height, width, random.Random(seed), unshared=True).crop
    )
    assert crop is not None
    chance = random.Random(seed)
    chance.random()
    theirs = v2.RandomResizedCrop(32, settings.resize_scale, settings.resize_ratio)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(chance.getrandbits(63))
        expected = theirs.make_params([torch.zeros(3, height, width)])
    if expected["height"] and expected["width"]:
        assert {name: getattr(crop, name) for name in expected} == expected
    else:  # an empty crop, over which torchvision fails: ours has one row or column
        assert 0 <= crop.top < crop.top + crop.height <= height
        assert 0 <= crop.left < crop.left + crop.width <= width


def test_shared_images_draw_neither_blur_nor_jpeg() -> None:
    settings = TrainSettings(**WHERE, blur_prob=1, jpeg_prob=1, patch_size=8)
    shared = AugmentationSteps.of(settings).draw(40, 40, random.Random(1), unshared=False)
    assert (shared.sigma, shared.quality) == (None, None)
    unshared = AugmentationSteps.of(settings).draw(40, 40, random.Random(1), unshared=True)
    assert (unshared.sigma, unshared.quality) == (0.5, 75)


@pytest.mark.parametrize(("side", "places"), [(8, range(25)), (32, range(1)), (40, range(-8, 1))])
def test_a_patch_lies_in_the_square_or_around_it(side: int, places: range) -> None:
    settings = TrainSettings(**WHERE, patch_size=side)
    found = set()
    for seed in range(300):
        patch = (
            AugmentationSteps.of(settings).draw(64, 64, random.Random(seed), unshared=True).patch
        )
        assert patch is not None
        assert (patch.height, patch.width) == (side, side)
        found |= {patch.top, patch.left}
    assert found == set(places)


def test_without_a_patch_size_there_is_no_patch() -> None:
    settings = TrainSettings(**WHERE)
    assert (
        AugmentationSteps.of(settings).draw(64, 64, random.Random(1), unshared=True).patch is None
    )
