"""The mouth of a face in each frame of a video, cut out as LipForensics' authors cut it. No torch here.

A frame is turned and scaled so that five of its landmarks lie where those of a mean face lie, by the similarity of
least squares (S. Umeyama, IEEE TPAMI 13(4), 1991). For that, landmarks are averaged over this frame and the next
eleven. The last eleven frames of a run have the similarity of the frame before them. The crop is around the mean of
the frame's own points of the mouth.

Pixels are interpolated bilinearly, black beyond the frame, and rounded down, as those of the published code
(github.com/ahaliassos/LipForensics, MIT).
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SIDE = 96  # pixels of a crop; the network gets its centre
FACE_SIDE = 256  # pixels of the upright face that crops stay inside
WINDOW = 12  # frames over which landmarks are averaged
STABLE = (
    33,
    36,
    39,
    42,
    45,
)  # landmarks that do not move with the mouth: nose and corners of the eyes
MOUTH = slice(48, 68)
# stable landmarks of the authors' mean face, x and y in pixels of the upright face
MEAN_FACE = np.array(
    [
        (128.87018, 137.302534),
        (92.522455, 94.36876),
        (112.772417, 94.943609),
        (145.525115, 94.534999),
        (166.677101, 93.565623),
    ]
)

Pixels = NDArray[np.uint8]  # (H, W, 3)
Numbers = NDArray[np.float64]


class MouthCut(NamedTuple):
    """Where the mouth of a frame is."""

    matrix: Numbers  # (2, 3) from x, y, 1 of the upright face to x, y of the frame
    left: int  # first column of the crop in the upright face
    top: int  # first row


def mouth_cuts(points: NDArray[np.floating]) -> Iterator[MouthCut]:
    """Yield where the mouth is in each frame of a run.

    Args:
        points: (N, 68, 2) landmarks of consecutive frames, in pixels of the frames.
    """
    points = points.astype(np.float64)
    last = max(len(points) - WINDOW, 0)
    for at, own in enumerate(points):
        begin = min(at, last)
        upright = similarity(points[begin : begin + WINDOW].mean(0)[list(STABLE)], MEAN_FACE)
        centre = (own[MOUTH] @ upright[:, :2].T + upright[:, 2]).mean(0)
        half = SIDE // 2
        left, top = (round(float(place)) - half for place in centre.clip(half, FACE_SIDE - half))
        yield MouthCut(_inverse(upright), left, top)


def similarity(source: Numbers, target: Numbers) -> Numbers:
    """Return the matrix (2, 3) of the rotation, scale and shift that brings points (N, 2) next to others."""
    before, after = (each[:, 0] + 1j * each[:, 1] for each in (source, target))
    spread = before - before.mean()
    turn = complex((spread.conj() * (after - after.mean())).sum() / (spread.conj() * spread).sum())
    shift = complex(after.mean() - turn * before.mean())
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])


def cut_mouth(frame: Pixels, cut: MouthCut) -> Pixels:
    """Return the crop (96, 96, 3) of the mouth in a frame."""
    rows, columns = np.mgrid[cut.top : cut.top + SIDE, cut.left : cut.left + SIDE]
    across, down = (
        line[0] * columns + line[1] * rows + line[2] for line in cut.matrix
    )  # (96, 96) each
    height, width = frame.shape[:2]
    padded = np.zeros((height + 2, width + 2, 3))
    padded[1:-1, 1:-1] = frame
    # one black pixel beyond each edge stands for all that are farther
    x, y = across.clip(-1, width) + 1, down.clip(-1, height) + 1
    left, top = x.astype(np.int64), y.astype(np.int64)
    right, bottom = np.minimum(left + 1, width + 1), np.minimum(top + 1, height + 1)
    part_x, part_y = (x - left)[..., None], (y - top)[..., None]
    above = padded[top, left] * (1 - part_x) + padded[top, right] * part_x
    below = padded[bottom, left] * (1 - part_x) + padded[bottom, right] * part_x
    crop: Pixels = (above * (1 - part_y) + below * part_y).astype(np.uint8)
    return crop


def _inverse(matrix: Numbers) -> Numbers:
    turned = np.linalg.inv(matrix[:, :2])
    return np.hstack([turned, -turned @ matrix[:, 2:]])
