"""Headers of image files, read without pixels: sizes, and properties that reveal the class.

The network gets the centre of an image, cropped and not resized. If the sides of
an image are four times as long as those of the training, it gets only a sixteenth of the area. Its
predictions then mean little.

The accuracy of one header property as a classifier of fake and real is measured on images that were
not used to derive the rule. If a property has many values, two samples of one class differ in
nearly all of them.

The file formats and JPEG qualities of the training are in `image_formats`.
"""

import math
import struct
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, NamedTuple, Protocol, TypeVar

import PIL.Image

from trueface.data import header_traits
from trueface.runtime.digests import sha256_hex
from trueface.runtime.files import Json
from trueface.runtime.image_files import open_image, unreadable_reason
from trueface.runtime.rng import python_rng, seeded_python_rng

SAMPLE = 200  # headers of a training's images, or of each class; 0.1 ms each
SEED = 42  # seed of the sample
FACTOR = 1.5  # ratio to the training's sizes above which an image's size is reported
LEAST = 20  # headers of a class; fewer are not enough for a statement
TELLING = 0.65  # balanced accuracy of a property alone; 200 fair images a class reach 0.60
# accuracy above 0.5, times √n of the n files in the smaller class; one of 100 fair samples reaches it
MARGIN = 0.9
IMAGES, VIDEOS = "images", "videos"
DECIDING = 0.9  # a detector needs nothing else
SHOWN = 4  # values a class in words
# exceptions that Pillow raises for broken headers
BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    PIL.Image.DecompressionBombError,
)


class ImageSize(NamedTuple):
    """The size of an image file, in pixels."""

    width: int
    height: int

    @property
    def shorter(self) -> int:
        """The shorter side."""
        return min(self)


class LearnedSizes(NamedTuple):
    """The shorter sides of the images that a model has learned from, in pixels."""

    smallest: int
    median: int
    largest: int

    @classmethod
    def from_files(cls, files: Sequence[str]) -> "LearnedSizes | None":
        """Look at a sample of the files; None where none of these is an image."""
        chosen = seeded_python_rng(SEED).sample(files, min(SAMPLE, len(files)))
        sides = sorted(size.shorter for size in map(read_size, chosen) if size is not None)
        if not sides:
            return None
        return cls(sides[0], sides[len(sides) // 2], sides[-1])

    @classmethod
    def from_json(cls, content: Json) -> "LearnedSizes | None":
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

    def is_unlike(self, size: ImageSize, factor: float = FACTOR) -> bool:
        """Return whether an image is smaller or larger than all of these by more than the factor."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The header of an image file."""

    label: int  # 1 fake, 0 real
    format: str  # "PNG"
    size: str  # "256×256"
    tables: str  # a digest of its JPEG quantisation tables; "" of other formats
    orientation: str  # this and the following are of `header_traits`
    colour_mode: str
    subsampling: str
    compression: str
    coding: str
    metadata: str
    resolution: str
    software: str


class LabelledHeader(Protocol):
    """The header of any file of a class."""

    @property
    def label(self) -> int:
        """1 fake, 0 real."""

    @property
    def format(self) -> str:
        """The format, which decides the other traits that it can have."""


H = TypeVar("H", bound=LabelledHeader)


@dataclass(frozen=True)  # Python 3.11 cannot construct an alias of a generic class with slots
class HeaderProperty(Generic[H]):
    """A property of headers."""

    name: str  # in words
    value: Callable[[H], str]  # "" of a header that has none
    # each format can record other traits, so only formats are compared that both classes have
    of_format: bool = True
    shapes_pixels: bool = True  # whether the pixels that a detector reads depend on it
    unit: str = IMAGES  # kind of the files, in words


Property = HeaderProperty[Header]  # a property of image files
FORMAT = Property("the file format", lambda header: header.format, of_format=False)
SIZE = Property("the image size", lambda header: header.size, of_format=False)
TABLES = Property("the JPEG quantisation", lambda header: header.tables)
ORIENTATION = Property("the EXIF orientation", lambda header: header.orientation)
COLOUR_MODE = Property("the colour mode", lambda header: header.colour_mode)
SUBSAMPLING = Property("the JPEG chroma subsampling", lambda header: header.subsampling)
COMPRESSION = Property("the kind of compression", lambda header: header.compression)
CODING = Property(
    "the coding (progressive, interlaced)", lambda header: header.coding, shapes_pixels=False
)
METADATA = Property("the metadata", lambda header: header.metadata, shapes_pixels=False)
RESOLUTION = Property(
    "the recorded resolution", lambda header: header.resolution, shapes_pixels=False
)
SOFTWARE = Property(
    "the recorded camera or software", lambda header: header.software, shapes_pixels=False
)
PROPERTIES = (
    FORMAT, SIZE, TABLES, ORIENTATION, COLOUR_MODE, SUBSAMPLING, COMPRESSION, CODING, METADATA, RESOLUTION,
    SOFTWARE,
)  # fmt: skip

COMPRESSIONS = frozenset({FORMAT.name, TABLES.name, SUBSAMPLING.name, COMPRESSION.name})
TRACES_STAY = "A conversion keeps the traces of the old compression"
OTHER_SOURCES = (
    "check where the files of both classes come from, because their pixels may show it as well"
)


class Shortcut(NamedTuple):
    """A property that reveals the class."""

    name: str  # name of the property
    accuracy: float  # balanced, of the property alone
    real: str  # its values and how often each is there
    fake: str
    shapes_pixels: bool = True  # as of the property
    unit: str = IMAGES  # like the property

    @property
    def sentence(self) -> str:
        """What is wrong, in words."""
        return f"{self.name} alone separates fake from real {self.unit} in {self.accuracy:.0%} of cases"

    @property
    def remedy(self) -> str:
        """What to do, in words."""
        if not self.shapes_pixels:
            return OTHER_SOURCES
        trait = self.name.removeprefix("the ")
        learned = f"before training, otherwise the model learns the {trait}"
        if self.unit == VIDEOS:
            same = "give the videos of both classes the same size and last compression"
            return f"{same} {learned}. {TRACES_STAY}"
        if self.name in COMPRESSIONS:
            same = "give the files of both classes the same last compression"
            return f"{same} {learned}. {TRACES_STAY}"
        same = f"give the files of both classes the same {trait}"
        if self.name == ORIENTATION.name:  # without the flag, the pixels would still lie
            same = "turn the pixels of all files upright"
        return f"{same} {learned}"


def sample_headers(labels: Mapping[str, int]) -> tuple[tuple[Header, ...], tuple[str, ...]]:
    """Return the headers of a sample of files, equally many of each class, and the unreadable files.

    Args:
        labels: file → label.
    """
    headers, unreadable = list[Header](), list[str]()
    for label in (0, 1):
        files = sorted(file for file, file_label in labels.items() if file_label == label)
        chosen = python_rng(f"headers/{SEED}/{label}").sample(files, min(SAMPLE, len(files)))
        for file in chosen:
            header = read_header(file, label)
            if header is None:
                unreadable.append(file)
            else:
                headers.append(header)
    return tuple(headers), tuple(unreadable)


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
                orientation=header_traits.orientation(image),
                colour_mode=header_traits.colour_mode(image),
                subsampling=header_traits.chroma_subsampling(image),
                compression=header_traits.compression(image),
                coding=header_traits.coding(image),
                metadata=header_traits.metadata(image),
                resolution=header_traits.resolution(image),
                software=header_traits.software(image),
            )
    except BROKEN:
        return None


def header_fault(file: str) -> str:
    """Return why the header of an image file cannot be read; "" if it can be."""
    try:
        with open_image(file):
            return ""
    except BROKEN as error:
        return unreadable_reason(error)


def by_class(headers: Sequence[H], trait: HeaderProperty[H]) -> tuple[list[str], list[str]]:
    """Return the values of a property, of real and of fake images; headers without one left out."""
    if trait.of_format:
        common = frozenset.intersection(
            *(frozenset(h.format for h in headers if h.label == label) for label in (0, 1))
        )
        headers = [header for header in headers if header.format in common]
    values = [(header.label, trait.value(header)) for header in headers]
    real, fake = ([text for label, text in values if label == side and text] for side in (0, 1))
    return real, fake


def shortcut(headers: Sequence[H], trait: HeaderProperty[H]) -> Shortcut | None:
    """Return a property as a shortcut. None if it does not reveal the class or headers are few."""
    real, fake = by_class(headers, trait)
    fewer = min(len(real), len(fake))
    if fewer < LEAST:
        return None
    accuracy = best_guess_accuracy(real, fake)
    if accuracy < max(TELLING, 0.5 + MARGIN / math.sqrt(fewer)):
        return None
    return Shortcut(
        trait.name, accuracy, _counts(real), _counts(fake), trait.shapes_pixels, trait.unit
    )


def shortcuts_in(headers: Sequence[Header]) -> tuple[Shortcut, ...]:
    """Return the properties of headers that reveal the class."""
    return tuple(filter(None, (shortcut(headers, each) for each in PROPERTIES)))


def join_causes(
    shortcuts: Sequence[Shortcut], headers: Sequence[H], traits: Sequence[HeaderProperty[H]]
) -> tuple[tuple[Shortcut, ...], ...]:
    """Group shortcuts in these headers by cause, the clearest trait of a group first.

    Args:
        shortcuts: the shortcuts.
        headers: that they were found in.
        traits: of such headers.
    """
    groups: list[tuple[Shortcut, ...]] = []
    for each in shortcuts:
        same = [
            group
            for group in groups
            if any(_is_one_cause(each, other, headers, traits) for other in group)
        ]
        groups = [group for group in groups if group not in same]
        groups.append((*(other for group in same for other in group), each))
    # a digest says nothing to a reader
    ranked = [
        tuple(sorted(group, key=lambda each: (not each.shapes_pixels, each.name == TABLES.name)))
        for group in groups
    ]
    return tuple(sorted(ranked, key=lambda group: shortcuts.index(group[0])))


def _is_one_cause(
    first: Shortcut, second: Shortcut, headers: Sequence[H], traits: Sequence[HeaderProperty[H]]
) -> bool:
    """Return whether both only show another source, or each value of one goes with one value of the other."""
    names = {first.name, second.name}
    if names & {FORMAT.name, SIZE.name}:
        return False
    if names == {ORIENTATION.name, METADATA.name} or not (
        first.shapes_pixels or second.shapes_pixels
    ):
        return True
    trait, other_trait = (each for each in traits if each.name in names)
    pairs = {(trait.value(header), other_trait.value(header)) for header in headers}
    pairs = {pair for pair in pairs if all(pair)}
    # one pair may be that of a single file
    return 1 < len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


def best_guess_accuracy(reals: Sequence[str], fakes: Sequence[str]) -> float:
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
    return sha256_hex(text)[:8]
