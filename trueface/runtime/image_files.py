"""Open image files: only the listed formats, and none with more pixels than memory may hold.

The only module that calls `PIL.Image.open`. Pillow tries every format that it knows unless the caller
lists some, and it starts Ghostscript for EPS.
"""

import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

import PIL.Image

from trueface.runtime.files import link_target

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP")  # others start programs or are old
PIXELS = 1 << 27  # 400 MiB as RGB; a photograph of 100 megapixels passes, a bomb does not
FILE_BYTES = 1 << 29  # of a file on disk; 8-bit colour of as many pixels takes less

# This module checks the important causes of these warnings itself. The filter is set once per process,
# because threads share filters. Two threads with temporary filters would leave each other's filters behind.
warnings.filterwarnings("ignore", module=r"PIL\.")


class RefusedImageError(OSError):
    """An image file is rejected by a check of this module."""


@contextmanager
def open_image(
    source: str | Path | IO[bytes], formats: tuple[str, ...] = FORMATS
) -> Iterator[PIL.Image.Image]:
    """Open an image and read its header; `load` and `convert` decode the pixels.

    Args:
        source: a path, or an open file. Its content decides the format, not its name.
        formats: Pillow's names of the formats that are accepted.

    Raises:
        OSError: the file is missing, too large, or not an image of these formats.
        Exception: the file is broken; see `unreadable_reason`.
    """
    with ExitStack() as stack:
        if isinstance(source, str | Path):
            source = stack.enter_context(open_regular(source))
        image = stack.enter_context(PIL.Image.open(source, formats=formats))
        admit(*image.size)
        yield image


@contextmanager
def open_regular(path: str | Path) -> Iterator[IO[bytes]]:
    """Open a regular file for reading; others could keep a reader waiting forever.

    Raises:
        OSError: the file is missing, too large, a pipe or a device.
    """
    with _open(path) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise RefusedImageError("it is a pipe or a device")
        if status.st_size > FILE_BYTES:
            raise RefusedImageError(f"it has {status.st_size:,} bytes, more than {FILE_BYTES:,}")
        yield file


def admit(width: int, height: int) -> None:
    """Refuse an image with more than PIXELS pixels.

    Raises:
        RefusedImageError: it has more.
    """
    if width * height > PIXELS:
        raise RefusedImageError(f"{width:,} x {height:,}: {_too_large()}")


def unreadable_reason(error: Exception) -> str:
    """Return why an image could not be read, for a message that names the file.

    Args:
        error: what `open_image`, Pillow or simplejpeg raised.
    """
    if isinstance(error, RefusedImageError):
        return str(error)
    if isinstance(error, PIL.Image.DecompressionBombError):
        return _too_large()
    if isinstance(error, PIL.UnidentifiedImageError):
        return f"no {', '.join(FORMATS[:-1])} or {FORMATS[-1]} image"
    if isinstance(error, MemoryError):
        return "there is not enough memory for it"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"its data is cut off or damaged: {str(error) or type(error).__name__}"


def _open(path: str | Path) -> IO[bytes]:
    try:
        return open(path, "rb", opener=_without_waiting)  # pathlib takes no opener
    except FileNotFoundError as error:
        if target := link_target(path):
            raise RefusedImageError(f"{error.strerror}: it is a link to {target}") from error
        raise


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def _too_large() -> str:
    return f"more than {PIXELS:,} pixels, so it could be an attack on the memory"
