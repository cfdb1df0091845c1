"""Photographs made into small squares: cropped around their middle, then made smaller."""

from pathlib import Path

import numpy as np
import PIL.Image

from trueface.data.drawn.canvas import Pixels
from trueface.runtime.errors import DataError


def small_square(file: Path, *, crop: int, size: int, channels: int = 3) -> Pixels:
    """Return a photograph as (size, size, channels).

    As StarGAN's transforms: centre crop, then bilinear with antialiasing.

    Args:
        file: of the photograph.
        crop: side of the centre crop, in pixels; 0: the largest square.
        size: side of the result.
        channels: 3 or 1.

    Raises:
        DataError: it cannot be decoded, or is smaller than the crop.
    """
    try:
        with PIL.Image.open(file) as opened:
            picture = opened.convert("L" if channels == 1 else "RGB")
    except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError) as error:
        raise DataError(f"{file} cannot be read as an image: {error}") from error
    side = crop or min(picture.size)
    if min(picture.size) < side:
        width, height = picture.size
        raise DataError(
            f"{file} has {width}x{height} pixels, less than crop: {crop}; name a smaller one, or 0 for "
            "the largest square"
        )
    left, top = ((whole - side) // 2 for whole in picture.size)
    box = (left, top, left + side, top + side)
    # cropped first: `resize(box=…)` would mix in pixels from outside
    small = picture.crop(box).resize((size, size), PIL.Image.Resampling.BILINEAR)
    return np.asarray(small).reshape(size, size, channels)
