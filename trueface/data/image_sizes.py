"""How large images are, and whether others are of sizes that a model has not been trained on.

The network sees the middle of an image, cut out and not shrunk. In an image four times as large as
those of the training it sees a sixteenth of what it learned to look at, and its answers say little.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import PIL.Image

from trueface.data.decoding import FORMATS
from trueface.runtime.files import Json

SAMPLE = 200  # headers of a training's images, 0.1 ms each
SEED = 42  # of the sample
FACTOR = 1.5  # how far beyond the training's sizes an image may be before that is said


class Size(NamedTuple):
    """Of an image file, in pixels."""

    width: int
    height: int

    @property
    def shorter(self) -> int:
        """The shorter side."""
        return min(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
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
        return cls(smallest=sides[0], median=sides[len(sides) // 2], largest=sides[-1])

    @classmethod
    def from_json(cls, content: Json) -> "Learned | None":
        """Read what `as_json` gave; None where it is something else."""
        if not isinstance(content, Mapping):
            return None
        values = [content.get(key) for key in ("smallest", "median", "largest")]
        sides = [value for value in values if isinstance(value, int) and value > 0]
        if len(sides) < len(values):
            return None
        return cls(smallest=sides[0], median=sides[1], largest=sides[2])

    def as_json(self) -> dict[str, Json]:
        """Return all of it."""
        return {"smallest": self.smallest, "median": self.median, "largest": self.largest}

    def unlike(self, size: Size) -> bool:
        """Tell whether an image is much smaller or larger than all of them."""
        return not self.smallest / FACTOR <= size.shorter <= self.largest * FACTOR

    def __str__(self) -> str:
        if self.smallest == self.largest:
            return f"{self.smallest} pixels"
        return f"{self.smallest} to {self.largest} pixels"


def read_size(file: str | Path) -> Size | None:
    """Return the size that an image file states; None where it cannot be read."""
    try:
        with PIL.Image.open(file, formats=FORMATS) as image:
            return Size(*image.size)
    except Exception:  # noqa: BLE001  # parsers of broken headers raise whatever they trip over
        return None


def unlike(files: Sequence[Path], learned: Learned) -> Iterator[tuple[Path, Size]]:
    """Yield the files whose size is far from those that a model has learned from."""
    for file in files:
        size = read_size(file)
        if size is not None and learned.unlike(size):
            yield file, size
