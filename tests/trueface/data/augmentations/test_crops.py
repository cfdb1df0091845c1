"""Crops and the order of augmentations."""

import random
from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as image_ops

from trueface.data.augmentations.steps import (
    AugmentationSteps,
    Window,
    centre_offset,
    crop_padded,
    crop_relative,
)
from trueface.training.settings import TrainSettings

LENGTH = st.integers(1, 40)


PLACE = st.integers(-20, 50)


WINDOWS = st.builds(Window, top=PLACE, left=PLACE, height=LENGTH, width=LENGTH)


@given(LENGTH, LENGTH, LENGTH)
def test_centre_square_equals_torchvision_centre_crop(height: int, width: int, side: int) -> None:
    image = torch.randint(1, 256, (3, height, width), dtype=torch.uint8)
    top, left = centre_offset(height, width, side)
    found = crop_padded(image, Window(top=top, left=left, height=side, width=side))
    assert torch.equal(found, image_ops.center_crop(image, [side, side]))


@given(WINDOWS, LENGTH, LENGTH)
def test_cut_outside_image_is_black(window: Window, height: int, width: int) -> None:
    image = torch.randint(1, 256, (3, height, width), dtype=torch.uint8)
    around = image_ops.pad(image, [100, 100])
    whole = Window(top=-100, left=-100, height=height + 200, width=width + 200)
    assert torch.equal(crop_padded(image, window), crop_relative(around, whole, window))
    assert crop_padded(image, window).shape == (3, window.height, window.width)


SIDE = st.integers(1, 300)


WHERE: dict[str, Any] = {"data_root": "data", "split_path": "splits", "resize_size": 32}


@given(SIDE, SIDE, st.integers(0, 10_000), st.floats(0.01, 1.5), st.floats(0.1, 6))
def test_crop_equals_torchvision_random_resized_crop(
    height: int, width: int, seed: int, scale: float, ratio: float
) -> None:
    settings = TrainSettings(
        **WHERE, resize_prob=1, resize_scale=[scale / 2, scale], resize_ratio=[ratio / 2, ratio]
    )
    crop = (
        AugmentationSteps.from_settings(settings)
        .sample_params(height, width, random.Random(seed), unshared=True)
        .crop
    )
    assert crop is not None
    rng = random.Random(seed)
    rng.random()
    theirs = v2.RandomResizedCrop(32, settings.resize_scale, settings.resize_ratio)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(rng.getrandbits(63))
        expected = theirs.make_params([torch.zeros(3, height, width)])
    if expected["height"] and expected["width"]:
        assert {name: getattr(crop, name) for name in expected} == expected
    else:  # an empty crop, over which torchvision fails: ours has one row or column
        assert 0 <= crop.top < crop.top + crop.height <= height
        assert 0 <= crop.left < crop.left + crop.width <= width
