"""Open image files: only the listed formats, and none with more pixels than memory may hold.

The only module that calls `PIL.Image.open`. Pillow tries every format that it knows unless the caller
lists some, and it starts Ghostscript for EPS.
"""

import functools
import importlib
import importlib.util
import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

import PIL.Image

from trueface.runtime.errors import first_line, install_command
from trueface.runtime.files import link_target

FORMATS = (
    "JPEG",
    "PNG",
    "GIF",
    "BMP",
    "TIFF",
    "WEBP",
    "AVIF",
    "HEIF",
)  # others start programs or are old
# names of Pillow's readers; HEIC is HEIF with the codec of phones
AVIF, HEIF = "AVIF", "HEIF"
# suffix → format, of the formats whose reader may be missing; see `missing_reader`
HEIF_SUFFIXES = {".avif": AVIF, ".heic": HEIF, ".heif": HEIF, ".hif": HEIF}
# brands of AVIF and HEIF files; ISO/IEC 14496-12 and 23008-12. HEIF's own are those of AVIF files, too
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_HEIF_BRANDS = frozenset({
    b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"mif2", b"msf1",
})  # fmt: skip
_LACKING = "no reader is installed for"
_MODULES = {AVIF: "PIL._avif", HEIF: "pillow_heif"}
_HEAD = 64  # bytes that are read for the brands; a phone writes 24 to 44
PIXELS = 1 << 27  # 400 MiB as RGB; a photograph of 100 megapixels passes, a bomb does not
FILE_BYTES = 1 << 29  # bytes of a file on disk; 8-bit colour of as many pixels takes less

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
        image = stack.enter_context(_open_format(source, formats))
        admit(*image.size)
        yield image


def lacks_reader(reason: str) -> bool:
    """Return whether a reason why an image could not be read is a reader that is not installed."""
    return reason.startswith(_LACKING)


def missing_reader(name: str) -> str:
    """Return the format of a file name that cannot be read in this environment, or ""."""
    form = HEIF_SUFFIXES.get(os.path.splitext(name)[1].lower(), "")  # noqa: PTH122  # of 200,000
    return form if form and _reader_fault(form) else ""


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
        raise RefusedImageError(f"{width:,} x {height:,}: {_too_large_reason()}")


def unreadable_reason(error: Exception) -> str:
    """Return why an image could not be read, for a message that names the file.

    Args:
        error: what `open_image`, Pillow or simplejpeg raised.
    """
    if isinstance(error, RefusedImageError):
        return str(error)
    if isinstance(error, PIL.Image.DecompressionBombError):
        return _too_large_reason()
    if isinstance(error, PIL.UnidentifiedImageError):
        return f"no {', '.join(FORMATS[:-1])} or {FORMATS[-1]} image"
    if isinstance(error, MemoryError):
        return "there is not enough memory for it"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    reason = str(error).strip() or type(error).__name__
    return f"its data is cut off or damaged: {reason}"


def _open_format(source: IO[bytes], formats: tuple[str, ...]) -> PIL.Image.Image:
    form = _brand_format(source)
    if not form:
        formats = tuple(name for name in formats if name not in _MODULES)
        return PIL.Image.open(source, formats=formats)
    if form not in formats:
        return PIL.Image.open(source, formats=())  # refused as every unwanted format
    if fault := _reader_fault(form):
        raise RefusedImageError(fault)
    try:
        return PIL.Image.open(source, formats=(form,))
    except PIL.UnidentifiedImageError as error:
        raise RefusedImageError(f"its {form} data is cut off or damaged") from error


def _brand_format(source: IO[bytes]) -> str:
    """Return AVIF or HEIF if the brands of a file say so; "" for all others."""
    head = source.read(_HEAD)
    source.seek(0)
    if head[4:8] != b"ftyp":
        return ""
    end = int.from_bytes(head[:4], "big")
    brands = {head[at : at + 4] for at in (8, *range(16, min(end, len(head)), 4))}
    if brands & _AVIF_BRANDS:
        return AVIF
    return HEIF if brands & _HEIF_BRANDS else ""


@functools.cache
def _reader_fault(form: str) -> str:
    """Return why files of a format cannot be read here, or "" after Pillow is prepared for them."""
    if importlib.util.find_spec(_MODULES[form]) is None:
        return f"{_LACKING} {form} files. Install one: {install_command('heif')}"
    try:
        _register(form)
    except (ImportError, OSError) as error:
        return (
            f"{_LACKING} {form} files that can be imported ({first_line(error)}). Install it again: "
            f"{install_command('heif')}"
        )
    return ""


def _register(form: str) -> None:
    """Prepare Pillow for a format, once in each process. Images are decoded side by side already."""
    importlib.import_module(_MODULES[form])  # Pillow hides why its own reader cannot be imported
    if form == HEIF:
        import pillow_heif  # an extra

        pillow_heif.register_heif_opener(thumbnails=False, decode_threads=1)
    else:
        import PIL.AvifImagePlugin  # not in Pillow before 11.3

        PIL.AvifImagePlugin.DEFAULT_MAX_THREADS = 1


def _open(path: str | Path) -> IO[bytes]:
    try:
        return open(path, "rb", opener=_without_waiting)  # pathlib takes no opener
    except FileNotFoundError as error:
        if target := link_target(path):
            raise RefusedImageError(f"{error.strerror}: it is a link to {target}") from error
        raise


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def _too_large_reason() -> str:
    return f"more than {PIXELS:,} pixels, so it could be an attack on the memory"
