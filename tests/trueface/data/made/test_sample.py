import io
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image
import pytest

from tests.build import until
from trueface.data.made.camera import Pixels, develop
from trueface.data.made.fingerprints import CELL, FINGERPRINTS, lattice
from trueface.data.made.sample import FAKE, REAL, UNFINISHED, SampleSpec, list_pictures, make_sample
from trueface.data.made.scenes import paint_scene
from trueface.runtime.errors import DataError

TINY = SampleSpec(seed=3, size_px=32, train=6, val=2, test=4)
PAIRS = 60  # scenes that a camera and every method make an image of
Floats = npt.NDArray[np.floating[Any]]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample") / "data"
    make_sample(folder, TINY, workers=1)
    return folder


def contents(root: Path) -> dict[str, bytes]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def test_folders_match_layout_of_trueface(root: Path) -> None:
    assert {picture.folder for picture in list_pictures(TINY)} == {*REAL, *FAKE}
    assert {path.name for path in root.iterdir()} == {
        "PreSocial", "Facebook", "Telegram", "Twitter", "splits", "sample.json",
    }  # fmt: skip
    keys = json.loads((root / "splits/train.json").read_text())
    assert "FFHQ/00000" in keys
    assert "StyleGAN2/conf-f-psi-1/00000" in keys


def test_marker_file_states_contents_and_that_they_are_synthetic(root: Path) -> None:
    mark = json.loads((root / "sample.json").read_text())
    assert mark["schema"] == 1
    assert mark["synthetic"] is True
    assert mark["spec"] == {"seed": 3, "size_px": 32, "train": 6, "val": 2, "test": 4}
    assert mark["images"] == len(list(root.rglob("*.png"))) + len(list(root.rglob("*.jpg"))) == 96


def test_finished_sample_is_not_modified(root: Path) -> None:
    times = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    told: list[int] = []
    again = make_sample(root, TINY, progress=lambda made, _total: told.append(made))
    assert again == json.loads((root / "sample.json").read_text())
    assert times == {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    assert told == []


def test_interrupted_sample_is_completed_by_next_call(root: Path, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop(made: int, total: int) -> None:
        raise Stop(made, total)

    unfinished = tmp_path / "data"
    with pytest.raises(Stop) as caught:
        make_sample(unfinished, TINY, workers=1, progress=stop)
    assert caught.value.args == (16, 24)
    assert (unfinished / UNFINISHED).exists()
    assert not (unfinished / "sample.json").exists()
    with pytest.raises(DataError, match="other settings"):
        make_sample(unfinished, replace(TINY, seed=9))
    make_sample(unfinished, TINY, workers=1)
    assert contents(unfinished) == contents(root)


def test_sample_with_other_settings_is_refused(root: Path) -> None:
    with pytest.raises(DataError, match="other settings"):
        make_sample(root, replace(TINY, size_px=48))


def test_format_and_size_are_same_for_real_and_fake(root: Path) -> None:
    sides = {"PreSocial": 32, "Facebook": 26, "Telegram": 32, "Twitter": 29}
    for modifier, side in sides.items():
        for path in filter(Path.is_file, (root / modifier).rglob("*")):
            with PIL.Image.open(path) as image:
                assert (image.size, image.mode) == ((side, side), "RGB")
                assert image.format == ("PNG" if modifier == "PreSocial" else "JPEG")


@cache
def pairs() -> Mapping[str, tuple[Pixels, ...]]:
    """Return the same scenes with the same finish: as a camera takes them, as each method does."""
    scenes = [paint_scene(np.random.default_rng((1, seed)), 128) for seed in range(PAIRS)]
    return {
        name: tuple(
            develop(scene, np.random.default_rng((2, seed)), trace)
            for seed, scene in enumerate(scenes)
        )
        for name, trace in (("camera", None), *FINGERPRINTS.items())
    }


def auc(fake: Floats, real: Floats) -> float:
    """Return the share of pairs in which the fake image has the larger number."""
    return float(np.mean((fake[:, None] > real) + 0.5 * (fake[:, None] == real)))


def grey(pixels: Pixels) -> Floats:
    mean: Floats = pixels.mean(axis=2)
    return mean


def residual(pixels: Pixels) -> Floats:
    plane = grey(pixels)
    rows = plane[:-2] + plane[1:-1] + plane[2:]
    mean = (rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]) / 9
    difference: Floats = plane[1:-1, 1:-1] - mean
    return difference


def laplacian(pixels: Pixels) -> Floats:
    plane = grey(pixels)
    around = plane[:-2, 1:-1] + plane[2:, 1:-1] + plane[1:-1, :-2] + plane[1:-1, 2:]
    difference: Floats = around - 4.0 * plane[1:-1, 1:-1]
    return difference


def png_size(pixels: Pixels) -> float:
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, "PNG")
    return float(len(file.getvalue()))


def jpeg_size(pixels: Pixels) -> float:
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, "JPEG", quality=85)
    return float(len(file.getvalue()))


NUMBERS: Mapping[str, Callable[[Pixels], float]] = {
    "brightness": lambda pixels: float(pixels.mean()),
    "red minus blue": lambda pixels: float(pixels[..., 0].mean() - pixels[..., 2].mean()),
    "contrast": lambda pixels: float(grey(pixels).std()),
    "minimum": lambda pixels: float(pixels.min()),
    "maximum": lambda pixels: float(pixels.max()),
    "clipped": lambda pixels: float(((pixels == 0) | (pixels == 255)).mean()),
    "saturation": lambda pixels: float(np.ptp(pixels.astype(float), axis=2).mean()),
    "residual energy": lambda pixels: float(residual(pixels).std()),
    "residual median": lambda pixels: float(np.median(np.abs(residual(pixels)))),
    "residual kurtosis": lambda pixels: float(
        np.mean(residual(pixels) ** 4) / np.var(residual(pixels)) ** 2
    ),
    "sharpness across": lambda pixels: float(np.diff(grey(pixels), axis=1).std()),
    "sharpness down": lambda pixels: float(np.diff(grey(pixels), axis=0).std()),
    "sharpness of colour": lambda pixels: float(
        np.diff(pixels[..., 0].astype(float) - pixels[..., 1], axis=1).std()
    ),
    "laplacian": lambda pixels: float(laplacian(pixels).std()),
    "laplacian to gradient": lambda pixels: float(
        laplacian(pixels).std() / np.diff(grey(pixels), axis=1).std()
    ),
    "size as PNG": png_size,
    "size as JPEG": jpeg_size,
}


@pytest.mark.parametrize("step", [2, 4, 8])
def test_lines_of_a_lattice_are_all_multiples_of_its_step_without_their_mirrors(step: int) -> None:
    lines = [(down % CELL, right % CELL) for down, right in lattice(step)]
    mirrors = [(-down % CELL, -right % CELL) for down, right in lines]
    multiples = {(down, right) for down in range(0, CELL, step) for right in range(0, CELL, step)}
    assert {*lines, *mirrors} == multiples - {(0, 0)}
    assert len({*map(frozenset, zip(lines, mirrors, strict=True))}) == len(lines)


@pytest.mark.parametrize("number", NUMBERS)
def test_no_single_statistic_separates_the_classes(number: str) -> None:
    values = {
        name: np.array([NUMBERS[number](pixels[:96, :96]) for pixels in images])
        for name, images in pairs().items()
    }
    for method in FINGERPRINTS:
        # 0.5 = says nothing; the scenes are the same, so that little chance is left in it
        assert abs(auc(values[method], values["camera"]) - 0.5) < 0.1


def peak(pixels: Pixels, method: str) -> float:
    """Return how far a method's lines stand out of the spectrum around them, in log power."""
    plane = residual(pixels)[:112, :112]
    power = np.abs(np.fft.fft2(plane * np.outer(np.hanning(112), np.hanning(112)))) ** 2
    places = np.array([*FINGERPRINTS[method].fine, *FINGERPRINTS[method].coarse]) * 112 // CELL
    heights = []
    for down, right in places:
        rows, columns = np.ix_(range(down - 3, down + 4), range(right - 3, right + 4))
        around = np.median(power[rows % 112, columns % 112])
        heights.append(np.log(power[down % 112, right % 112] / around))
    return float(np.mean(heights))


@pytest.mark.parametrize("method", FINGERPRINTS)
def test_each_method_leaves_detectable_spectral_lines(method: str) -> None:
    heights = {
        name: np.array([peak(pixels, method) for pixels in images])
        for name, images in pairs().items()
    }
    assert auc(heights[method], heights["camera"]) > 0.97
    others = [heights[name].mean() for name in FINGERPRINTS if name != method]
    assert heights[method].mean() > max(others)


def test_noise_of_a_camera_is_weaker_in_the_dark_than_in_mid_tones() -> None:
    scene = np.full((128, 128, 3), 0.18, np.float32)
    scene[:, :64] = 0.002
    images = [develop(scene, np.random.default_rng(seed), None) for seed in range(6)]
    assert np.mean([image[:, :56].std() / image[:, 72:].std() for image in images]) < 0.9


def test_odd_size_is_accepted() -> None:
    scene = paint_scene(np.random.default_rng(1), 33)
    for trace in (None, *FINGERPRINTS.values()):
        pixels = develop(scene, np.random.default_rng(1), trace)
        assert (pixels.shape, pixels.dtype) == ((33, 33, 3), np.dtype(np.uint8))


MAKER = """
import sys, time
from pathlib import Path
from tests.trueface.data.made.test_sample import TINY
from trueface.data.made.sample import make_sample

root, name, go = map(Path, sys.argv[1:])

def progress(made, total):
    Path(f"{name}.{'works' if total else 'waits'}").touch()
    while total and not go.exists():
        time.sleep(0.01)

make_sample(root, TINY, workers=1, progress=progress)
"""


def test_two_concurrent_processes_create_sample_once(root: Path, tmp_path: Path) -> None:
    """As two queues do; both end well, and one that asks for another sample is refused."""
    there, go = tmp_path / "data/sample", tmp_path / "go"
    first = subprocess.Popen([sys.executable, "-c", MAKER, there, tmp_path / "one", go])
    until((tmp_path / "one.works").exists, "the first one has made some images")
    second = subprocess.Popen([sys.executable, "-c", MAKER, there, tmp_path / "two", go])
    until((tmp_path / "two.waits").exists, "the second one waits")
    go.touch()
    assert (first.wait(), second.wait()) == (0, 0)
    assert not (tmp_path / "two.works").exists()
    assert contents(there) == contents(root)
    assert [path.name for path in there.parent.iterdir()] == ["sample"]
    with pytest.raises(DataError, match="other settings"):
        make_sample(there, replace(TINY, seed=4))
