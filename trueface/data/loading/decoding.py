"""Decodes an image file to pixels, or gives the reason why that is impossible.

simplejpeg (libjpeg-turbo) decodes JPEG files. It gives the same bits as Pillow and is 1.5 to 2
times faster. Pillow decodes the files that simplejpeg does not support or doubts. A truncated file
is refused, because a model would learn the grey that decoders fill in. EXIF rotation is ignored,
alpha is dropped and not blended, and of an animation the first frame is taken: the network gets the
colours that the file stores. HEIF stores a rotation as a step of decoding, which is done.

The upper rows alone can be requested of a file that was decoded completely before without an error.
A sequential JPEG is decoded in rows of blocks from the top, and a PNG is inflated and unfiltered
from the top. A smaller height in the header ends the decoder there, and the rest of the file is not
read.
"""

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import PIL.Image
import simplejpeg
from numpy.typing import NDArray
from PIL.JpegImagePlugin import JpegImageFile

from trueface.data.loading.upper_rows import lower_jpeg, lower_png, png_size
from trueface.runtime.errors import BadImageError
from trueface.runtime.image_files import (
    RefusedImageError,
    admit,
    open_image,
    open_regular,
    unreadable_reason,
)

if TYPE_CHECKING:
    from torch import Tensor

SCALES = (8, 4, 2)  # divisors of the size of a JPEG during decoding, in addition to 1
JPEG = b"\xff\xd8\xff"
NARROW = 8  # columns of JPEG: fewer have the same width at several eighths of the size
COLOURS = frozenset({"Gray", "YCbCr", "RGB"})  # JPEG's; Pillow knows how Adobe turns CMYK round
INVENTED = "premature end of data"  # libjpeg's warning before it fills in grey; Pillow ignores it

RowsNeeded = Callable[[int, int], int]  # (height, width) -> the first row that is not needed


class Scaling(NamedTuple):
    """The size that a file is decoded to, if it is not the size of the file.

    Attributes:
        side: in pixels.
        fitted: the whole image is resized until its shorter side has this length (Lanczos to a
            smaller size, bicubic to a larger one). Otherwise a JPEG file is read at the smallest of
            1/1, 1/2, 1/4 and 1/8 at which both sides have at least this length. That is faster and
            gives other high frequencies.
    """

    side: int
    fitted: bool = False

    @classmethod
    def from_decode_setting(cls, decode: str, side: int) -> "Scaling | None":
        """Return the scaling of the settings `decode` and `resize_size`, or None if exact."""
        return None if decode == "exact" else cls(side, fitted=decode == "fitted")


def decode(
    path: Path, *, scaling: Scaling | None = None, rows_needed: RowsNeeded | None = None
) -> "Tensor":
    """Return the pixels of an image file, (3, H, W) uint8 RGB, a view of (H, W, 3) in memory.

    Arguments and errors are those of `decode_array`.
    """
    import torch  # here, as it takes seconds, and processes that forge faces need arrays only

    return torch.from_numpy(decode_array(path, scaling=scaling, rows_needed=rows_needed)).permute(
        2, 0, 1
    )


def decode_array(
    path: Path,
    *,
    scaling: Scaling | None = None,
    channels: int = 3,
    rows_needed: RowsNeeded | None = None,
) -> NDArray[np.uint8]:
    """Return the pixels of an image file, (H, W, channels) uint8.

    The pixels equal those of Pillow's `convert("RGB")`, except for 16-bit grey: the upper eight
    bits are taken, as for 16-bit colour.

    Args:
        path: of a file in one of FORMATS, regardless of its name.
        scaling: the size of the result. None keeps the size of the file.
        channels: 3 (RGB) or 1 (grey, of the RGB colours).
        rows_needed: computes the number of needed rows from height and width of the result. Rows
            below are undefined. Only for files that were decoded completely before without an
            error, because damage below may stay undetected.

    Raises:
        BadImageError: the file is missing, truncated, too large, or not an image.
    """
    scale_to = None if scaling is None or scaling.fitted else scaling.side
    if scaling is not None and scaling.fitted:  # each row of the result is of several rows
        rows_needed = None
    try:
        content = _content(path)
        pixels = _jpeg(content, scale_to, rows_needed) if content.startswith(JPEG) else None
        if pixels is None:
            pixels = (
                _decode_any_format(content, scale_to)
                if rows_needed is None
                else _decode_upper_rows(content, scale_to, rows_needed)
            )
        if scaling is not None and scaling.fitted:
            pixels = _fit_shorter_side(pixels, scaling.side)
        if channels == 1:
            pixels = np.array(PIL.Image.fromarray(pixels).convert("L"))[:, :, None]
    except Exception as error:  # parsers of broken files raise whatever they trip over
        raise BadImageError(path, unreadable_reason(error)) from error
    return pixels


def _content(path: Path) -> bytes:
    with open_regular(path) as file:
        content = file.read()
    if not content:
        raise RefusedImageError("the file is empty")
    return content


def _jpeg(
    content: bytes, scale_to: int | None, rows_needed: RowsNeeded | None
) -> NDArray[np.uint8] | None:
    """Return (H, W, 3), or None where Pillow shall look."""
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(content)
        if colours not in COLOURS:
            return None
        admit(width, height)
        by = _divisor(width, height, scale_to)
        wide = width >= NARROW  # the size of a lower file follows from its width alone
        width, height = -(-width // by), -(-height // by)
        lower = rows_needed and wide and lower_jpeg(content, rows_needed(height, width) * by)
        if lower:
            pixels = np.zeros((height, width, 3), dtype=np.uint8)
            simplejpeg.decode_jpeg(lower, min_width=width, buffer=pixels, strict=False)
        else:
            pixels = simplejpeg.decode_jpeg(content, min_width=width, min_height=height)
    except ValueError as error:  # raised for harmless oddities, too
        if INVENTED in str(error):
            raise RefusedImageError(
                "the file is incomplete: parts of the image are missing"
            ) from error
        return None
    return pixels


def _decode_upper_rows(
    content: bytes, scale_to: int | None, rows_needed: RowsNeeded
) -> NDArray[np.uint8]:
    width, height = png_size(content) or (0, 0)
    lower = lower_png(content, rows_needed(height, width)) if height else None
    if lower is None:
        return _decode_any_format(content, scale_to)
    upper = _decode_any_format(lower, None)
    pixels = np.zeros((height, *upper.shape[1:]), dtype=np.uint8)
    pixels[: len(upper)] = upper
    return pixels


def _decode_any_format(content: bytes, scale_to: int | None) -> NDArray[np.uint8]:
    with open_image(io.BytesIO(content)) as file:
        width, height = file.size
        by = _divisor(width, height, scale_to)
        if by > 1 and isinstance(file, JpegImageFile):
            file.draft(None, (width // by, height // by))
        if file.mode.startswith("I;16"):
            grey = (np.array(file) >> 8).astype(np.uint8)
            return np.repeat(grey[:, :, None], 3, axis=2)
        if file.mode in {"I", "F"}:
            raise RefusedImageError(
                "the range of its 32-bit samples is unknown (save it with 8 or 16 bits)"
            )
        return np.array(file.convert("RGB"))


def _fit_shorter_side(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Return (h, w, 3) with a shorter side of `side`."""
    height, width = pixels.shape[:2]
    shorter = min(height, width)
    if shorter == side:
        return pixels
    size = [max(1, round(length * side / shorter)) for length in (width, height)]
    admit(*size)
    by = PIL.Image.Resampling.LANCZOS if shorter > side else PIL.Image.Resampling.BICUBIC
    return np.array(PIL.Image.fromarray(pixels).resize((size[0], size[1]), by))


def _divisor(width: int, height: int, scale_to: int | None) -> int:
    if scale_to is not None:
        for by in SCALES:
            if -(-min(width, height) // by) >= scale_to:
                return by
    return 1
