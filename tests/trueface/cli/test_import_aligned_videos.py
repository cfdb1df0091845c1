"""`trueface import --videos --align`: faces in the frames of video files."""

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from tests.trueface.commands import Command
from tests.trueface.videos import LOSSLESS, Pixels, write_video
from trueface.data.splits.split_files import read_lists
from trueface.runtime.image_files import open_image

pytest.importorskip("dlib", reason="the extra `faces` is not installed")
FACES = Path(__file__).parents[4] / "shared/data/faces/PreSocial"
pytestmark = pytest.mark.skipif(not FACES.exists(), reason="../shared/data/faces is not here")
WITH_FACE, FRAMES = 4, 5
FACE = (40, 40, 216, 216)  # part of a photograph
LOST = ("004",)  # frames without a face


def frames(source: str, seed: int) -> list[Pixels]:
    """Return four photographs and a frame of noise, which takes longest to search."""
    faces = []
    for file in sorted((FACES / source).glob("*.jpg"))[:WITH_FACE]:
        with open_image(file) as image:
            faces.append(np.array(image.convert("RGB").crop(FACE)))
    rng = np.random.default_rng(seed)
    return [*faces, *(rng.integers(0, 256, faces[0].shape, np.uint8) for _ in LOST)]


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """A real and a fake video."""
    top = tmp_path / "v"
    for seed, (name, source) in enumerate((("real/a", "Real/FFHQ"), ("fake/b", "Fake/StyleGAN"))):
        write_video(top / f"{name}.mp4", frames(source, seed), **LOSSLESS)
    return top


def written(root: Path) -> dict[str, bytes]:
    files = (path for path in root.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def test_faces_of_frames_are_aligned_and_stay_with_their_video(
    videos: Path, tmp_path: Path, command: Command
) -> None:
    words = ["import", "folders", str(videos), "--videos", "--align", "--out", str(tmp_path / "vi")]
    words += ["--frames", str(FRAMES), "--json"]
    planned = command(*words, "--dry-run").json
    assert [path.name for path in tmp_path.iterdir()] == ["v"]
    record = command(*words).json
    assert record == planned | {"dry_run": False}
    assert (record["new"], record["videos"]) == (2 * WITH_FACE, 2)
    faces = sorted((tmp_path / "vi/PreSocial").rglob("*.png"))
    assert len(faces) == 2 * WITH_FACE
    for face in faces:
        with open_image(face) as image:
            assert image.size == (256, 256)
    lost = {f"{videos}/{name}.mp4/{frame}.png" for name in ("real/a", "fake/b") for frame in LOST}
    assert set(json.loads((tmp_path / "vi/alignment.json").read_text())["no_face"]) == lost
    lists = read_lists(tmp_path / "vi/splits")
    for video in ("a", "b"):  # all frames of a video are in one list
        assert sum(any(f"/{video}/" in key for key in keys) for keys in lists.values()) == 1


def test_dry_run_of_aligned_videos_writes_nothing_next_to_the_data_set(
    videos: Path, tmp_path: Path, command: Command
) -> None:
    words = ["import", "folders", str(videos), "--videos", "--frames", "2", "--align", "--dry-run"]
    assert "2 images" in command(*words, "--out", str(tmp_path / "deep/er/vi")).out
    assert [path.name for path in tmp_path.iterdir()] == ["v"]


def test_second_import_of_aligned_videos_changes_nothing(
    videos: Path, tmp_path: Path, command: Command
) -> None:
    root = tmp_path / "vi"
    words = ["import", "folders", str(videos), "--videos", "--align", "--out", str(root)]
    words += ["--frames", str(FRAMES), "--json"]
    first = command(*words).json
    before = written(root)
    again = command(*words).json
    assert (again["new"], again["there"]) == (0, 2 * WITH_FACE)
    assert again["passed_over"] == first["passed_over"]
    assert written(root) == before
    refused = command(*words, "--frames", "3", code=2).err
    assert "were imported before, and not these 3" in refused


def test_video_without_a_face_is_reported(tmp_path: Path, command: Command) -> None:
    rng = np.random.default_rng(0)
    for name in ("real/a", "fake/b"):
        pixels = [rng.integers(0, 256, (80, 80, 3), np.uint8) for _ in range(2)]
        write_video(tmp_path / f"v/{name}.mp4", pixels, **LOSSLESS)
    words = ["import", "folders", str(tmp_path / "v"), "--videos", "--align"]
    refused = command(*words, "--out", str(tmp_path / "vi"), code=2).err
    assert "finds no face in the 4 images that can be read" in refused
    assert [path.name for path in tmp_path.iterdir()] == ["v"]


def test_aligned_frame_is_that_of_the_picture(
    videos: Path, tmp_path: Path, command: Command
) -> None:
    # the frames are without loss, so their pictures give the same faces
    for name, source in (("real/a", "Real/FFHQ"), ("fake/b", "Fake/StyleGAN")):
        folder = tmp_path / "p" / name
        folder.mkdir(parents=True)
        for number, pixels in enumerate(frames(source, 0)[:WITH_FACE]):
            PIL.Image.fromarray(pixels).save(folder / f"{number:03d}.png")
    command("import", "folders", tmp_path / "p", "--align", "--out", tmp_path / "pi")
    words = ["import", "folders", str(videos), "--videos", "--frames", str(FRAMES), "--align"]
    command(*words, "--out", str(tmp_path / "vi"))
    by_name = {
        root: sorted(path.read_bytes() for path in (tmp_path / root).rglob("*.png"))
        for root in ("pi", "vi")
    }
    assert by_name["pi"] == by_name["vi"]
