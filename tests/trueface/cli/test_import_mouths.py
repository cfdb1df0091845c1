"""`trueface import mouths`: crops of the mouths of a data root with landmarks."""

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from tests.trueface.commands import Command
from trueface.data.imports.landmark_search import LandmarkRecord, write_record
from trueface.data.landmarks import write_landmarks
from trueface.runtime.image_files import open_image

FRAMES = 4


def face() -> np.ndarray:
    """Return 68 points in the order of iBUG 300-W, around (0, 0)."""
    jaw, brows, turn = np.arange(17), np.arange(10), np.arange(20) / 20 * 2 * np.pi
    eye = np.array([(0, 0), (6, -3), (14, -3), (20, 0), (14, 3), (6, 3)])
    parts = (
        np.stack([jaw * 7.5 - 60, 60 * np.sin(jaw / 16 * np.pi) - 10], 1),
        np.stack([brows * 11 - 50, 0 * brows - 40], 1),
        np.array([(0, 8 * at - 20) for at in range(4)]),
        np.array([(6 * at - 12, 18) for at in range(5)]),
        eye - np.array([36, 22]),
        eye + np.array([17, -22]),
        np.stack([-25 * np.cos(turn), 38 + 8 * np.sin(turn)], 1),
    )
    return np.concatenate(parts)


@pytest.fixture
def root(tmp_path: Path, command: Command) -> Path:
    """Return a data root of two videos; the first frame of each has no landmarks."""
    for folder in (tmp_path / "v/real/a", tmp_path / "v/fake/b"):
        folder.mkdir(parents=True)
        for at in range(FRAMES):
            pixels = np.full((120, 120, 3), 60 + 10 * at, np.uint8)
            PIL.Image.fromarray(pixels).save(folder / f"{at:03d}.png")
    root = tmp_path / "d"
    command("import", "folders", tmp_path / "v", "--videos", "--out", root)
    for folder in root.glob("PreSocial/*/*/*"):
        points = np.stack([face() * 0.8 + (60 + at, 60) for at in range(1, FRAMES)])
        write_landmarks(folder, ["001", "002", "003"], points, is_calibrated=False)
    write_record(root, LandmarkRecord(versions={"detector": "none"}))
    return root


def test_mouths_keep_videos_and_lists_of_the_data_root(root: Path, command: Command) -> None:
    words = ("import", "mouths", root, "--out", root.parent / "m", "--json")
    first = command(*words).json
    assert (first["new"], first["there"]) == (2 * (FRAMES - 1), 0)
    found = sorted(path.relative_to(root.parent / "m") for path in root.parent.glob("m/**/*.png"))
    own = sorted(path.relative_to(root) for path in root.glob("PreSocial/**/*.png"))
    assert found == [path for path in own if path.stem != "000"]
    with open_image(root.parent / "m" / found[0]) as image:
        crop = np.array(image)
    assert crop.shape == (96, 96, 3)
    assert crop.max() in {69, 70}  # black beyond the frame, and rounded down
    for name in ("train", "val", "test"):
        before, after = (
            json.loads((each / f"splits/{name}.json").read_text())
            for each in (root, root.parent / "m")
        )
        assert after == [key for key in before if not key.endswith("000")]
    assert command(*words).json["new"] == 0


@pytest.mark.parametrize("option", ["--align", "--landmarks"])
def test_mouths_refuse_options_of_other_pictures(root: Path, command: Command, option: str) -> None:
    words = ("import", "mouths", root, "--videos", option, "--out", root.parent / "m")
    assert f"Leave {option} out" in command(*words, code=2).err


def test_mouths_need_landmarks(root: Path, command: Command) -> None:
    (root / "landmarks.json").unlink()
    refused = command("import", "mouths", root, "--out", root.parent / "m", code=2).err
    assert (
        "Expected import.json and landmarks.json, as trueface import --videos --landmarks"
        in refused
    )
    assert "Import the videos in this way" in refused
    assert "It fits" not in refused
