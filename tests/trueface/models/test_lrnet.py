"""LRNet with the published weights gives the numbers of its authors' program; wrong files are refused."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from trueface.data.clips import Clips, make_clips
from trueface.data.index import Image
from trueface.data.landmarks import write_landmarks
from trueface.data.loading.image_loaders import eval_loader
from trueface.data.settings import TestSettings
from trueface.models import checkpoint
from trueface.models.blocks.lrnet import PAIRS, LrNet
from trueface.models.detectors import Detector
from trueface.models.published_checkpoints import read_published_parts
from trueface.models.published_settings import PublishedSettings
from trueface.runtime.errors import JobError, WeightsError

ROOT = Path(__file__).parents[4] / "shared/data/lrnet"
MADE = Path(__file__).parents[2] / "data/landmarks"
FILES = {name: ROOT / f"weights/{file}.pth" for name, file in zip(("points", "differences"), ("g1", "g2"), strict=True)}  # fmt: skip
# mean probability over blocks, blocks, and blocks of at least .5: the last is what the authors' program counts
DEMO = {
    "ff_real": (0.170597, 25, 3),
    "dfo_real": (0.200451, 12, 1),
    "ff_fake": (0.904569, 25, 25),
    "dfo_fake": (0.752400, 12, 11),
}
# probabilities of both published networks for the blocks of the made landmarks, by the authors' program
MADE_PROBABILITIES = ((0.9750127793, 0.2364113778), (0.9988167286, 0.9999687672))
needs_files = pytest.mark.skipif(not ROOT.exists(), reason="../shared/data/lrnet is not here")
torch.set_num_threads(1)


def settings_of(**files: Path | str) -> PublishedSettings:
    return PublishedSettings.model_validate(
        {"architecture": "lrnet", "weights": {name: str(path) for name, path in files.items()}}
    )


def published() -> Detector:
    stored = read_published_parts(FILES, settings_of(**FILES))
    return checkpoint.from_checkpoint(stored, ROOT)


def probabilities(model: Detector, folder: Path, frames: Sequence[str]) -> np.ndarray:
    """Return the probability of fake of each clip of a video, through the data path."""
    images = [Image(f"{folder}/{name}.png", f"v/{name}", 0, "v", "pre") for name in frames]
    clips, _ = make_clips(images, Clips(frames=30), frozenset({"v"}))
    settings = TestSettings.model_validate(
        {"data_root": "d", "split_path": "s", "num_threads": 0, "batch_size": 8}
    )
    with torch.no_grad():
        logits = [
            model(batch.inputs) for batch in eval_loader(clips, settings, of_landmarks=True)(0)
        ]
    return torch.cat(logits).double().sigmoid().numpy()[:, 0]


@needs_files
@pytest.mark.parametrize("video", DEMO)
def test_demo_video_of_lrnet_has_the_numbers_of_its_authors(tmp_path: Path, video: str) -> None:
    mean, blocks, fake_blocks = DEMO[video]
    points = np.loadtxt(ROOT / f"landmarks/{video}.txt").reshape(-1, 68, 2)
    frames = [f"{number:03d}" for number in range(len(points))]
    write_landmarks(tmp_path, frames, points, is_calibrated=True)
    found = probabilities(published(), tmp_path, frames)
    assert len(found) == blocks
    assert abs(found.mean() - mean) < 1e-6
    assert (found >= 0.5).sum() == fake_blocks


@needs_files
def test_made_landmarks_have_the_numbers_of_the_authors_networks(tmp_path: Path) -> None:
    shutil.copy(MADE / "calibrated_landmarks.csv", tmp_path)
    found = probabilities(published(), tmp_path, [f"{number:03d}" for number in range(60)])
    np.testing.assert_allclose(found, np.mean(MADE_PROBABILITIES, axis=1), atol=1e-6)


@needs_files
def test_exchanged_files_are_refused() -> None:
    exchanged = {"points": FILES["differences"], "differences": FILES["points"]}
    with pytest.raises(WeightsError, match="the file of points is the published file of diff"):
        read_published_parts(exchanged, settings_of(**exchanged))


def test_files_of_two_pairs_are_refused_and_others_are_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    demo, training = PAIRS.values()
    with pytest.raises(WeightsError, match="two pairs, demo/model_weights and training/weights"):
        LrNet().check_files({"points": demo[0], "differences": training[1]})
    LrNet().check_files({"points": demo[0], "differences": demo[1]})
    assert not caplog.records
    LrNet().check_files({"points": training[0], "differences": training[1]})
    LrNet().check_files({"points": "0", "differences": "1"})
    first, second = caplog.messages
    assert "pair=training/weights/torch state=not the pair of the published demo" in first
    assert "not the published files" in second


def test_other_files_are_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "a.pth")
    files = dict.fromkeys(("points", "differences"), tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=r"a\.pth \(points\) do not fit this model: 15 missing"):
        read_published_parts(files, settings_of(**files))
    for given, words in (
        ({"weights": "g1.pth"}, r"lrnet has 2 files. Write weights: {points: points.pth, "),
        ({"weights": {"points": "g1.pth"}}, "lrnet has 2 files"),
        ({"weights": {"points": "a,b", "differences": "c"}}, "must not have a comma"),
        ({"weights": "points=a,differences=b", "key": "model"}, "base_weights, key, prefix and ignore"),
    ):  # fmt: skip
        with pytest.raises(ValidationError, match=words):
            PublishedSettings.model_validate({"architecture": "lrnet", **given})


@pytest.mark.parametrize(
    ("shape", "words"),
    [((2, 29, 68, 2), "needs clips of 30 frames, got 29"), ((2, 30, 5, 2), "got a batch of shape"), ((2, 1, 30, 3, 8, 8), "got a batch of shape")],
)  # fmt: skip
def test_lrnet_refuses_other_inputs(shape: tuple[int, ...], words: str) -> None:
    from trueface.models.detectors import build_detector

    model = build_detector("lrnet", weights="none", seed=1, side=64)
    with pytest.raises(JobError, match=words):
        model(torch.zeros(shape))
    assert model(torch.zeros(3, 30, 68, 2)).shape == (3, 1)
