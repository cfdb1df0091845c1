"""Landmarks that are smoothed along a video, as the authors of LRNet do it.

Z. Sun et al., "Improving the efficiency and robustness of deepfakes detection through precise geometric features", CVPR
2021, section 3.2. Each face is cut out and resized to 400 x 400 pixels. Optical flow (B. Lucas, T. Kanade, 1981, in
pyramids) predicts each point from the frame before, forward and back. A gain as of a Kalman filter weighs the prediction
and the detected point. The numbers follow the published program (github.com/frederickszk/LRNet, MIT): the result is
equal to its own.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trueface.data.landmarks import POINTS

SIDE = 400  # pixels of a face
CENTER = SIDE // 2  # pixels; the point that becomes 0, and the length that becomes 1
SCALE = 1.2  # side of the face, in parts of the box of its points
STILL = 1.42  # pixels by which the center of a face moves at least; smaller motions are jitter
FAR = 2  # pixels between a point and its way forward and back, above which the flow is not used
VARIANCE = 0.3  # growth of the prediction's variance per frame
WINDOW, LEVELS, STEPS, PRECISION = (15, 15), 3, 10, 0.03  # settings of the optical flow

Pixels = NDArray[np.uint8]  # (H, W, 3)
Positions = NDArray[np.int64]  # (68, 2) whole pixels


class _Face(NamedTuple):
    pixels: Pixels  # (400, 400, 3)
    points: Positions  # in pixels of it


def calibrate(
    pictures: Iterable[Pixels], points: Sequence[NDArray[np.floating]]
) -> NDArray[np.float64]:
    """Return the calibrated landmarks (N, 68, 2) of consecutive frames, from -1 to 1 in the face.

    Args:
        pictures: frames (H, W, 3) RGB, all of one size. They are read once, one after another.
        points: landmarks (68, 2) of each frame in pixels.
    """
    faces = _cut_faces(pictures, np.asarray(points, dtype=np.float64))
    former = next(faces)
    tracked, variance = former.points, np.zeros(POINTS)
    calibrated = [tracked]
    for face in faces:
        tracked = _track(former, face, tracked, variance)
        calibrated.append(tracked)
        former = face
    return (np.stack(calibrated) - CENTER) / CENTER


def _cut_faces(pictures: Iterable[Pixels], points: NDArray[np.float64]) -> Iterator[_Face]:
    import cv2  # an extra

    lowest, highest = points.min(1), points.max(1)  # (N, 2)
    mean_size = np.rint(np.mean((highest - lowest).max(1)))
    full_side = int(mean_size * SCALE) // 2 * 2
    center: NDArray[np.float64] | None = None
    for pixels, shape, low, high in zip(pictures, points, lowest, highest, strict=True):
        now = (low + high) // 2
        if center is None or np.linalg.norm(center - now) >= STILL:
            center = now
        high_px, wide_px = pixels.shape[:2]
        corner = np.clip(center - full_side // 2, 0, (wide_px - 1, high_px - 1))
        left, top = (int(each) for each in corner)
        side = max(1, min(full_side, wide_px - left, high_px - top))
        # the authors' colours are in the order of OpenCV, which changes the last bits of sums
        face: Any = np.ascontiguousarray(pixels[top : top + side, left : left + side, ::-1])
        how = cv2.INTER_CUBIC if side < SIDE else cv2.INTER_AREA
        resized = cv2.resize(face, (SIDE, SIDE), interpolation=how)
        yield _Face(resized, np.rint((shape - (left, top)) * (SIDE / side)).astype(np.int64))


def _track(
    former: _Face, face: _Face, former_points: Positions, variance: NDArray[np.float64]
) -> Positions:
    """Return the points of a face, between those that were detected and those that the flow predicts.

    Args:
        former: face of the frame before.
        face: face of this frame.
        former_points: points of the frame before, calibrated.
        variance: (68,) of the prediction; changed in place.
    """
    start, target = former_points.astype(np.float32), face.points.astype(np.float32)
    forward, is_found = _flow(former.pixels, face.pixels, start, target)
    back, is_found_back = _flow(face.pixels, former.pixels, forward, start)
    predicted, returned = (np.rint(each).astype(np.int64) for each in (forward, back))
    is_sure = is_found & is_found_back
    is_sure &= np.linalg.norm(returned - former_points, axis=1) <= FAR
    detected_way = np.linalg.norm(face.points - former.points, axis=1)
    predicted_way = np.linalg.norm(predicted - former_points, axis=1)
    ratio = detected_way / np.where(predicted_way == 0, 1, predicted_way)
    grown = variance + VARIANCE
    gain = grown / (grown + ratio)
    merged = predicted + gain[:, None] * (face.points - predicted)
    variance[is_sure] = ((1 - gain) * grown)[is_sure]
    # whole pixels, rounded down to 0 as by the authors
    return np.where(is_sure[:, None], merged.astype(np.int64), face.points)


def _flow(
    former: Pixels, now: Pixels, start: NDArray[np.float32], guess: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return where points (68, 2) of a picture are in the next one, and which of them were found."""
    import cv2  # an extra

    end: Any = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, STEPS, PRECISION)
    places: Any
    places, found, _ = cv2.calcOpticalFlowPyrLK(
        former, now, start, guess.copy(), winSize=WINDOW, maxLevel=LEVELS, criteria=end,
        flags=cv2.OPTFLOW_USE_INITIAL_FLOW,
    )  # fmt: skip
    return places, found[:, 0] != 0
