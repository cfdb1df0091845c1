"""Strips of square tiles that jobs write as PNG, cut and put into a page as data URLs."""

import base64
import io
import zlib
from pathlib import Path

import PIL.Image

from trueface.data.file_headers import BROKEN

MOST_TILE_PX = 96  # larger ones are made smaller; the page enlarges small ones without smoothing
MOST_PIXELS = 1 << 26  # of a picture that is read


def strip(path: Path, *, tiles: int, row: int = 0) -> str | None:
    """Return a row of a picture of square tiles as a data URL; None where there is no such row.

    Args:
        path: a PNG without margins, `tiles` tiles wide.
        tiles: how many stand side by side.
        row: which row of tiles, from 0.
    """
    picture = _opened(path)
    side = 0 if picture is None else picture.width // tiles
    if picture is None or side < 1 or (row + 1) * side > picture.height:
        return None
    return _url(picture.crop((0, row * side, tiles * side, (row + 1) * side)), side)


def tile(path: Path, *, rows: int, row: int, column: int) -> str | None:
    """Return one tile of a picture of square tiles, `rows` tiles high; None where there is none."""
    picture = _opened(path)
    side = 0 if picture is None or rows < 1 else picture.height // rows
    if picture is None or side < 1 or row >= rows or (column + 1) * side > picture.width:
        return None
    corner = column * side, row * side
    return _url(picture.crop((*corner, corner[0] + side, corner[1] + side)), side)


def _opened(path: Path) -> PIL.Image.Image | None:
    try:
        with PIL.Image.open(path, formats=("PNG",)) as file:
            if file.width * file.height > MOST_PIXELS:
                return None
            return file.convert("RGB")
    except (*BROKEN, MemoryError, zlib.error):
        return None


def _url(picture: PIL.Image.Image, side: int) -> str:
    if side > MOST_TILE_PX:
        size = tuple(max(round(length * MOST_TILE_PX / side), 1) for length in picture.size)
        picture = picture.resize((size[0], size[1]), PIL.Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "png", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
