"""Finds the largest face of a picture, turns it upright and cuts it out, with dlib.

The steps and the position of the eyes are those of DeepfakeBench (Yan et al., NeurIPS 2023). dlib finds the
faces. A similarity transform moves landmarks of the largest one to a template. At margin 1.3 the crop is near
that of FFHQ. We differ in three points:

1. The landmarks are the corners of the eyes and the base of the nose. The models for 68 and 81 landmarks
   learned from pictures that exclude commercial use, and the one for 81 is in no package. The one for 68 is used only
   by `--landmarks`; see `face_points`.
2. The template is dlib's mean shape of these five landmarks. It is scaled so that the centers of its eyes are
   those of DeepfakeBench's template.
3. If dlib's frontal detector finds no face, its convolutional detector searches a smaller copy. It also finds
   faces that fill the picture, and faces that are turned by more than 30 degrees.

dlib fills the part of a crop beyond the edge of the picture with black, as DeepfakeBench does. It halves
large pictures until the face is near its final size, and interpolates linearly.
"""

import functools
import importlib.util
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from trueface.runtime.errors import MachineError, install_command

EXTRA = "faces"
MARGIN = 1.3  # DeepfakeBench's: side of the crop in parts of ArcFace's crop
SIZE = 256  # pixels of a side; DeepfakeBench's
# pixels of the longer side of the searched copy. The frontal detector finds faces of 80 pixels and more in 0.1 s;
# the other one takes 0.4 s for 256 x 256 pixels
FRONTAL_SIDE, CONVOLUTIONAL_SIDE = 1280, 640
# pixels of the shorter side of the searched copy. No detector finds a smaller face, and dlib's convolutional one
# writes beyond its memory if a picture is narrow
LEAST_SIDE = 64

Pixels = NDArray[np.uint8]  # (H, W, 3) RGB
Point = tuple[float, float]  # x and y

_MODELS = "face_recognition_models"
_MODELS_DISTRIBUTION = "face-recognition-models"
_LANDMARKS = "shape_predictor_5_face_landmarks.dat"  # CC0
_CONVOLUTIONAL = "mmod_human_face_detector.dat"  # CC0
# dlib's mean shape in parts of the face, from get_face_chip_details. First come the outer and inner corner of the eye
# on the right of the picture. Then come those of the other eye, and the base of the nose
_SHAPE = np.array(
    [
        (0.8595674595992, 0.2134981538014),
        (0.6460604764104, 0.2289674387677),
        (0.1205750620789, 0.2137274526848),
        (0.3340850613712, 0.2290642403242),
        (0.4901123135679, 0.6277975316475),
    ]
)
# eyes of ArcFace's template, on the left and on the right, in pixels of a crop of 112 x 112 at margin 1
_EYES = np.array([(38.2946, 51.6963), (73.5318, 51.5014)])
_EYES_SIDE = 112


class DetectedFace(NamedTuple):
    """The largest face of a picture."""

    landmarks: tuple[Point, ...]  # five, in pixels of the picture, in the order of the template
    faces: int  # found in the picture


class Geometry(NamedTuple):
    """Size of a crop and position of the face in it."""

    size: int = SIZE  # pixels of a side
    margin: float = MARGIN

    def eyes(self) -> tuple[Point, Point]:
        """Return the centers of the eyes on the left and on the right, in parts of the side."""
        border = _EYES_SIDE * (self.margin - 1) / 2
        left, right = (_EYES + border) / (_EYES_SIDE * self.margin)
        return (float(left[0]), float(left[1])), (float(right[0]), float(right[1]))

    def template(self) -> NDArray[np.float64]:
        """Return the five landmarks of an aligned face, (5, 2), in pixels of the crop."""
        left, right = np.array(self.eyes())
        own_left, own_right = _SHAPE[2:4].mean(0), _SHAPE[0:2].mean(0)
        scale = (right[0] - left[0]) / (own_right[0] - own_left[0])
        shape = (_SHAPE - (own_left + own_right) / 2) * scale
        points: NDArray[np.float64] = (shape + (left + right) / 2) * self.size
        return points


class FaceModels:
    """The detectors and the landmarks, read once per process."""

    def __init__(self) -> None:
        dlib, folder = _dlib(), folder_of_models()
        self._frontal = dlib.get_frontal_face_detector()
        self._landmarks = dlib.shape_predictor(str(folder / _LANDMARKS))
        self._folder = folder

    @functools.cached_property
    def _convolutional(self) -> Any:
        return _dlib().cnn_face_detection_model_v1(str(self._folder / _CONVOLUTIONAL))

    def find(self, pixels: Pixels) -> DetectedFace | None:
        """Return the largest face of a picture, or None if there is none."""
        boxes = self.find_boxes(pixels)
        if not boxes:
            return None
        largest = max(boxes, key=lambda box: box.area())
        shape = self._landmarks(pixels, largest)
        landmarks = tuple((float(part.x), float(part.y)) for part in shape.parts())
        return DetectedFace(landmarks, len(boxes))

    def find_boxes(self, pixels: Pixels) -> list[Any]:
        """Return the rectangles of the faces, in pixels of the picture."""
        copy, factor = _reduce(pixels, FRONTAL_SIDE)
        if min(copy.shape[:2]) < LEAST_SIDE:
            return []
        if boxes := list(self._frontal(copy, 0)):
            return [_scale(box, factor) for box in boxes]
        copy, factor = _reduce(pixels, CONVOLUTIONAL_SIDE)
        if min(copy.shape[:2]) < LEAST_SIDE:
            return []
        return [_scale(each.rect, factor) for each in self._convolutional(copy, 0)]


@functools.cache
def face_models() -> FaceModels:
    """Return the models of this process."""
    return FaceModels()


def place_in_crop(
    points: NDArray[np.float64], face: DetectedFace, geometry: Geometry
) -> NDArray[np.float64]:
    """Return where points (N, 2) of a picture are in the crop of a face, in pixels of it."""
    chip = _chip(face, geometry)
    rect, center = chip.rect, chip.rect.dcenter()
    cosine, sine = np.cos(chip.angle), np.sin(chip.angle)
    # dlib turns the rectangle around its center by the angle, clockwise as pictures are shown
    upright = (points - (center.x, center.y)) @ np.array([[cosine, -sine], [sine, cosine]])
    edge = np.array([center.x - rect.left(), center.y - rect.top()])
    scale = (geometry.size - 1) / (rect.right() - rect.left())
    placed: NDArray[np.float64] = (upright + edge) * scale
    return placed


def crop(pixels: Pixels, face: DetectedFace, geometry: Geometry) -> Pixels:
    """Return the face of a picture upright, (size, size, 3)."""
    chip: Pixels = _dlib().extract_image_chip(pixels, _chip(face, geometry))
    return chip


def reaches_beyond(pixels: Pixels, face: DetectedFace, geometry: Geometry) -> bool:
    """Return whether a part of the crop is beyond the edge of the picture, and thus black."""
    chip = _chip(face, geometry)
    center, half = chip.rect.dcenter(), chip.rect.width() / 2
    reach = half * (abs(np.cos(chip.angle)) + abs(np.sin(chip.angle)))
    high, wide = pixels.shape[:2]
    slack = 1.0  # pixel; landmarks are whole pixels
    return bool(
        min(center.x, center.y) - reach < -slack
        or center.x + reach > wide + slack
        or center.y + reach > high + slack
    )


def missing_part(*further_models: str) -> str:
    """Return what alignment needs and this environment lacks, or "".

    Args:
        further_models: names of other files of models that are needed.
    """
    if importlib.util.find_spec("dlib") is None:
        return "dlib"
    folder = _models_path()
    if folder is None or not all(
        (folder / name).exists() for name in (_LANDMARKS, _CONVOLUTIONAL, *further_models)
    ):
        return f"{_MODELS_DISTRIBUTION} 0.3"
    return ""


def require_faces(option: str) -> None:
    """Reject an option if the extra for alignment is not installed.

    Raises:
        MachineError: it is not.
    """
    if missing := missing_part():
        raise MachineError(
            f"{option} needs {missing}, which is not installed here. Install it: "
            f"{install_command(EXTRA)}"
        )


def describe_models() -> dict[str, str]:
    """Return the versions that decide the pixels of a crop."""
    return {
        "detector": f"dlib {_dlib().__version__}",
        "models": f"{_MODELS_DISTRIBUTION} {version(_MODELS_DISTRIBUTION)}",
    }


def _dlib() -> Any:
    import dlib  # here, as it is an extra

    return dlib


def _models_path() -> Path | None:
    # found, not imported: its import needs a module that setuptools no longer has
    spec = importlib.util.find_spec(_MODELS)
    places = list(spec.submodule_search_locations or ()) if spec else []
    return Path(places[0]) / "models" if places else None


def folder_of_models() -> Path:
    """Return the folder of dlib's models.

    Raises:
        MachineError: it is not installed.
    """
    folder = _models_path()
    if folder is None:
        raise MachineError(
            f"{_MODELS_DISTRIBUTION} is not installed here. Install it: {install_command(EXTRA)}"
        )
    return folder


def _chip(face: DetectedFace, geometry: Geometry) -> Any:
    """Return the place of a crop in its picture: the similarity transform with the least squares."""
    dlib = _dlib()
    targets = dlib.dpoints([dlib.dpoint(float(x), float(y)) for x, y in geometry.template()])
    landmarks = dlib.dpoints([dlib.dpoint(x, y) for x, y in face.landmarks])
    return dlib.chip_details(targets, landmarks, dlib.chip_dims(geometry.size, geometry.size))


def _reduce(pixels: Pixels, side: int) -> tuple[Pixels, float]:
    """Return a copy whose longer side has at most `side` pixels, and the factor back."""
    high, wide = pixels.shape[:2]
    factor = max(high, wide) / side
    if factor <= 1:
        return np.ascontiguousarray(pixels), 1.0
    size = (max(1, round(wide / factor)), max(1, round(high / factor)))
    copy = PIL.Image.fromarray(pixels).resize(size, PIL.Image.Resampling.BILINEAR)
    return np.asarray(copy).copy(), factor


def _scale(box: Any, factor: float) -> Any:
    dlib = _dlib()
    edges = (box.left(), box.top(), box.right(), box.bottom())
    return dlib.rectangle(*(round(edge * factor) for edge in edges))
