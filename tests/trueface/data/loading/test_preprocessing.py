"""Preprocessing of published detectors, compared with that of their authors' test programs."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
import yaml
from numpy.typing import NDArray

from trueface.data.index import Image
from trueface.data.loading.preprocessing import Preprocessing, warn_of_small_images
from trueface.data.loading.transforms import TestTransform
from trueface.models.published_settings import PublishedSettings

Pixels = NDArray[np.uint8]
PAGE = Path(__file__).parents[4] / "docs/detectors.md"


def to_bytes(values: NDArray[Any]) -> Pixels:
    pixels: Pixels = np.clip(values, 0, 255).astype(np.uint8)
    return pixels


def face(height: int, width: int) -> Pixels:
    """Return a picture with edges, gradients and texture."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:height, :width]
    waves = 127 + 60 * np.sin(x / 7) * np.cos(y / 11) + 40 * ((x // 40 + y // 30) % 2)
    noisy = waves[..., None] + rng.normal(0, 12, (height, width, 3))
    return to_bytes(noisy)


def centre(pixels: Pixels, side: int) -> Pixels:
    top, left = ((length - side) // 2 for length in pixels.shape[:2])
    return pixels[top : top + side, left : left + side]


def mcx(pixels: Pixels) -> Pixels:
    """Resize([512, 512]) of Pillow, then CenterCrop(448)."""
    resized = PIL.Image.fromarray(pixels).resize((512, 512), PIL.Image.Resampling.BILINEAR)
    return centre(np.array(resized), 448)


def mat(pixels: Pixels) -> Pixels:
    """CenterCrop(380)."""
    return centre(pixels, 380)


def ccvit(pixels: Pixels) -> Pixels:
    """The longer side gets 224 pixels by INTER_AREA or INTER_CUBIC, and black pads the other one."""
    height, width = pixels.shape[:2]
    scale = 224 / max(height, width)
    height, width = (int(height * scale), 224) if width > height else (224, int(width * scale))
    resized = (inter_area if scale < 1 else inter_cubic)(pixels, height, width)
    top, left = (224 - height) // 2, (224 - width) // 2
    padded = np.zeros((224, 224, 3), np.uint8)
    padded[top : top + height, left : left + width] = resized
    return padded


def inter_area(pixels: Pixels, height: int, width: int) -> Pixels:
    """OpenCV's INTER_AREA: weights are the covered fractions of the source pixels."""

    def weights(old: int, new: int) -> NDArray[np.float64]:
        first, source = np.arange(new)[:, None] * old / new, np.arange(old)[None]
        covered = np.minimum(source + 1, first + old / new) - np.maximum(source, first)
        return covered.clip(0) * new / old

    rows, columns = weights(pixels.shape[0], height), weights(pixels.shape[1], width)
    means = np.einsum("ih,hwc,jw->ijc", rows, pixels, columns, optimize=True)
    is_halved = pixels.shape[:2] == (
        2 * height,
        2 * width,
    )  # it then adds 2 and shifts the sum by 2 bits
    return to_bytes(np.floor(means + 0.5) if is_halved else means.round())


def inter_cubic(pixels: Pixels, height: int, width: int) -> Pixels:
    """OpenCV's INTER_CUBIC: coefficient -0.75, weights in units of 1/2048, repeated borders."""

    def weights(old: int, new: int) -> NDArray[np.int64]:
        matrix = np.zeros((new, old), np.int64)
        for place in range(new):
            at = (place + 0.5) * old / new - 0.5
            t, start, a = at - np.floor(at), int(np.floor(at)), -0.75
            outer, inner, opposite = (
                ((a * (t + 1) - 5 * a) * (t + 1) + 8 * a) * (t + 1) - 4 * a,
                ((a + 2) * t - (a + 3)) * t * t + 1,
                ((a + 2) * (1 - t) - (a + 3)) * (1 - t) * (1 - t) + 1,
            )
            for tap, value in enumerate((outer, inner, opposite, 1 - outer - inner - opposite)):
                matrix[place, min(max(start - 1 + tap, 0), old - 1)] += round(value * 2048)
        return matrix

    rows, columns = weights(pixels.shape[0], height), weights(pixels.shape[1], width)
    sums = np.einsum("ih,hwc,jw->ijc", rows, pixels.astype(np.int64), columns, optimize=True)
    return to_bytes((sums + (1 << 21)) >> 22)


def documented(architecture: str) -> Preprocessing:
    """Return the preprocessing that the page gives for a detector."""
    (text,) = re.findall(rf"^\| `{architecture}` \| `([^`]*)` \|", PAGE.read_text(), re.MULTILINE)
    settings = PublishedSettings(
        architecture=architecture, weights="a.pth", **yaml.safe_load(f"{{{text}}}")
    )
    return Preprocessing(
        crop=settings.crop,
        resize=settings.resize,
        squash=settings.squash,
        interpolation=settings.interpolation,
        resize_side=settings.resize_side,
    )


@pytest.mark.parametrize(
    ("theirs", "size", "most"),
    [
        (mcx, (400, 300), 0.0),
        (mcx, (700, 640), 0.0),
        (mat, (400, 420), 0.0),
        (mat, (380, 380), 0.0),
        (ccvit, (500, 301), 0.1),
        (ccvit, (301, 500), 0.1),
        (ccvit, (448, 448), 0.1),
        (ccvit, (150, 100), 0.1),
        (ccvit, (224, 200), 0.0),
        (ccvit, (90, 160), 0.1),
        (ccvit, (360, 180), 0.1),
        (ccvit, (110, 110), 0.1),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_documented_preprocessing_is_that_of_the_authors(
    theirs: Callable[[Pixels], Pixels], size: tuple[int, int], most: float
) -> None:
    pixels, own = face(*size), documented(theirs.__name__)
    assert Preprocessing.read({"preprocessing": own.json_record}) == own
    transform = TestTransform(resize_size=1, patch_size=-1, crops=0).with_preprocessing(own)
    image = Image(file="a.png", key="a", label=0, method="", modifier="pre")
    seen = transform(torch.from_numpy(pixels).permute(2, 0, 1), image, 0)
    expected = theirs(pixels).astype(float)
    difference = np.abs(seen.permute(1, 2, 0).numpy() - expected)
    assert seen.shape[1:] == expected.shape[:2]
    assert difference.mean() <= most
    assert difference.max() <= (1 if most else 0)


@pytest.mark.parametrize(
    ("size", "resized"),
    [
        (
            (720, 1280),
            (125, 224),
        ),  # products of these sizes are a little below 126, 63, 224 and 112
        ((360, 1280), (62, 224)),
        ((1280, 720), (224, 125)),
        ((110, 110), (224, 223)),
        ((220, 110), (224, 111)),
        ((1080, 1920), (126, 224)),
        ((224, 224), (224, 224)),
        ((2, 1000), (1, 224)),
    ],
    ids=str,
)
def test_shorter_side_is_rounded_as_by_the_authors_of_cross_efficient_vit(
    size: tuple[int, int], resized: tuple[int, int]
) -> None:
    pixels = torch.zeros(3, *size, dtype=torch.uint8)
    assert documented("ccvit").apply_resize(pixels, Path("a.png")).shape[1:] == resized


def test_images_smaller_than_the_crop_of_a_model_are_counted_unless_it_resizes_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images = []
    for number, size in enumerate([(64, 64), (63, 80), (80, 20)]):
        PIL.Image.new("RGB", size).save(tmp_path / f"{number}.png")
        images.append(
            Image(file=str(tmp_path / f"{number}.png"), key="", label=0, method="", modifier="pre")
        )
    own = Preprocessing(crop=64, resize=0, squash=False, interpolation="bilinear")
    for preprocessing in (
        None,
        Preprocessing(crop=64, resize=64, squash=False, interpolation="area"),
    ):
        warn_of_small_images("m", preprocessing, images)
        warn_of_small_images("m", own, images[:1])
    assert not caplog.messages
    warn_of_small_images("m", own, images)
    assert "small=2 of=3 state=smaller than the crop of 64 pixels" in caplog.text
