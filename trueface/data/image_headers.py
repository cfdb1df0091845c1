"""What the headers of image files say, before any pixel is looked at: sizes, formats, and what tells of their class.

The network sees the middle of an image, cut out and not shrunk. In an image four times as large as
those of the training it sees a sixteenth of what it learned to look at, and its answers say little.

How well one property of the headers alone tells fake from real is measured on images that did not
make the rule: of a property with many values, two samples of one class differ in nearly all.

The traces that a detector looks for are as faint as those that a JPEG encoder leaves: an image that
was compressed more strongly than all images of the training may be called fake, or real, for that
alone. So a model knows the formats of the files that it was trained on.
"""

import hashlib
import random
import struct
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL.Image
from PIL import ExifTags
from PIL.JpegImagePlugin import JpegImageFile

from trueface.runtime.files import Json
from trueface.runtime.image_files import open_image

SAMPLE = 200  # headers of a training's images, or of each class; 0.1 ms each
SEED = 42  # of the sample
FACTOR = 1.5  # how far beyond the training's sizes an image may be before that is said
LOSSLESS = "lossless"
FAMILIES = {"PNG": LOSSLESS, "BMP": LOSSLESS, "TIFF": LOSSLESS}  # others stand for themselves
UPRIGHT = 1  # of EXIF's flag of orientation
WITH_FLAG = frozenset(
    {"JPEG", "MPO", "WEBP"}
)  # Pillow turns TIFF itself, and PNG has it behind the pixels
MARGIN = 10  # points of JPEG quality beyond the training's before that is said
# luminance, in natural order: ITU-T T.81, table K.1, which encoders scale by their quality
STANDARD = np.array([
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55,
    14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62,
    18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
])  # fmt: skip


class ImageSize(NamedTuple):
    """Of an image file, in pixels."""

    width: int
    height: int

    @property
    def shorter(self) -> int:
        """The shorter side."""
        return min(self)


class Learned(NamedTuple):
    """The shorter sides of the images that a model has learned from, in pixels."""

    smallest: int
    median: int
    largest: int

    @classmethod
    def of(cls, files: Sequence[str]) -> "Learned | None":
        """Look at a sample of the files; None where none of these is an image."""
        chosen = random.Random(SEED).sample(files, min(SAMPLE, len(files)))
        sides = sorted(size.shorter for size in map(read_size, chosen) if size is not None)
        if not sides:
            return None
        return cls(sides[0], sides[len(sides) // 2], sides[-1])

    @classmethod
    def from_json(cls, content: Json) -> "Learned | None":
        """Read what `as_json` gave; None where it is something else."""
        if not isinstance(content, Mapping):
            return None
        values = [content.get(key) for key in cls._fields]
        sides = [value for value in values if isinstance(value, int) and value > 0]
        if len(sides) < len(values):
            return None
        return cls(*sides)

    def as_json(self) -> dict[str, Json]:
        """Return all of it."""
        return self._asdict()

    def unlike(self, size: ImageSize, factor: float = FACTOR) -> bool:
        """Tell whether an image is smaller or larger than all of them by more than this factor."""
        return not self.smallest / factor <= size.shorter <= self.largest * factor

    def __str__(self) -> str:
        if self.smallest == self.largest:
            return f"{self.smallest} pixels"
        return f"{self.smallest} to {self.largest} pixels"


def read_size(file: str | Path) -> ImageSize | None:
    """Return the size that an image file states; None where it cannot be read."""
    try:
        with open_image(file) as image:
            return ImageSize(*image.size)
    except Exception:  # noqa: BLE001  # parsers of broken headers raise whatever they trip over
        return None


LEAST = 20  # headers of a class; fewer tell nothing
TELLING = 0.65  # balanced accuracy of a property alone; 200 fair images a class reach 0.60
DECIDING = 0.9  # a detector needs nothing else
SHOWN = 4  # values a class in words

# what Pillow raises of broken headers
BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    PIL.Image.DecompressionBombError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What the header of an image file says."""

    label: int  # 1 fake, 0 real
    format: str  # "PNG"
    size: str  # "256×256"
    tables: str  # a digest of its JPEG quantisation tables; "" of other formats


class Property(NamedTuple):
    """A property of headers."""

    name: str  # in words
    value: Callable[[Header], str]  # "" of a header that has none


FORMAT = Property("the file format", lambda header: header.format)
SIZE = Property("the image size", lambda header: header.size)
TABLES = Property("the JPEG quantisation", lambda header: header.tables)
PROPERTIES = (FORMAT, SIZE, TABLES)


class Shortcut(NamedTuple):
    """A property that tells the class."""

    name: str  # of the property
    accuracy: float  # balanced, of the property alone
    real: str  # its values and how often each is there
    fake: str

    @property
    def sentence(self) -> str:
        """What is wrong, in words."""
        return f"{self.name} alone separates fake from real images in {self.accuracy:.0%} of cases"


def sample_headers(labels: Mapping[str, int]) -> tuple[tuple[Header, ...], int]:
    """Return the headers of a sample of files, equally many of each class, and how many are unreadable.

    Args:
        labels: file → label.
    """
    headers, unreadable = [], 0
    for label in (0, 1):
        files = sorted(file for file, of in labels.items() if of == label)
        chosen = random.Random(f"headers/{SEED}/{label}").sample(files, min(SAMPLE, len(files)))
        for file in chosen:
            header = read_header(file, label)
            if header is None:
                unreadable += 1
            else:
                headers.append(header)
    return tuple(headers), unreadable


def read_header(file: str, label: int) -> Header | None:
    """Return the header of an image file; None where it cannot be read."""
    try:
        with open_image(file) as image:
            tables = getattr(image, "quantization", None)
            # a JPEG file with previews in it is one all the same
            name = "JPEG" if image.format == "MPO" else str(image.format)
            return Header(
                label=label,
                format=name,
                size=f"{image.width}×{image.height}",
                tables=_mark(tables) if tables else "",
            )
    except BROKEN:
        return None


def by_class(headers: Sequence[Header], what: Property) -> tuple[list[str], list[str]]:
    """Return the values of a property, of real and of fake images; headers without one left out."""
    values = [(header.label, what.value(header)) for header in headers]
    real, fake = ([text for label, text in values if label == wanted and text] for wanted in (0, 1))
    return real, fake


def shortcut(headers: Sequence[Header], what: Property) -> Shortcut | None:
    """Return a property as a shortcut; None where it does not tell the class, or of too few headers."""
    real, fake = by_class(headers, what)
    if min(len(real), len(fake)) < LEAST:
        return None
    accuracy = told_apart(real, fake)
    if accuracy < TELLING:
        return None
    return Shortcut(what.name, accuracy, _counts(real), _counts(fake))


def shortcuts_of(labels: Mapping[str, int]) -> tuple[Shortcut, ...]:
    """Return the properties of headers that tell the class of files, by a sample of them.

    Args:
        labels: file → label.
    """
    headers, _ = sample_headers(labels)
    return tuple(filter(None, (shortcut(headers, each) for each in PROPERTIES)))


def told_apart(reals: Sequence[str], fakes: Sequence[str]) -> float:
    """Return the balanced accuracy of the best guess by value, each half judged by the other."""
    right = [0.0, 0.0]
    for half in (0, 1):
        seen = [Counter(side[half::2]) for side in (reals, fakes)]
        sizes = [max(len(side[half::2]), 1) for side in (reals, fakes)]
        for label, side in enumerate((reals, fakes)):
            judged = side[1 - half :: 2]
            for value in judged:
                shares = [seen[label][value] / sizes[label] for label in (0, 1)]
                if shares[0] == shares[1]:
                    right[label] += 0.5 / len(side)
                elif shares[label] > shares[1 - label]:
                    right[label] += 1 / len(side)
    return sum(right) / 2


def _counts(values: Sequence[str]) -> str:
    counts = Counter(values)
    # equal counts in the order of their values, whatever the order of the sample
    common = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{count} × {value}" for value, count in common[:SHOWN]]
    rest = len(values) - sum(count for _, count in common[:SHOWN])
    return ", ".join([*shown, f"{rest} others"] if rest else shown)


def _mark(tables: Mapping[int, Sequence[int]]) -> str:
    text = repr(sorted((number, tuple(values)) for number, values in tables.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


class Format(NamedTuple):
    """Of an image file."""

    name: str  # one of `image_files.FORMATS`
    quality: int | None  # of JPEG: the quality of libjpeg whose table is nearest, 1 … 100

    def __str__(self) -> str:
        return self.name if self.quality is None else f"{self.name} of quality {self.quality}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnedFormats:
    """The formats of the images that a model has learned from."""

    counts: Mapping[str, int]  # in the sample, by name
    qualities: tuple[int, int] | None  # the lowest and highest of JPEG; None: no JPEG

    @classmethod
    def of(cls, files: Sequence[str]) -> "LearnedFormats | None":
        """Look at a sample of the files; None where none of these is an image."""
        chosen = random.Random(SEED).sample(files, min(SAMPLE, len(files)))
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

    def unlike(self, form: Format) -> bool:
        """Tell whether a file is of a format, or a JPEG of a quality, that was not learned from."""
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
    # of several pictures in a JPEG file the first one counts
    name = "JPEG" if image.format == "MPO" else image.format or ""
    return Format(name, jpeg_quality(tables[0]) if 0 in tables else None)


def is_turned(image: PIL.Image.Image) -> bool:
    """Tell whether a flag of its camera says that an opened image is to be turned before it is shown."""
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
