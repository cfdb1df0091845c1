import io
import random
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as image_ops

from trueface.data.augmentations.steps import AugmentationSteps
from trueface.data.index import Image
from trueface.data.loading import transforms
from trueface.data.loading.transforms import TrainTransform, apply_augmentation, fixed_crops
from trueface.data.settings import AugmentationSettings, DataSettings, TestSettings
from trueface.training.settings import TrainSettings

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
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=rng)


def all_random_settings(**settings: Any) -> TrainSettings:
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


def augment(
    image: Tensor, settings: TrainSettings, rng: random.Random, *, unshared: bool
) -> Tensor:
    height, width = image.shape[-2:]
    parameters = AugmentationSteps.from_settings(settings).sample_params(
        height, width, rng, unshared=unshared
    )
    return apply_augmentation(image, parameters, settings.resize_size)


def augment_whole_image(
    image: Tensor, settings: TrainSettings, rng: random.Random, *, unshared: bool
) -> Tensor:
    """Return what `augment` shall, step by step on the whole image: slow, and easy to believe."""
    size, side = settings.resize_size, settings.patch_size
    if rng.random() < settings.resize_prob:
        crop = v2.RandomResizedCrop(size, settings.resize_scale, settings.resize_ratio)
        with torch.random.fork_rng(devices=()):
            torch.default_generator.manual_seed(rng.getrandbits(63))
            image = crop(image)
    image = image_ops.center_crop(image, [size, size])
    if unshared and rng.random() < settings.blur_prob:
        sigma = rng.uniform(*settings.blur_sigma)
        image = image_ops.gaussian_blur(image, [15, 15], [sigma, sigma])
    if unshared and rng.random() < settings.jpeg_prob:
        file = io.BytesIO()
        quality = rng.randint(*settings.jpeg_qual)
        PIL.Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, "JPEG", quality=quality)
        with PIL.Image.open(file) as coded:
            image = torch.from_numpy(np.array(coded)).permute(2, 0, 1)
    if rng.random() < settings.flip_prob:
        image = image_ops.horizontal_flip(image)
    if rng.random() < settings.flip_prob:
        image = image_ops.vertical_flip(image)
    if side > 0:
        border = max(0, side - size)
        image = image_ops.pad(image, [border, border])
        top, left = (rng.randint(0, length - side) for length in image.shape[-2:])
        image = image[:, top : top + side, left : left + side]
    return image


SIDES = st.integers(1, 90)
PROBABILITIES = st.sampled_from([0.0, 0.5, 1.0])


@st.composite
def settings_of_any_kind(draw: st.DrawFn) -> TrainSettings:
    def span(low: float, high: float) -> list[float]:
        return sorted([draw(st.floats(low, high)), draw(st.floats(low, high))])

    size = draw(st.integers(8, 90))  # the blur's reflection needs 8 pixels
    return all_random_settings(
        resize_prob=draw(PROBABILITIES),
        resize_scale=span(0.01, 1.5),
        resize_ratio=span(0.2, 5),
        resize_size=size,
        blur_prob=draw(PROBABILITIES),
        blur_sigma=span(1e-6, 4),
        jpeg_prob=draw(PROBABILITIES),
        jpeg_qual=sorted([draw(st.integers(1, 100)), draw(st.integers(1, 100))]),
        flip_prob=draw(PROBABILITIES),
        patch_size=draw(st.just(-1) | st.integers(1, size) | SIDES),
    )


@given(settings_of_any_kind(), SIDES, SIDES, st.integers(0, 999), st.booleans(), st.booleans())
def test_evaluating_only_the_patch_gives_same_bits(
    settings: TrainSettings, height: int, width: int, seed: int, unshared: bool, smooth: bool
) -> None:
    narrowest, widest = settings.resize_ratio
    assume(round(width / narrowest) > 0)  # else torchvision's own crop may be empty
    assume(round(height * widest) > 0)
    image = pixels(height, width, seed)
    if smooth:  # noise hides what JPEG does to colours
        image = torch.arange(3 * height * width).view(3, height, width).div(7).to(torch.uint8)
    in_memory_as_decoded = image.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    expected = augment_whole_image(image, settings, random.Random(seed), unshared=unshared)
    for given_image in (image, in_memory_as_decoded):
        found = augment(given_image, settings, random.Random(seed), unshared=unshared)
        assert torch.equal(found, expected)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 40), (40, 1), (2, 1)])
@pytest.mark.parametrize("ratio", [(0.01, 0.02), (3, 3), (50, 99)])
def test_one_pixel_wide_image_can_be_cropped_at_any_ratio(
    height: int, width: int, ratio: tuple[float, float]
) -> None:
    settings = all_random_settings(
        resize_prob=1.0, resize_ratio=ratio, resize_size=16, patch_size=8
    )
    found = augment(pixels(height, width), settings, random.Random(0), unshared=True)
    assert found.shape == (3, 8, 8)


@given(settings_of_any_kind(), SIDES, SIDES, st.integers(0, 999))
def test_rows_below_needed_rows_change_nothing(
    settings: TrainSettings, height: int, width: int, epoch: int
) -> None:
    transform = TrainTransform(settings=settings, seed=1)
    image = pixels(height, width)
    expected = transform(image, an_image(), epoch)
    bottom = transform.rows_needed(height, width, an_image(), epoch)
    assert 0 <= bottom <= height
    image[:, bottom:] = 0
    assert torch.equal(transform(image, an_image(), epoch), expected)


@pytest.mark.parametrize(("height", "bottom"), [(40, 30), (41, 30), (20, 20), (10, 10)])
def test_test_transform_needs_no_row_below_centre(height: int, bottom: int) -> None:
    transform = transforms.test_transform(TestSettings(**WHERE, resize_size=20))
    assert transform.rows_needed(height, 40, an_image(), 0) == bottom
    spoilt = pixels(height)
    spoilt[:, bottom:] = 0
    assert torch.equal(transform(spoilt, an_image(), 0), transform(pixels(height), an_image(), 0))


def test_augmentation_repeats_after_its_cycle() -> None:
    settings = all_random_settings(augment_cycle=3)
    transform = TrainTransform(settings=settings, seed=1)
    seen = [transform(pixels(), an_image(), epoch) for epoch in range(7)]
    for epoch in range(4):
        assert torch.equal(seen[epoch], seen[epoch + 3])
    assert not torch.equal(seen[0], seen[1])
    endless = TrainTransform(settings=all_random_settings(), seed=1)
    assert torch.equal(seen[0], endless(pixels(), an_image(), 0))
    assert not torch.equal(endless(pixels(), an_image(), 0), endless(pixels(), an_image(), 3))


def test_augmentation_is_a_function_of_seed_image_and_epoch() -> None:
    transform = TrainTransform(settings=all_random_settings(), seed=1)
    before = transform(pixels(), an_image(), 3)
    torch.manual_seed(99)
    transform(pixels(), an_image("other"), 3)
    assert torch.equal(transform(pixels(), an_image(), 3), before)


def test_augmentation_keeps_global_generators_unchanged() -> None:
    torch.manual_seed(1)
    random.seed(1)
    before = torch.get_rng_state(), random.getstate()
    augment(pixels(), all_random_settings(resize_prob=1), random.Random(1), unshared=True)
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


def test_images_without_modifier_are_blurred_and_compressed_like_originals() -> None:
    for step in ({"blur_prob": 1.0}, {"jpeg_prob": 1.0}):
        transform = TrainTransform(
            settings=all_random_settings(flip_prob=0, resize_prob=0, **step), seed=1
        )
        none, pre = (transform(pixels(), an_image(modifier=m), 0) for m in ("none", "pre"))
        shared = transform(pixels(), an_image(modifier="fb"), 0)
        assert not none.equal(shared)
        assert not pre.equal(shared)


def test_test_transform_is_centre_crop_without_randomness() -> None:
    transform = transforms.test_transform(TestSettings(**WHERE, resize_size=20, patch_size=8))
    assert torch.equal(transform(pixels(), an_image(), 0), pixels()[:, 10:30, 10:30])
    assert torch.equal(transform(pixels(), an_image("other"), 7), pixels()[:, 10:30, 10:30])


def test_validation_transform_equals_test_transform() -> None:
    given: dict[str, Any] = {"resize_size": 32, "patch_size": 16, "test_crops": 4}
    assert transforms.test_transform(all_random_settings(**given)) == transforms.test_transform(
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
def test_fixed_patches_cover_the_image(count: int, places: list[tuple[int, int]]) -> None:
    crops = fixed_crops(pixels(), count, 16)
    assert crops.shape == (count, 3, 16, 16)
    for crop, (top, left) in zip(crops, places, strict=True):
        assert torch.equal(crop, pixels()[:, top : top + 16, left : left + 16])


@pytest.mark.parametrize(
    ("given", "period"),
    [
        ({}, 1),
        ({"flip_prob": 0.5}, 0),
        ({"flip_prob": 0.5, "augment_cycle": 3}, 3),
        ({"patch_size": 16}, 0),
        ({"blur_prob": 0.1}, 0),
        ({"jpeg_prob": 0.1}, 0),
        ({"resize_prob": 0.1}, 0),
        ({"augment_cycle": 3}, 1),
        ({"test_crops": 2}, 1),  # a training sees other crops
    ],
)
def test_transform_reports_number_of_distinct_epochs(given: dict[str, Any], period: int) -> None:
    settings = TrainSettings(**WHERE, **({"flip_prob": 0} | given))
    transform_id = TrainTransform(settings=settings, seed=1).id
    assert transform_id.period == period
    assert transform_id.is_test == (period == 1 and "test_crops" not in given)


def test_every_augmentation_setting_is_in_identity() -> None:
    settings = all_random_settings()
    identity = {
        **TrainTransform(settings=settings, seed=1).id.identity,
        **transforms.test_transform(settings).id.identity,
    }
    own = set(AugmentationSettings.model_fields) - set(DataSettings.model_fields)
    assert set(identity) == own - {"seed"}
