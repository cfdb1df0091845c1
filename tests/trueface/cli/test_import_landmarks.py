"""`trueface import --landmarks`: 68 points of a face in consecutive frames of videos."""

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from tests.trueface.commands import Command
from tests.trueface.extras import need_extra
from trueface.data.landmarks import read_landmarks
from trueface.runtime.image_files import open_image

need_extra("dlib", "cv2")
FACES = Path(__file__).parents[4] / "shared/data/faces/PreSocial"
pytestmark = pytest.mark.skipif(not FACES.exists(), reason="../shared/data/faces is not here")
FRAMES = 3


def write_frames(folder: Path, source: str, *, faces: int = 1) -> None:
    """Write frames in which faces move by two pixels, side by side; 0 writes grey ones."""
    files = sorted((FACES / source).glob("*.jpg"))[: max(1, faces)]
    pictures = []
    for file in files:
        with open_image(file) as image:
            pictures.append(np.array(image.convert("RGB").crop((20, 20, 236, 236))))
    whole = np.concatenate(pictures, axis=1) if faces else np.full_like(pictures[0], 90)
    folder.mkdir(parents=True)
    for number in range(FRAMES):
        PIL.Image.fromarray(np.roll(whole, 2 * number, 1)).save(folder / f"{number:03d}.png")


def test_landmarks_of_frames_are_stored_and_videos_of_two_faces_are_named(
    tmp_path: Path, command: Command
) -> None:
    write_frames(tmp_path / "v/real/a", "Real/FFHQ")
    write_frames(tmp_path / "v/fake/b", "Fake/StyleGAN", faces=2)
    write_frames(tmp_path / "v/fake/c", "Fake/StyleGAN", faces=0)
    root = tmp_path / "d"
    words = ["import", "folders", str(tmp_path / "v"), "--videos", "--out", str(root), "--json"]
    remarks = " ".join(command(*words, "--landmarks").json["remarks"])
    assert "pictures that exclude commercial use (iBUG 300-W)" in remarks
    assert "used FAN" in remarks
    assert "1 videos show several faces" in remarks
    assert "1 videos have runs of frames without landmarks" in remarks
    record = json.loads((root / "landmarks.json").read_text())
    (video,), (lost,) = record["several_faces"].items(), record["no_face"]
    assert (video[1], Path(video[0]).name, Path(lost).name) == (2, "b", "c")
    (folder,) = root.glob("PreSocial/Real/*/a")
    for calibrated, reach in ((False, 216), (True, 1)):
        landmarks = read_landmarks(folder, is_calibrated=calibrated)
        assert [*landmarks.rows] == ["000", "001", "002"]
        assert np.abs(landmarks.points).max() < reach
    motion = np.diff(read_landmarks(folder, is_calibrated=False).points.mean(1), axis=0)
    np.testing.assert_allclose(motion, [[2, 0], [2, 0]], atol=1)
    assert not (root / lost / "landmarks.csv").exists()
    again = command(*words, "--landmarks").json
    assert (again["new"], again["there"]) == (0, 3 * FRAMES)
    refused = command(*words, code=2).err
    assert "have landmarks. Import into a new folder, or add --landmarks" in refused


def test_landmarks_need_videos(tmp_path: Path, command: Command) -> None:
    words = ("import", "folders", tmp_path, "--landmarks", "--out", tmp_path / "d")
    assert "only videos have landmarks. Add --videos" in command(*words, code=2).err
