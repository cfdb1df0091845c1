"""What corruptions do to pixels."""

import io

import numpy as np
import PIL.Image
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from trueface.corruptions.chain import NO_CHAIN, Chain, versions
from trueface.corruptions.registry import SPECS

EACH = (
    "blur1", "brightness1.3", "contrast0.6", "crop0.8", "gamma1.3", "jpeg50", "median1", "noise4",
    "resize0.5", "saturation0", "screenshot", "share", "sharpen1", "webp60", "half", "quarter",
)  # fmt: skip
PROGRAMS = {"h264-"}  # kinds that start a program: see test_programs


@pytest.fixture(scope="module")
def photo() -> Tensor:
    """Return a smooth image with a little texture, (3, 48, 40) uint8."""
    down, across = torch.meshgrid(torch.arange(48), torch.arange(40), indexing="ij")
    smooth = torch.stack([down * 4, across * 5, 120 + 40 * torch.sin(down / 5 + across / 3)])
    texture = torch.randint(-8, 9, smooth.shape, generator=torch.Generator().manual_seed(0))
    return (smooth + texture).clamp(0, 255).to(torch.uint8)


def distance(first: Tensor, second: Tensor) -> float:
    return (first.double() - second.double()).square().mean().sqrt().item()


def test_every_kind_is_among_those_that_are_tested() -> None:
    assert {Chain.parse(text).steps[0].name for text in EACH} | PROGRAMS == set(SPECS)


@pytest.mark.parametrize("text", EACH)
def test_a_corruption_changes_pixels_keeps_the_size_and_spares_its_input(
    text: str, photo: Tensor
) -> None:
    before = photo.clone()
    corrupted = Chain.parse(text)(photo, "StyleGAN/a")
    assert (corrupted.shape, corrupted.dtype) == (photo.shape, torch.uint8)
    assert torch.equal(photo, before)
    assert 0.5 < distance(corrupted, photo) < 80


@pytest.mark.parametrize("text", EACH)
def test_the_same_name_gives_the_same_pixels(text: str, photo: Tensor) -> None:
    assert torch.equal(Chain.parse(text)(photo, "a"), Chain.parse(text)(photo, "a"))


@pytest.mark.parametrize("text", ["noise4", "share", "screenshot", "crop0.8"])
def test_another_name_draws_anew(text: str, photo: Tensor) -> None:
    assert not torch.equal(Chain.parse(text)(photo, "a"), Chain.parse(text)(photo, "b"))


@pytest.mark.parametrize("text", EACH)
def test_an_image_of_one_pixel_passes(text: str) -> None:
    assert Chain.parse(text)(torch.full((3, 1, 1), 9, dtype=torch.uint8), "a").shape == (3, 1, 1)


@pytest.mark.parametrize("quality", [1, 50, 100])
def test_jpeg_is_what_pillow_reads_from_what_pillow_writes(quality: int, photo: Tensor) -> None:
    file = io.BytesIO()
    PIL.Image.fromarray(photo.permute(1, 2, 0).numpy()).save(file, "JPEG", quality=quality)
    expected = np.array(PIL.Image.open(file))
    corrupted = Chain.parse(f"jpeg{quality}")(photo, "a")
    assert np.array_equal(corrupted.permute(1, 2, 0).numpy(), expected)


def test_filters_are_those_of_scipy(photo: Tensor) -> None:
    channels = [channel.double().numpy() for channel in photo]
    blurred = [
        ndimage.gaussian_filter(each, 1.5, mode="mirror", truncate=10 / 3) for each in channels
    ]
    median = [ndimage.median_filter(each, 5, mode="nearest") for each in channels]
    for text, expected in (("blur1.5", np.rint(blurred)), ("median2", np.stack(median))):
        differs = np.abs(Chain.parse(text)(photo, "a").numpy() - expected)
        assert differs.max() <= 1
        assert (differs > 0).mean() < 0.002  # of a half, rounding may go either way


def test_levels_change_as_their_formulas_say(photo: Tensor) -> None:
    levels = photo.double().numpy()
    grey = levels.transpose(1, 2, 0) @ (0.299, 0.587, 0.114)
    mean = np.rint(grey.mean())
    for text, expected in (
        ("gamma2.2", 255 * (levels / 255) ** 2.2),
        ("brightness0.8", 0.8 * levels),
        ("contrast1.5", mean + 1.5 * (levels - mean)),
        ("saturation2", grey + 2 * (levels - grey)),
    ):
        differs = np.abs(Chain.parse(text)(photo, "a").numpy() - expected.clip(0, 255))
        assert differs.max() < 2.1, text  # Pillow rounds down, and greys are rounded before


def test_steps_follow_each_other_in_the_order_of_writing(photo: Tensor) -> None:
    blurred = Chain.parse("blur1")(photo, "a")
    assert torch.equal(Chain.parse("blur1+jpeg50")(photo, "a"), Chain.parse("jpeg50")(blurred, "a"))
    assert not torch.equal(
        Chain.parse("blur1+jpeg50")(photo, "a"), Chain.parse("jpeg50+blur1")(photo, "a")
    )


def test_two_steps_of_noise_are_drawn_apart() -> None:
    grey = torch.full((3, 64, 64), 128, dtype=torch.uint8)
    twice = Chain.parse("noise4+noise4")(grey, "a").double() - 128
    assert twice.std().item() == pytest.approx(4 * 2**0.5, rel=0.03)


def test_noise_stops_at_black_and_white() -> None:
    for level, beside in ((0, 100), (255, 155)):
        plain = torch.full((3, 64, 64), level, dtype=torch.uint8)
        noise = Chain.parse("noise20")(plain, "a").int()
        assert (noise - level).abs().max() <= abs(beside - level), "no level begins anew"
        assert (noise == level).double().mean() == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("sigma", [2, 20])
def test_noise_has_the_deviation_that_it_says(sigma: int) -> None:
    grey = torch.full((3, 64, 64), 128, dtype=torch.uint8)
    noise = Chain.parse(f"noise{sigma}")(grey, "a").double() - 128
    assert noise.std().item() == pytest.approx(sigma, rel=0.03)
    assert abs(noise.mean().item()) < 4 * sigma / (3 * 64 * 64) ** 0.5


def test_a_blur_of_a_point_is_a_gaussian() -> None:
    point = torch.zeros((3, 31, 31), dtype=torch.uint8)
    point[:, 15, 15] = 255
    blurred = Chain.parse("blur1")(point, "a")[0].double()
    assert blurred[15, 15].item() == round(255 / (2 * np.pi))
    ratio = blurred[15, 16].item() / blurred[15, 15].item()
    assert ratio == pytest.approx(np.exp(-0.5), abs=0.02)


@pytest.mark.parametrize("text", ["blur2", "resize0.5", "median1", "sharpen1", "crop0.5"])
def test_what_filters_leaves_a_constant_image_alone(text: str) -> None:
    grey = torch.full((3, 32, 32), 77, dtype=torch.uint8)
    assert torch.equal(Chain.parse(text)(grey, "a"), grey)


def test_gamma_of_one_and_no_chain_change_nothing(photo: Tensor) -> None:
    assert torch.equal(Chain.parse("gamma1")(photo, "a"), photo)
    assert not NO_CHAIN
    assert NO_CHAIN(photo, "a") is photo


@pytest.mark.parametrize(
    ("weak", "strong"),
    [("jpeg90", "jpeg20"), ("webp90", "webp10"), ("blur0.5", "blur3"), ("noise1", "noise9"),
     ("resize0.9", "resize0.2"), ("gamma1.1", "gamma2"), ("sharpen0.5", "sharpen4")],
)  # fmt: skip
def test_a_stronger_corruption_changes_more(weak: str, strong: str, photo: Tensor) -> None:
    assert distance(Chain.parse(weak)(photo, "a"), photo) < distance(
        Chain.parse(strong)(photo, "a"), photo
    )


def test_a_record_names_each_step_with_its_parameters_and_the_libraries() -> None:
    record = Chain.parse("jpeg50+share").record
    steps = record["steps"]
    assert isinstance(steps, list)
    assert [step["kind"] for step in steps if isinstance(step, dict)] == ["jpeg", "share"]
    assert steps[0] == {"kind": "jpeg", "summary": SPECS["jpeg"].summary, "strength": 50}
    assert record["libraries"] == versions()
    assert {"pillow", "libjpeg", "numpy"} <= set(versions())


def test_a_range_draws_the_strength_by_the_images_name(photo: Tensor) -> None:
    chain = Chain.parse("jpeg5-95")
    drawn = {bytes(chain(photo, name).numpy().tobytes()) for name in "abcdef"}
    each = {bytes(Chain.parse(f"jpeg{at}")(photo, "a").numpy().tobytes()) for at in range(5, 96)}
    assert len(drawn) > 1
    assert drawn <= each
    assert chain.record["steps"] == [
        {"kind": "jpeg", "summary": SPECS["jpeg"].summary, "strength": 5.0, "up_to": 95.0}
    ]


def test_half_and_quarter_are_resizing_by_these_factors(photo: Tensor) -> None:
    for word, factor in (("half", 0.5), ("quarter", 0.25)):
        expected = Chain.parse(f"resize{factor}")(photo, "a")
        assert torch.equal(Chain.parse(word)(photo, "a"), expected)
