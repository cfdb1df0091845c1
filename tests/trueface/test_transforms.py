import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from trueface import transforms
from trueface.index import Image
from trueface.settings import TestSettings, TrainSettings
from trueface.transforms import TrainTransform, augment, fixed_crops

WHERE: dict[str, Any] = {"data_root": "data", "split_path": "splits"}


def an_image(name: str = "00000", modifier: str = "pre") -> Image:
    return Image(
        file=str(Path(f"{name}.png")),
        key=f"FFHQ/{name}",
        label=0,
        method="FFHQ",
        modifier=modifier,
    )


def pixels(height: int = 40, width: int = 40, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator)


def lively(**settings: Any) -> TrainSettings:
    every: dict[str, Any] = {
        "resize_prob": 0.5,
        "resize_scale": [0.2, 1.0],
        "resize_ratio": [0.75, 1.33],
        "resize_size": 32,
        "blur_prob": 0.5,
        "blur_sigma": [1e-6, 3],
        "jpeg_prob": 0.5,
        "jpeg_qual": [30, 100],
        "patch_size": 16,
    }
    return TrainSettings(**WHERE, **(every | settings))


def test_an_augmentation_is_a_function_of_seed_image_and_epoch() -> None:
    transform = TrainTransform(settings=lively(), seed=1)
    before = transform(pixels(), an_image(), 3)
    torch.manual_seed(99)
    transform(pixels(), an_image("other"), 3)
    assert torch.equal(transform(pixels(), an_image(), 3), before)


@pytest.mark.parametrize(
    ("seed", "image", "epoch"),
    [
        (2, an_image(), 0),
        (1, an_image("00001"), 0),
        (1, an_image(modifier="fb"), 0),
        (1, an_image(), 1),
    ],
)
def test_another_seed_image_or_epoch_gives_another_augmentation(
    seed: int, image: Image, epoch: int
) -> None:
    settings = lively(resize_prob=1, blur_prob=0, jpeg_prob=0)
    one = TrainTransform(settings=settings, seed=1)(pixels(), an_image(), 0)
    other = TrainTransform(settings=settings, seed=seed)(pixels(), image, epoch)
    assert not torch.equal(one, other)


def test_augmenting_leaves_the_global_generators_alone() -> None:
    torch.manual_seed(1)
    random.seed(1)
    before = torch.get_rng_state(), random.getstate()
    augment(pixels(), lively(resize_prob=1), random.Random(1), unshared=True)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]


def test_shared_images_get_no_blur_and_no_compression() -> None:
    settings = TrainSettings(
        **WHERE, resize_size=40, blur_prob=1, blur_sigma=3, jpeg_prob=1, jpeg_qual=30
    )
    shared = TrainTransform(settings=settings, seed=1)(pixels(), an_image(modifier="fb"), 0)
    unshared = TrainTransform(settings=settings, seed=1)(pixels(), an_image(), 0)
    assert shared.flatten().sort().values.equal(pixels().flatten().sort().values)
    assert not unshared.flatten().sort().values.equal(pixels().flatten().sort().values)


def test_a_flip_probability_of_zero_turns_nothing() -> None:
    plain = TrainSettings(**WHERE, resize_size=40, flip_prob=0.0)
    seen = [augment(pixels(), plain, random.Random(n), unshared=True) for n in range(20)]
    assert all(torch.equal(image, pixels()) for image in seen)


def test_without_probabilities_only_flips_change_an_image() -> None:
    image = pixels()
    settings = TrainSettings(**WHERE, resize_size=40)
    seen = {
        bytes(augment(image, settings, random.Random(seed), unshared=True).numpy().tobytes())
        for seed in range(40)
    }
    flips = [image, image.flip(1), image.flip(2), image.flip(1, 2)]
    assert seen == {flip.contiguous().numpy().tobytes() for flip in flips}


@pytest.mark.parametrize("side", [20, 32, 70])
def test_a_training_image_has_the_side_of_the_patch(side: int) -> None:
    settings = lively(patch_size=side)
    assert augment(pixels(), settings, random.Random(1), unshared=True).shape == (3, side, side)


def test_a_smaller_image_is_padded_with_black() -> None:
    settings = TestSettings(**WHERE, resize_size=50)
    out = transforms.test_transform(settings)(pixels(), an_image(), 0)
    assert out.shape == (3, 50, 50)
    assert torch.equal(out[:, 5:45, 5:45], pixels())
    assert int(out[:, :5].sum()) == 0


def test_a_test_sees_the_centre_and_nothing_random() -> None:
    transform = transforms.test_transform(TestSettings(**WHERE, resize_size=20, patch_size=8))
    assert torch.equal(transform(pixels(), an_image(), 0), pixels()[:, 10:30, 10:30])
    assert torch.equal(transform(pixels(), an_image("other"), 7), pixels()[:, 10:30, 10:30])


def test_validation_sees_what_a_test_sees() -> None:
    given: dict[str, Any] = {"resize_size": 32, "patch_size": 16, "test_crops": 4}
    assert transforms.test_transform(lively(**given)) == transforms.test_transform(
        TestSettings(**WHERE, **given)
    )


@pytest.mark.parametrize(
    ("count", "places"),
    [
        (1, [(12, 12)]),
        (2, [(12, 0), (12, 24)]),
        (4, [(0, 0), (0, 24), (24, 0), (24, 24)]),
        (6, [(0, 0), (0, 12), (0, 24), (24, 0), (24, 12), (24, 24)]),
    ],
)
def test_fixed_patches_span_the_image(count: int, places: list[tuple[int, int]]) -> None:
    crops = fixed_crops(pixels(), count, 16)
    assert crops.shape == (count, 3, 16, 16)
    for crop, (top, left) in zip(crops, places, strict=True):
        assert torch.equal(crop, pixels()[:, top : top + 16, left : left + 16])
