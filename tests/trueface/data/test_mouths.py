"""Mouths are cut as LipForensics' authors cut them. Their code ran once on these frames and landmarks."""

import numpy as np
import pytest
from numpy.typing import NDArray

from trueface.data.mouths import MEAN_FACE, STABLE, WINDOW, cut_mouth, mouth_cuts, similarity

COUNT, SIDE = 14, 160
# green of every 30th pixel from 5 on, and the mean of all colours, by frame
CROPS = {
    0: ([[143, 198, 17, 89], [137, 152, 117, 54], [118, 31, 213, 153], [86, 57, 41, 37]], 127.162),
    2: (
        [[137, 196, 15, 107], [152, 19, 157, 55], [151, 81, 27, 238], [133, 127, 136, 162]],
        127.061,
    ),
    3: (
        [[150, 204, 24, 105], [173, 35, 169, 63], [180, 105, 46, 97], [171, 159, 164, 184]],
        127.183,
    ),
    13: ([[2, 16, 46, 0], [104, 182, 45, 0], [191, 76, 222, 0], [94, 210, 174, 0]], 115.089),
}
EYES_AND_NOSE = [(0, 20), (-36, -22), (-16, -22), (17, -22), (38, -23)]


def frames() -> NDArray[np.uint8]:
    at, row, column, colour = np.indices((COUNT, SIDE, SIDE, 3))
    waves = row * (5 + colour) + column * 7 + at * 11 + row * column // (9 + colour)
    levels: NDArray[np.uint8] = (waves % 256).astype(np.uint8)
    return levels


def landmarks() -> NDArray[np.float64]:
    """Return a face that turns, grows and moves, (14, 68, 2). The last crops reach beyond the frame."""
    point = np.arange(68)
    face = np.stack([point * 37 % 68 / 68 * 120 - 60, point * point * 5 % 71 / 71 * 120 - 50], 1)
    face[list(STABLE)] = EYES_AND_NOSE
    places = (face[:, 0] + 1j * face[:, 1])[None]
    at = np.arange(COUNT)[:, None]
    moved = places * (0.7 + 0.02 * at + 0.05j * (at % 5)) + (90 + 3 * at + 1j * (80 - 2 * at))
    return np.stack([moved.real, moved.imag], 2)


def test_mouths_are_those_of_the_authors_code() -> None:
    crops = [
        cut_mouth(frame, cut) for frame, cut in zip(frames(), mouth_cuts(landmarks()), strict=True)
    ]
    for at, (pixels, mean) in CROPS.items():
        assert np.abs(crops[at][5::30, 5::30, 1] - np.array(pixels)).max() <= 1
        assert float(crops[at].mean()) == pytest.approx(mean, abs=0.01)


def test_last_frames_of_a_run_have_the_similarity_of_the_window_before_them() -> None:
    cuts = list(mouth_cuts(landmarks()))
    last = COUNT - WINDOW
    assert all(np.array_equal(cuts[at].matrix, cuts[last].matrix) for at in range(last, COUNT))
    assert not np.array_equal(cuts[0].matrix, cuts[last].matrix)
    (short,) = {tuple(cut.matrix.ravel()) for cut in mouth_cuts(landmarks()[:3])}
    assert np.isfinite(short).all()


def test_similarity_brings_points_to_their_targets() -> None:
    turned = (MEAN_FACE - 7) @ np.array([[0.6, 0.8], [-0.8, 0.6]]) * 3
    matrix = similarity(turned, MEAN_FACE)
    np.testing.assert_allclose(turned @ matrix[:, :2].T + matrix[:, 2], MEAN_FACE, atol=1e-9)
