"""The resizing and the crop that a published model needs, as torchvision's transforms compute them.

A model of the lab is tested with the crop of the test's settings. A published model brings its own
preprocessing, which its checkpoint records. Interpolation `area` is that of programs that resize with OpenCV: INTER_AREA if an image
shrinks, INTER_CUBIC if it grows. OpenCV rounds the weights of INTER_CUBIC to 11 bits, so single pixels differ by one grey level.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import PIL.Image
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  # torch's own name for it
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as image_ops

from trueface.data.augmentations.steps import Window, centre_offset
from trueface.data.image_headers import read_size
from trueface.data.index import Image
from trueface.data.settings import PREPROCESSING
from trueface.runtime.errors import BadImageError
from trueface.runtime.files import Json
from trueface.runtime.image_files import RefusedImageError, admit

SHORTER, LONGER = "shorter", "longer"  # values of `resize_side`
AREA = "area"  # interpolation that Pillow does not have
MOST_HEADERS = 1000  # images whose size is read before a test; 0.1 s
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """Resizing, then a centre crop."""

    crop: int  # side in pixels
    resize: int  # length of the shorter side in pixels; 0: images keep their size
    squash: bool  # whether both sides get that length
    interpolation: str  # one of Pillow's, or `AREA`
    resize_side: str = (
        "shorter"  # side of length `resize`; the crop pads an image whose longer side has it
    )

    @classmethod
    def read(cls, provenance: Mapping[str, Json]) -> "Preprocessing | None":
        """Return the preprocessing in a model's provenance, or None if the settings of a test decide."""
        match provenance.get(PREPROCESSING):
            case {
                "crop": int(crop),
                "resize": int(resize),
                "squash": bool(squash),
                "interpolation": str(interpolation),
                **more,
            }:
                return cls(
                    crop=crop,
                    resize=resize,
                    squash=squash,
                    interpolation=interpolation,
                    resize_side=str(more.get("resize_side", SHORTER)),
                )
        return None

    @property
    def json_record(self) -> dict[str, Json]:
        """The same as JSON, without the side if it is the default, as before there was a choice."""
        record = asdict(self)
        if self.resize_side != LONGER:
            del record["resize_side"]
        return record

    def apply_resize(self, pixels: Tensor, path: Path) -> Tensor:
        """Return the resized image, (3, h, w) uint8, of (3, H, W).

        Args:
            pixels: of the image.
            path: of the image, for messages.

        Raises:
            BadImageError: the resized image would be too large.
        """
        if not self.resize:
            return pixels
        size = self._resized_size(*pixels.shape[-2:])
        try:
            admit(*size)
        except RefusedImageError as error:
            raise BadImageError(path, str(error)) from error
        if self.interpolation == AREA:
            return resize_by_area(pixels, *size)
        # Pillow's filter, as for the images of torchvision's data sets: that of tensors rounds otherwise
        image = PIL.Image.fromarray(pixels.permute(1, 2, 0).numpy())
        mode = InterpolationMode(self.interpolation)
        resized = image_ops.resize(image, [*size], interpolation=mode)
        return torch.from_numpy(np.array(resized)).permute(2, 0, 1)

    def pads(self, height: int, width: int) -> bool:
        """Return whether an image of this size is not resized and gets a black border."""
        return not self.resize and min(height, width) < self.crop

    def seen_window(self, height: int, width: int) -> Window:
        """Return the part of an image of this size that the crop contains, in its own pixels.

        Pixels of which the crop contains a fraction are inside. Without resizing, parts of a small image's window
        lie outside.
        """
        rows, columns = self._resized_size(height, width)
        top, left = centre_offset(rows, columns, self.crop)
        first_row, first_column = top * height // rows, left * width // columns
        return Window(
            top=first_row,
            left=first_column,
            height=-(-(top + self.crop) * height // rows) - first_row,
            width=-(-(left + self.crop) * width // columns) - first_column,
        )

    def _resized_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width of a resized image.

        A longer side is rounded as by torchvision's Resize. A shorter side is rounded as by the authors of
        Cross-Efficient-ViT: 720 * (224 / 1280) is a little below 126 and gives 125.
        """
        if not self.resize:
            return height, width
        if self.squash:
            return self.resize, self.resize
        if self.resize_side == LONGER:
            shorter = max(1, int(min(height, width) * (self.resize / max(height, width))))
            return (shorter, self.resize) if width > height else (self.resize, shorter)
        longer = self.resize * max(height, width) // min(height, width)
        return (longer, self.resize) if height > width else (self.resize, longer)


def resize_by_area(pixels: Tensor, height: int, width: int) -> Tensor:
    """Return the mean colour of the area that each pixel covers, or a bicubic enlargement, (3, height, width) uint8.

    Args:
        pixels: (3, H, W) uint8.
        height: of the result. If it or the width is larger than that of the image, all is bicubic.
        width: of the result.
    """
    size, values = (height, width), pixels.double()
    if size == tuple(pixels.shape[-2:]):
        return pixels
    if height > pixels.shape[-2] or width > pixels.shape[-1]:
        # without antialiasing, torch has the coefficients of OpenCV (-0.75), and Pillow others (-0.5)
        resized = F.interpolate(values[None], size, mode="bicubic", align_corners=False)[0]
    else:
        means = _mean_over_areas(_mean_over_areas(values, height).mT, width).mT
        resized = (
            means + 0.5
        ).floor()  # as OpenCV rounds means of 2 × 2 pixels, where ties are frequent
    return resized.round().clamp(0, 255).byte().contiguous()


def _mean_over_areas(values: Tensor, count: int) -> Tensor:
    """Return the means (…, count, W) of equal parts of the rows (…, H, W). A row may belong to two parts."""
    rows = values.shape[-2]
    sums = F.pad(values.cumsum(-2), (0, 0, 1, 0))  # …, H + 1, W
    edges = torch.arange(count + 1, dtype=values.dtype) * rows / count
    whole = edges.floor().long().clamp(max=rows - 1)
    part = (edges - whole)[:, None]
    at_edges = sums[..., whole, :] + part * values[..., whole, :]
    return at_edges.diff(dim=-2) * count / rows


def warn_of_small_images(
    model: str, preprocessing: Preprocessing | None, images: Sequence[Image]
) -> None:
    """Log how many images are smaller than the crop of a published model that does not resize them.

    Args:
        model: its ID.
        preprocessing: its preprocessing; None if the settings of a test decide.
        images: of a test; at most `MOST_HEADERS` headers are read.
    """
    if preprocessing is None or preprocessing.resize:
        return  # every header would be read for nothing
    seen = images[:: -(-len(images) // MOST_HEADERS)] if images else ()
    small = sum(_is_padded(image.path, preprocessing) for image in seen)
    if small:
        log_small_images(model, small, len(seen), preprocessing.crop)


def log_small_images(model: str, small_count: int, image_count: int, crop: int) -> None:
    """Log the number of images that are smaller than the crop of a published model."""
    log.warning(
        "model=%s small=%d of=%d state=smaller than the crop of %d pixels, so they get a black border that the "
        "authors' images may not have. Give larger images.",
        model,
        small_count,
        image_count,
        crop,
    )


def _is_padded(path: Path, preprocessing: Preprocessing) -> bool:
    size = read_size(path)  # None if its header is broken, which the test reports
    return size is not None and preprocessing.pads(size.height, size.width)
