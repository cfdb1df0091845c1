"""Formats of image files, and the formats of the training files of a model.

The traces that a detector uses are as faint as those of a JPEG encoder. An image that was
compressed more strongly than all training images may be classified as fake, or real, for that
reason alone. A model therefore stores the formats of its training files.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL.Image
from PIL import ExifTags
from PIL.JpegImagePlugin import JpegImageFile

from trueface.data.image_headers import SAMPLE, SEED
from trueface.runtime.files import Json
from trueface.runtime.image_files import open_image
from trueface.runtime.rng import seeded_python_rng

LOSSLESS = "lossless"
FAMILIES = {"PNG": LOSSLESS, "BMP": LOSSLESS, "TIFF": LOSSLESS}  # others stand for themselves
UPRIGHT = 1  # value of EXIF's flag of orientation
# Pillow turns TIFF itself, and PNG has it behind the pixels. HEIF is turned while it is decoded
WITH_FLAG = frozenset({"JPEG", "MPO", "WEBP", "AVIF"})
MARGIN = 10  # points of JPEG quality beyond the training's before that is said
# luminance, in natural order: ITU-T T.81, table K.1, which encoders scale by their quality
STANDARD = np.array([
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55,
    14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62,
    18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
])  # fmt: skip


class Format(NamedTuple):
    """Of an image file."""

    name: str  # one of `image_files.FORMATS`
    quality: int | None  # quality of JPEG: that of libjpeg whose table is nearest, 1 … 100

    def __str__(self) -> str:
        return self.name if self.quality is None else f"{self.name} of quality {self.quality}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnedFormats:
    """The formats of the images that a model has learned from."""

    counts: Mapping[str, int]  # in the sample, by name
    qualities: tuple[int, int] | None  # the lowest and highest of JPEG; None: no JPEG

    @classmethod
    def from_files(cls, files: Sequence[str]) -> "LearnedFormats | None":
        """Look at a sample of the files; None where none of these is an image."""
        chosen = seeded_python_rng(SEED).sample(files, min(SAMPLE, len(files)))
        formats = [form for form in map(read_format, chosen) if form is not None]
        if not formats:
            return None
        qualities = [form.quality for form in formats if form.quality is not None]
        return cls(
            counts=dict(sorted(Counter(form.name for form in formats).items())),
            qualities=(min(qualities), max(qualities)) if qualities else None,
        )

    @classmethod
    def from_json(cls, content: Json) -> "LearnedFormats | None":
        """Read what `as_json` gave; None where it is something else."""
        counts = content.get("counts") if isinstance(content, Mapping) else None
        if not isinstance(content, Mapping) or not isinstance(counts, Mapping) or not counts:
            return None
        match content.get("jpeg_quality"):
            case [int(low), int(high)]:
                qualities: tuple[int, int] | None = (low, high)
            case _:
                qualities = None
        numbers = {name: count for name, count in counts.items() if isinstance(count, int)}
        return cls(counts=numbers, qualities=qualities)

    def as_json(self) -> dict[str, Json]:
        """Return all of it."""
        qualities: Json = None if self.qualities is None else list(self.qualities)
        return {"counts": dict(self.counts), "jpeg_quality": qualities}

    def with_jpeg(self, low: int, high: int) -> "LearnedFormats":
        """Return what a model has learned from whose training also compressed images itself."""
        first, last = self.qualities or (low, high)
        return replace(self.with_format("JPEG"), qualities=(min(first, low), max(last, high)))

    def with_format(self, name: str) -> "LearnedFormats":
        """Return the same of a model whose training made images of this format itself."""
        return replace(self, counts={name: 0, **self.counts})

    def is_unlike(self, form: Format) -> bool:
        """Return whether the format, or the JPEG quality, of a file is not in the training data."""
        if FAMILIES.get(form.name, form.name) not in {FAMILIES.get(n, n) for n in self.counts}:
            return True
        if form.quality is None or self.qualities is None:
            return False
        low, high = self.qualities
        return not low - MARGIN <= form.quality <= high + MARGIN

    def __str__(self) -> str:
        names = [name for name in self.counts if name != "JPEG"]
        if self.qualities is not None:
            low, high = self.qualities
            names.insert(0, f"JPEG of quality {low}" if low == high else f"JPEG of {low} to {high}")
        return ", ".join(names)


def read_format(file: str | Path) -> Format | None:
    """Return the format of an image file by its content; None where it cannot be read."""
    try:
        with open_image(file) as image:
            return format_of(image)
    except Exception:  # noqa: BLE001  # parsers of broken headers raise whatever they trip over
        return None


def format_of(image: PIL.Image.Image) -> Format:
    """Return the format of an opened image file."""
    tables = image.quantization if isinstance(image, JpegImageFile) else {}
    # the first of several pictures in a JPEG file counts
    name = "JPEG" if image.format == "MPO" else image.format or ""
    return Format(name, jpeg_quality(tables[0]) if 0 in tables else None)


def is_turned(image: PIL.Image.Image) -> bool:
    """Return whether EXIF data of an opened image ask for a rotation before display."""
    if image.format not in WITH_FLAG:
        return False
    return bool(image.getexif().get(ExifTags.Base.Orientation, UPRIGHT) != UPRIGHT)


def jpeg_quality(table: Sequence[int]) -> int:
    """Return the quality, 1 … 100, at which libjpeg's luminance table is nearest to this one, (64,).

    Encoders with tables of their own, as cameras have, get the quality that loses as much.
    """
    distances = np.abs(ENCODER_TABLES - np.asarray(table)[None, :]).sum(1)
    return int(distances.argmin()) + 1


def _tables() -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """Return the luminance table of each quality, (100, 64), as libjpeg's jpeg_set_quality has it."""
    quality = np.arange(1, 101)
    percent = np.where(quality < 50, 5000 // quality, 200 - 2 * quality)
    return ((STANDARD[None, :] * percent[:, None] + 50) // 100).clip(1, 255)


ENCODER_TABLES = _tables()
