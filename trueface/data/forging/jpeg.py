"""Faces from files, and into the one JPEG that both classes go through last.

If reals came as they are, and fakes compressed once more, the second compression would tell them
apart, and nothing else would be learned.
"""

import io
from pathlib import Path

import numpy as np
import PIL.Image

from trueface.data.forging.geometry import Pixels
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
