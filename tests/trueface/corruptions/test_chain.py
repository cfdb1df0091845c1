"""Effects of corruptions on pixels, their grammar, and the programs that they need."""

import io
import random
import re
import shutil
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from launcher.api import JobError
from trueface.corruptions.chain import NO_CHAIN, Chain, pipe_through, program_version, versions
from trueface.corruptions.registry import (
    NONE,
    SPECS,
    CorruptionStep,
    canonical,
    describe_choices,
    missing_programs,
    parse_steps,
    plugin_modules,
    register_corruption,
)

EACH = (
    "blur1", "brightness1.3", "contrast0.6", "crop0.8", "gamma1.3", "jpeg50", "median1", "noise4",
    "impulse2", "palette32", "turn1", "small0.5",
    "resize0.5", "saturation0", "screenshot", "share", "sharpen1", "webp60", "half", "quarter",
)  # fmt: skip
PROGRAMS = {"h264-"}  # kinds that start a program: see the tests with ffmpeg below
FRAME = torch.randint(0, 256, (3, 21, 18), generator=torch.Generator().manual_seed(0)).byte()
needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")


@pytest.fixture(scope="module")
def photo() -> Tensor:
    """Return a smooth image with a little texture, (3, 48, 40) uint8."""
    down, across = torch.meshgrid(torch.arange(48), torch.arange(40), indexing="ij")
    smooth = torch.stack([down * 4, across * 5, 120 + 40 * torch.sin(down / 5 + across / 3)])
    texture = torch.randint(-8, 9, smooth.shape, generator=torch.Generator().manual_seed(0))
    return (smooth + texture).clamp(0, 255).to(torch.uint8)


def distance(first: Tensor, second: Tensor) -> float:
    return (first.double() - second.double()).square().mean().sqrt().item()


def test_every_corruption_kind_is_tested() -> None:
    assert {Chain.parse(text).steps[0].name for text in EACH} | PROGRAMS == set(SPECS)


@pytest.mark.parametrize("text", EACH)
def test_corruption_changes_pixels_keeps_size_and_keeps_input_unchanged(
    text: str, photo: Tensor
) -> None:
    before = photo.clone()
    corrupted = Chain.parse(text)(photo, "StyleGAN/a")
    assert (corrupted.shape, corrupted.dtype) == (photo.shape, torch.uint8)
    assert torch.equal(photo, before)
    assert 0.5 < distance(corrupted, photo) < 80
    assert torch.equal(Chain.parse(text)(photo, "StyleGAN/a"), corrupted)
    assert Chain.parse(text)(torch.full((3, 1, 1), 9, dtype=torch.uint8), "a").shape == (3, 1, 1)


@pytest.mark.parametrize(
    "text", ["noise4", "share", "screenshot", "crop0.8", "impulse2", "small0.5"]
)
def test_other_image_name_gives_other_noise(text: str, photo: Tensor) -> None:
    assert not torch.equal(Chain.parse(text)(photo, "a"), Chain.parse(text)(photo, "b"))


@pytest.mark.parametrize("quality", [1, 50, 100])
def test_jpeg_equals_pillow_round_trip(quality: int, photo: Tensor) -> None:
    file = io.BytesIO()
    PIL.Image.fromarray(photo.permute(1, 2, 0).numpy()).save(file, "JPEG", quality=quality)
    expected = np.array(PIL.Image.open(file))
    corrupted = Chain.parse(f"jpeg{quality}")(photo, "a")
    assert np.array_equal(corrupted.permute(1, 2, 0).numpy(), expected)


def test_filters_match_scipy(photo: Tensor) -> None:
    channels = [channel.double().numpy() for channel in photo]
    blurred = [
        ndimage.gaussian_filter(each, 1.5, mode="mirror", truncate=10 / 3) for each in channels
    ]
    median = [ndimage.median_filter(each, 5, mode="nearest") for each in channels]
    for text, expected in (("blur1.5", np.rint(blurred)), ("median2", np.stack(median))):
        differs = np.abs(Chain.parse(text)(photo, "a").numpy() - expected)
        assert differs.max() <= 1
        assert (differs > 0).mean() < 0.002  # a half may be rounded either way


def test_grey_levels_follow_documented_formulas(photo: Tensor) -> None:
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


def test_pixel_dropout_posterization_and_rotation_match_their_parameters() -> None:
    grey = torch.full((3, 200, 200), 100, dtype=torch.uint8)
    lost = Chain.parse("impulse4")(grey, "a")
    assert torch.equal(lost[0], lost[1])
    for value, share in ((0, 0.02), (100, 0.96), (255, 0.02)):
        assert (lost[0] == value).double().mean().item() == pytest.approx(share, abs=0.004)
    noise = torch.randint(0, 256, (3, 40, 40), generator=torch.Generator().manual_seed(1)).byte()
    few = Chain.parse("palette16")(noise, "a")
    assert len(torch.unique(few.flatten(1), dim=1)[0]) == 16
    assert torch.equal(Chain.parse("turn1")(noise, "a"), noise.transpose(1, 2).flip(1))
    assert torch.equal(Chain.parse("turn2")(noise, "a"), noise.flip(1, 2))


def test_steps_are_applied_in_written_order(photo: Tensor) -> None:
    blurred = Chain.parse("blur1")(photo, "a")
    assert torch.equal(Chain.parse("blur1+jpeg50")(photo, "a"), Chain.parse("jpeg50")(blurred, "a"))
    assert not torch.equal(
        Chain.parse("blur1+jpeg50")(photo, "a"), Chain.parse("jpeg50+blur1")(photo, "a")
    )


def test_two_noise_steps_are_independent() -> None:
    grey = torch.full((3, 64, 64), 128, dtype=torch.uint8)
    twice = Chain.parse("noise4+noise4")(grey, "a").double() - 128
    assert twice.std().item() == pytest.approx(4 * 2**0.5, rel=0.03)


def test_noise_is_clipped_to_black_and_white() -> None:
    for level, beside in ((0, 100), (255, 155)):
        plain = torch.full((3, 64, 64), level, dtype=torch.uint8)
        noise = Chain.parse("noise20")(plain, "a").int()
        assert (noise - level).abs().max() <= abs(beside - level), "no level begins anew"
        assert (noise == level).double().mean() == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("sigma", [2, 20])
def test_noise_has_requested_standard_deviation(sigma: int) -> None:
    grey = torch.full((3, 64, 64), 128, dtype=torch.uint8)
    noise = Chain.parse(f"noise{sigma}")(grey, "a").double() - 128
    assert noise.std().item() == pytest.approx(sigma, rel=0.03)
    assert abs(noise.mean().item()) < 4 * sigma / (3 * 64 * 64) ** 0.5


def test_blurred_point_is_a_gaussian() -> None:
    point = torch.zeros((3, 31, 31), dtype=torch.uint8)
    point[:, 15, 15] = 255
    blurred = Chain.parse("blur1")(point, "a")[0].double()
    assert blurred[15, 15].item() == round(255 / (2 * np.pi))
    ratio = blurred[15, 16].item() / blurred[15, 15].item()
    assert ratio == pytest.approx(np.exp(-0.5), abs=0.02)


def test_gamma_one_and_empty_chain_change_nothing(photo: Tensor) -> None:
    assert torch.equal(Chain.parse("gamma1")(photo, "a"), photo)
    assert not NO_CHAIN
    assert NO_CHAIN(photo, "a") is photo


def test_record_lists_steps_with_parameters_and_library_versions() -> None:
    record = Chain.parse("jpeg50+share").json_record
    steps = record["steps"]
    assert isinstance(steps, list)
    assert [step["kind"] for step in steps if isinstance(step, dict)] == ["jpeg", "share"]
    assert steps[0] == {"kind": "jpeg", "summary": SPECS["jpeg"].summary, "strength": 50}
    assert record["libraries"] == versions()
    assert {"pillow", "libjpeg", "numpy"} <= set(versions())


def test_range_gives_strength_by_image_name(photo: Tensor) -> None:
    chain = Chain.parse("jpeg5-95")
    drawn = {bytes(chain(photo, name).numpy().tobytes()) for name in "abcdef"}
    each = {bytes(Chain.parse(f"jpeg{at}")(photo, "a").numpy().tobytes()) for at in range(5, 96)}
    assert len(drawn) > 1
    assert drawn <= each
    assert chain.json_record["steps"] == [
        {"kind": "jpeg", "summary": SPECS["jpeg"].summary, "strength": 5.0, "up_to": 95.0}
    ]


def test_half_and_quarter_resize_by_these_factors(photo: Tensor) -> None:
    for word, factor in (("half", 0.5), ("quarter", 0.25)):
        expected = Chain.parse(f"resize{factor}")(photo, "a")
        assert torch.equal(Chain.parse(word)(photo, "a"), expected)


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("jpeg050", "jpeg50"),
        ("blur1.0+noise2", "blur1+noise2"),
        ("share", "share"),
        ("none", "none"),
        ("raw", "none"),
        ("c23", "h264-23"),
        ("c40+jpeg50", "h264-40+jpeg50"),
        ("jpeg030-100", "jpeg30-100"),
        ("jpeg30-30", "jpeg30"),
        ("h264-20-30", "h264-20-30"),
    ],
)
def test_chain_has_one_spelling(text: str, stored: str) -> None:
    assert canonical(text) == stored
    assert canonical(stored) == stored


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("jpeg0", "jpeg0: expected quality from 1 to 100"),
        ("jpeg101", "jpeg101: expected quality from 1 to 100"),
        ("jpeg50.5", "expected a whole number for quality"),
        ("jpeg", "jpeg: the quality is missing. Write jpeg<1…100>"),
        ("blur0", "blur0: expected standard deviation in pixels from 0.1 to 20"),
        ("noise-3", "noise-3: expected standard deviation in grey levels from 0.1 to 128"),
        ("jpg50", "Did you mean 'jpeg'?"),
        ("JPEG50", "Did you mean 'jpeg'?"),
        ("share2", "share does not take a number"),
        ("none+jpeg50", "none cannot be combined with other corruptions"),
        ("jpeg50+", "'jpeg50+': a corruption is missing"),
        ("", "'': a corruption is missing"),
        ("blur1e3", "Write blur<0.1…20>"),
        ("+".join(["blur1"] * 9), "9 corruptions, but at most 8 are allowed"),
        ("raw+jpeg50", "raw cannot be combined with other corruptions"),
        ("jpeg100-30", "jpeg100-30: the range falls from 100 to 30"),
        ("jpeg30-101", "expected quality from 1 to 100"),
        ("jpeg30-", "Write jpeg<1…100>"),
        ("share1-2", "share does not take a number"),
        ("h264-52", "expected rate factor from 0 to 51"),
        ("jpeg" + "9" * 400, "expected quality from 1 to 100"),
    ],
)
def test_invalid_chain_is_refused_with_reason(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_steps(text)


@pytest.mark.parametrize("name", sorted(SPECS))
def test_range_ends_are_inclusive_and_written_as_read(name: str) -> None:
    spec = SPECS[name]
    for strength in {spec.low, spec.high} if spec.strength else {0.0}:
        text = str(CorruptionStep(name, strength))
        assert parse_steps(text) == (CorruptionStep(name, strength),)


def test_modules_include_those_of_kinds_in_chain() -> None:
    assert plugin_modules("none") == ()
    assert plugin_modules("jpeg50+blur1+jpeg30") == (
        "trueface.corruptions.kinds.codecs",
        "trueface.corruptions.kinds.filters",
    )


def test_range_is_sampled_uniformly_and_described() -> None:
    (step,) = parse_steps("jpeg30-32")
    drawn = [step.draw_strength(random.Random(at)) for at in range(60)]
    assert set(drawn) == {30.0, 31.0, 32.0}
    (step,) = parse_steps("blur0.5-1")
    assert all(0.5 <= step.draw_strength(random.Random(at)) <= 1 for at in range(20))
    assert [parse_steps(text)[0].draws for text in ("jpeg30", "jpeg30-40", "noise3", "half")] == [
        False, True, True, False,
    ]  # fmt: skip


def test_chain_reports_programs_that_are_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert missing_programs("jpeg50+half") == ()
    (reason,) = missing_programs("half+c23")
    assert reason.startswith("half+c23: h264 needs the program ffmpeg, which is not in PATH")


def test_list_of_kinds_shows_their_syntax() -> None:
    assert describe_choices().startswith("none, ")
    assert "jpeg<1…100>" in describe_choices()
    assert "share" in describe_choices()


@pytest.mark.parametrize("arguments", [{"low": 2, "high": 1, "strength": "x"}, {"high": 1}])
def test_invalid_range_is_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="range"):
        register_corruption("odd", summary="", **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["none", "raw", "jpeg2000", "JPEG", ""])
def test_name_outside_grammar_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="lower-case letters"):
        register_corruption(name, summary="")


def install(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a program of that name on the PATH that does what the script says."""
    program = folder / "ffmpeg"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_frame_is_resized_to_video_size_for_program_and_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, f'echo "$@" >> {tmp_path}/commands; exec cat', monkeypatch)
    assert torch.equal(Chain.parse("c23")(FRAME, "a"), FRAME)
    coding, decoding = (tmp_path / "commands").read_text().splitlines()
    assert "-s 18x22" in coding
    assert "-c:v libx264 -crf 23" in coding
    assert "-f h264 -i -" in decoding


def test_missing_failing_or_incorrect_program_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(JobError, match=r"ffmpeg is not in PATH\. Install it"):
        Chain.parse("h264-30")(FRAME, "a")
    install(tmp_path, "echo Unknown encoder >&2; exit 1", monkeypatch)
    with pytest.raises(JobError, match="ffmpeg failed: Unknown encoder"):
        Chain.parse("h264-30")(FRAME, "a")
    install(tmp_path, "echo 3", monkeypatch)
    with pytest.raises(JobError, match="2 bytes for a frame of 1188"):
        Chain.parse("h264-30")(FRAME, "a")


def test_record_contains_program_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "echo ffmpeg version 7; echo more", monkeypatch)
    program_version.cache_clear()
    record = Chain.parse("half+h264-23").json_record
    program_version.cache_clear()
    assert record["programs"] == {"ffmpeg": "ffmpeg version 7"}
    assert "programs" not in Chain.parse("half").json_record
    assert program_version("no-such-program") is None


def test_program_reads_and_writes_bytes() -> None:
    assert pipe_through(("cat",), b"\x00\xff") == b"\x00\xff"


@needs_ffmpeg
def test_higher_rate_factor_gives_lower_quality() -> None:
    down, across = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    photo = torch.stack([down * 4, across * 4, (down + across) * 2]).byte()
    near, far = (
        (Chain.parse(text)(photo, "a").float() - photo.float()).abs().mean()
        for text in ("h264-10", "h264-45")
    )
    assert near < far < 60


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("jpeg50+blur1.5", [("jpeg", 50), ("blur", 1.5)]),
        ("blur1.5+jpeg50", [("blur", 1.5), ("jpeg", 50)]),
        (NONE, []),
    ],
)
def test_chain_is_parsed_in_written_order(text: str, steps: list[tuple[str, float]]) -> None:
    assert parse_steps(text) == tuple(CorruptionStep(*step) for step in steps)
