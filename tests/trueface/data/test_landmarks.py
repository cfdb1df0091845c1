"""Landmarks next to the frames of videos: files, faults, and the calibration of the authors of LRNet."""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.trueface.extras import need_extra
from trueface.data.face_alignment import DetectedFace, Geometry, crop, place_in_crop
from trueface.data.folders import scan
from trueface.data.landmark_calibration import calibrate
from trueface.data.landmarks import HEADER, read_points, write_landmarks
from trueface.data.made.moving_points import plain_face
from trueface.runtime.errors import BadImageError

Array = NDArray[np.float64]


def test_landmarks_are_found_by_the_names_of_frames(tmp_path: Path) -> None:
    points = np.stack([plain_face() * 0.9, plain_face() * 0.8, plain_face() * 0.7])
    write_landmarks(tmp_path, ("000", "001", "002"), points, is_calibrated=True)
    read = read_points([str(tmp_path / "002.png"), str(tmp_path / "000.png")], is_calibrated=True)
    np.testing.assert_allclose(read, points[[2, 0]], atol=1e-6)
    assert scan(str(tmp_path)) == ((), (), {}, frozenset())
    # a changed file is read again, and a face may be turned
    turned = points @ np.array([[0.0, 1.0], [-1.0, 0.0]])
    write_landmarks(tmp_path, ("000", "001", "002"), turned * 0.5, is_calibrated=True)
    again = read_points([str(tmp_path / "001.png")], is_calibrated=True)
    np.testing.assert_allclose(again, turned[1:2] * 0.5, atol=1e-6)


def _without_calibration(folder: Path) -> None:
    write_landmarks(folder, ("000",), plain_face()[None] * 100 + 200, is_calibrated=False)
    (folder / "calibrated_landmarks.csv").unlink()


def _write(points: Array) -> Callable[[Path], None]:
    return lambda folder: write_landmarks(folder, ("000",), points[None], is_calibrated=True)


def _text(text: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "calibrated_landmarks.csv").write_text(text)

    return write


ROW = ",".join(["000", *["0.1"] * 136])
FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "absent": (lambda folder: (folder / "calibrated_landmarks.csv").unlink(), "has no landmarks. Import the videos with trueface import --landmarks"),
    "without calibration": (_without_calibration, "without calibration a real video looks like a fake"),
    "in pixels": (_write(plain_face() * 100 + 200), "its points are pixels without calibration"),
    "of 5 points": (_text("frame,x0,y0,x1,y1,x2,y2,x3,y3,x4,y4\n"), "it has 5 points in place of 68"),
    "x and y apart": (_text("frame," + ",".join([*(f"x{n}" for n in range(68)), *(f"y{n}" for n in range(68))])), "another order. Its header"),
    "in another order": (_write(plain_face()[::-1].copy()), "another order than iBUG 300-W"),
    "mirrored": (_write(plain_face() * (-1, 1)), "another order than iBUG 300-W"),
    "not a number": (_write(np.where(np.arange(68)[:, None] == 3, np.nan, plain_face())), "point 3 in row 1 is not a finite number"),
    "a short line": (_text(f"{HEADER}\n000,1,2\n"), "line 2 has 2 numbers in place of 136"),
    "no number": (_text(f"{HEADER}\n{ROW.replace('0.1', 'a', 1)}\n"), "could not convert string"),
    "a frame twice": (_text(f"{HEADER}\n{ROW}\n{ROW}\n"), "two rows of the same frame"),
    "another frame": (lambda folder: write_landmarks(folder, ("001",), plain_face()[None], is_calibrated=True), "no row for 1 frames, such as 000"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_faulty_landmarks_are_refused_with_the_reason(tmp_path: Path, name: str) -> None:
    spoil, words = FAULTS[name]
    write_landmarks(tmp_path, ("000",), plain_face()[None], is_calibrated=True)
    spoil(tmp_path)
    with pytest.raises(BadImageError, match=words.replace("(", r"\(")):
        read_points([str(tmp_path / "000.png")], is_calibrated=True)


def _moving_frames() -> tuple[list[NDArray[np.uint8]], Array]:
    """Return 8 frames with a pattern that moves, and points that tremble on it."""
    rows, columns = np.mgrid[:160, :180]
    wave = (rows * 7 + columns * 5 + rows * columns // 40) % 97
    pattern = np.stack([wave * 2, wave + 60, 255 - wave], 2).astype(np.uint8)
    frames = [np.roll(pattern, (at // 2, at), (0, 1)) for at in range(8)]
    tremor = np.arange(8 * 68 * 2).reshape(8, 68, 2) * 7 % 5 - 2
    base = np.rint(plain_face() * 45 + (85, 75))
    moved = np.arange(8)[:, None, None] * np.array([1, 0.5])
    return frames, np.rint(base + moved) + tremor


def test_calibration_equals_that_of_the_authors() -> None:
    need_extra("cv2")
    frames, points = _moving_frames()
    calibrated = calibrate(frames, list(points))
    assert calibrated.shape == (8, 68, 2)
    pixels = np.rint(calibrated * 200 + 200).astype(np.int64)
    # the authors' program gave these numbers for the same frames and points
    assert sha256(pixels.tobytes()).hexdigest() == AUTHORS_DIGEST
    assert pixels[7, [0, 30, 67]].tolist() == AUTHORS_POINTS


AUTHORS_DIGEST = "8aa942df43f5e724bcd825ab7d329ecea7e243f09fe58880cb052f5c2af17c7d"
AUTHORS_POINTS = [[31, 158], [198, 178], [173, 258]]


def test_points_are_placed_in_the_aligned_crop() -> None:
    pytest.importorskip("dlib", reason="the extra `faces` is not installed")
    found = DetectedFace(((150, 80), (125, 84), (60, 96), (85, 92), (112, 140)), 1)
    picture = np.zeros((240, 240, 3), np.uint8)
    picture[98:103, 118:123] = 255
    seen = crop(picture, found, Geometry()).astype(float).sum(2)
    rows, columns = np.mgrid[:256, :256]
    center = (columns * seen).sum() / seen.sum(), (rows * seen).sum() / seen.sum()
    placed = place_in_crop(np.array([[120.0, 100.0]]), found, Geometry())
    np.testing.assert_allclose(placed[0], center, atol=0.5)
