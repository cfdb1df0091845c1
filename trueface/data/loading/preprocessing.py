"""The resizing and the crop that a published model needs, as torchvision's transforms compute them.

A model of the lab is tested with the crop of the test's settings. A published model brings its own
preprocessing, which its checkpoint records.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import PIL.Image
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as image_ops

from trueface.data.augmentations.steps import Window, centre_offset
from trueface.data.settings import PREPROCESSING
from trueface.runtime.errors import BadImageError
from trueface.runtime.files import Json
from trueface.runtime.image_files import RefusedImageError, admit


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """Resizing, then a centre crop."""

    crop: int  # side in pixels
    resize: int  # length of the shorter side in pixels; 0: images keep their size
    squash: bool  # whether both sides get that length
    interpolation: str  # one of Pillow's

    @classmethod
    def read(cls, provenance: Mapping[str, Json]) -> "Preprocessing | None":
        """Return the preprocessing in a model's provenance, or None if the settings of a test decide."""
        match provenance.get(PREPROCESSING):
            case {
                "crop": int(crop),
                "resize": int(resize),
                "squash": bool(squash),
                "interpolation": str(interpolation),
            }:
                return cls(crop=crop, resize=resize, squash=squash, interpolation=interpolation)
        return None

    @property
    def json_record(self) -> dict[str, Json]:
        """The same as JSON."""
        return asdict(self)

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
        # Pillow's filter, as for the images of torchvision's data sets: that of tensors rounds otherwise
        image = PIL.Image.fromarray(pixels.permute(1, 2, 0).numpy())
        mode = InterpolationMode(self.interpolation)
        resized = image_ops.resize(image, [*size], interpolation=mode)
        return torch.from_numpy(np.array(resized)).permute(2, 0, 1)

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
        """Return the height and width of a resized image, as torchvision's Resize has them."""
        if not self.resize:
            return height, width
        if self.squash:
            return self.resize, self.resize
        longer = self.resize * max(height, width) // min(height, width)
        return (longer, self.resize) if height > width else (self.resize, longer)
