"""The 68 landmarks of the face that a video follows, found by dlib.

dlib's model of 68 landmarks learned from the pictures of iBUG 300-W, which exclude commercial use. The authors of LRNet
used FAN (A. Bulat, G. Tzimiropoulos, ICCV 2017) instead. As in their program, a frame without a face, or with one that
is far away or of another size, has the landmarks of the frame before. Of several faces, a video follows the largest one
of its first frame.
"""

import functools
import importlib.util
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trueface.data.face_alignment import (
    Pixels,
    describe_models,
    face_models,
    folder_of_models,
    missing_part,
)
from trueface.runtime.errors import MachineError, install_command

EXTRA = "landmarks"
LICENCE = (
    "dlib's model of 68 landmarks learned from pictures that exclude commercial use (iBUG 300-W). The authors of LRNet "
    "used FAN, so results with their weights can differ"
)
# motion of a face from frame to frame, and its change of size, in parts of its size; those of the authors
MOST_MOTION, SMALLEST, LARGEST = 0.5, 0.7, 1.3
_MODEL = "shape_predictor_68_face_landmarks.dat"


class FoundPoints(NamedTuple):
    """The landmarks of one frame."""

    points: NDArray[np.float64] | None  # (68, 2) in pixels of the frame; None before the first face
    faces: int  # found in the frame
    is_repeated: bool = False  # the points are those of the frame before


def require_landmarks(option: str) -> None:
    """Reject an option if the extra for landmarks is not installed.

    Raises:
        MachineError: it is not.
    """
    missing = missing_part(_MODEL)
    if not missing and importlib.util.find_spec("cv2") is None:
        missing = "opencv-python-headless"
    if missing:
        raise MachineError(
            f"{option} needs {missing}, which is not installed here. Install it: {install_command(EXTRA)}"
        )


def describe_point_models() -> dict[str, str]:
    """Return the versions that decide the landmarks."""
    import cv2  # an extra

    return {**describe_models(), "calibration": f"OpenCV {cv2.__version__}"}


@functools.cache
def _predictor() -> Any:
    import dlib  # an extra

    return dlib.shape_predictor(str(folder_of_models() / _MODEL))


def follow_face(pictures: Iterable[Pixels]) -> Iterator[FoundPoints]:
    """Yield the landmarks of one face in each frame.

    Args:
        pictures: consecutive frames, (H, W, 3) RGB.
    """
    former: NDArray[np.float64] | None = None
    for pixels in pictures:
        boxes = face_models().find_boxes(pixels)
        if not boxes:
            yield FoundPoints(former, 0, is_repeated=former is not None)
            continue
        if former is None:
            box = max(boxes, key=lambda box: box.area())
        else:
            middle = former.mean(0)
            box = min(boxes, key=functools.partial(_distance, middle))
        parts = _predictor()(pixels, box).parts()
        found = np.array([(part.x, part.y) for part in parts], dtype=np.float64)
        is_other = former is not None and _is_other_face(former, found)
        if not is_other:
            former = found
        yield FoundPoints(former, len(boxes), is_repeated=is_other)


def _distance(middle: NDArray[np.float64], box: Any) -> float:
    center = box.dcenter()
    return float(np.hypot(center.x - middle[0], center.y - middle[1]))


def _is_other_face(former: NDArray[np.float64], points: NDArray[np.float64]) -> bool:
    size, now = (float(np.ptp(each, axis=0).max()) for each in (former, points))
    motion = float(np.linalg.norm(former.mean(0) - points.mean(0)))
    return motion > MOST_MOTION * size or not SMALLEST * size <= now <= LARGEST * size
