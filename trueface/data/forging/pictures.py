"""Faces from files, which of them is like which, and into the one JPEG that both classes go through last.

If reals came as they are, and fakes compressed once more, the second compression would tell them
apart, and nothing else would be learned.

A face goes into one of the same group and list that is like it. A donor of another group would leave its skin colour as the cue, and a fake without a defined
group; one of another list would put an image of the test into the training.
"""

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
import PIL.Image

from trueface.data.forging.blending import Pixels
from trueface.runtime.errors import DataError

LOWEST, HIGHEST = 85, 95  # quality of a pair, drawn
FULL_COLOUR = 0  # Pillow's 4:4:4: no type is told by the resolution of its colour


def read_face(file: Path, place: str) -> Pixels:
    """Return the pixels of an image file, (H, W, 3) RGB.

    Args:
        file: in any format that Pillow reads.
        place: where it is named, for the message.

    Raises:
        DataError: it is missing, cut off, or no image.
    """
    try:
        with PIL.Image.open(file) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError) as error:
        raise DataError(f"{place}: cannot decode {file}: {error}; mend or leave it out") from error


def like(face: Pixels, form: tuple[int, ...]) -> Pixels:
    """Return a face in the height and width of another."""
    if face.shape == form:
        return face
    image = PIL.Image.fromarray(face)
    return np.asarray(image.resize((form[1], form[0]), PIL.Image.Resampling.BICUBIC))


def quality_of(chance: np.random.Generator) -> int:
    """Return the quality of a pair."""
    return int(chance.integers(LOWEST, HIGHEST + 1))


def encoded(face: Pixels, quality: int) -> bytes:
    """Return a face as the bytes of a JPEG file, colour at full resolution."""
    file = io.BytesIO()
    PIL.Image.fromarray(face).save(file, "JPEG", quality=quality, subsampling=FULL_COLOUR)
    return file.getvalue()


def decoded(content: bytes) -> Pixels:
    """Return the pixels of a JPEG file's bytes, (H, W, 3)."""
    return np.array(PIL.Image.open(io.BytesIO(content)))


SIDE = 16  # of the grey copies that are compared
NEAREST = 5
LEVELS = 40  # per deviation
MOST = 127  # so that sums of products of two faces are whole numbers below 2^24: exact in float32
ROWS = 1024  # compared at once

Thumbnails = npt.NDArray[np.int8]


def thumbnail(face: Pixels) -> Thumbnails:
    """Return a face as 16 x 16 grey levels of mean 0 and deviation 1, in steps of 1/40: (256,)."""
    grey = PIL.Image.fromarray(face).convert("L")
    small = grey.resize((SIDE, SIDE), PIL.Image.Resampling.BOX)
    values = np.asarray(small, np.float64).reshape(-1)
    values = (values - values.mean()) / max(values.std(), 1e-6)
    steps: Thumbnails = np.clip(np.rint(values * LEVELS), -MOST, MOST).astype(np.int8)
    return steps


def nearest(thumbnails: Thumbnails) -> npt.NDArray[np.int64]:
    """Return for each of N faces the places of the nearest others, (N, 0 to 5), the nearest first.

    Of two that are equally far the first counts. Distances are whole numbers, and the same
    whatever the number of threads.

    Args:
        thumbnails: (N, 256), of the faces of one group and list.
    """
    count = len(thumbnails)
    wanted = min(NEAREST, count - 1)
    if wanted < 1:
        return np.empty((count, 0), np.int64)
    values = thumbnails.astype(np.float32)
    squares = np.square(values).sum(1)
    places = []
    for start in range(0, count, ROWS):
        part = slice(start, min(start + ROWS, count))
        distances = squares[part, None] + squares[None] - 2 * (values[part] @ values.T)
        distances[np.arange(part.stop - start), np.arange(start, part.stop)] = np.inf
        places.append(np.argsort(distances, 1, kind="stable")[:, :wanted])
    return np.concatenate(places).astype(np.int64)
