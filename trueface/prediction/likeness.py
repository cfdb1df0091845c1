"""Whether an image is like those of a training: its size, its file format, its features.

Each says that the answer rests on less than validation's did, not that it is wrong.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import PIL.Image

from trueface.data.augmentations.copies import CORRUPTED, KINDS
from trueface.data.decoding import FORMATS
from trueface.data.forging import jpeg
from trueface.data.image_sizes import Learned, Size
from trueface.prediction.image_formats import Format, LearnedFormats, format_of, is_turned
from trueface.runtime.files import Json

Reason = Literal["size", "format", "orientation", "features"]


class Unlike(NamedTuple):
    """In what an image is unlike those of a training."""

    reason: Reason
    text: str  # for people


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """What the header of an image file says; None where it cannot be read."""

    size: Size | None
    form: Format | None
    is_turned: bool  # a flag of its camera says how to turn it before it is shown

    @classmethod
    def read(cls, path: Path) -> "File":
        """Read a file's header."""
        try:
            with PIL.Image.open(path, formats=FORMATS) as image:
                return cls(
                    size=Size(*image.size), form=format_of(image), is_turned=is_turned(image)
                )
        except Exception:  # noqa: BLE001  # parsers of broken headers raise whatever they trip over
            return cls(size=None, form=None, is_turned=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Learnt:
    """The files that a model has learned from; None: its checkpoint is older than the record."""

    sizes: Learned | None
    formats: LearnedFormats | None

    @classmethod
    def read(cls, provenance: Mapping[str, Json]) -> "Learnt":
        """Return what a checkpoint says of its training's files, and of how they were compressed."""
        formats = LearnedFormats.from_json(provenance.get("image_formats"))
        settings = provenance.get("settings")
        if formats is not None and isinstance(settings, Mapping):
            match settings.get("jpeg_prob"), settings.get("jpeg_qual"):
                case (float() | int() as share, [int(low), int(high)]) if share > 0:
                    formats = formats.with_jpeg(low, high)
            if settings.get("sbi"):  # all images go through one more JPEG, then
                formats = formats.with_jpeg(jpeg.LOWEST, jpeg.HIGHEST)
            ridge = provenance.get("ridge")
            copies = ridge.get("copies") if isinstance(ridge, Mapping) else None
            if isinstance(copies, list) and CORRUPTED in copies:
                formats = _with_copies(formats)
        return cls(sizes=Learned.from_json(provenance.get("image_sizes")), formats=formats)

    def unlike(self, file: File) -> Iterator[Unlike]:
        """Yield in what a file is unlike these."""
        if self.sizes is not None and file.size is not None and self.sizes.unlike(file.size):
            yield Unlike(
                "size",
                f"its shorter side has {file.size.shorter} pixels, those of the training {self.sizes}",
            )
        if self.formats is not None and file.form is not None and self.formats.unlike(file.form):
            yield Unlike("format", f"it is {file.form}, and the training had {self.formats}")
        if file.is_turned:
            yield Unlike(
                "orientation",
                "it is stored turned or mirrored, and the network sees it as it is stored",
            )


def _with_copies(formats: LearnedFormats) -> LearnedFormats:
    for kind in KINDS:
        if kind.name == "jpeg":
            formats = formats.with_jpeg(round(kind.low), round(kind.high))
        elif kind.name == "webp":
            formats = formats.with_format("WEBP")
    return formats


def of_distance(distance: float, limit: float) -> Iterator[Unlike]:
    """Yield that features are far, where they are; both as in `FeatureDistance`."""
    if distance > limit:
        yield Unlike(
            "features",
            f"its features are {distance:.3g} away from the training's, and 99 % of validation's "
            f"images at most {limit:.3g}",
        )
