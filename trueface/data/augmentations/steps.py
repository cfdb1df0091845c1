"""The original's augmentation in five steps: what each says of itself, and what chance decides of it.

The order in which numbers are drawn is fixed: whoever changes it changes every training. Pixels are
changed in `data.transforms`, in one pass over what the network will see.
"""

import math
import random
from dataclasses import asdict, dataclass, fields
from typing import Self

import torch

from trueface.data.crops import Window
from trueface.data.settings import AugmentationSettings
from trueface.runtime.files import Json

TRIES = 10  # to find a crop that fits; torchvision's


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """Of one augmented image; None stands for a step that is left out."""

    crop: Window | None  # of the source, to be resized
    sigma: float | None  # of the blur, in pixels
    quality: int | None  # of JPEG, 1 to 100
    mirrored: bool
    turned: bool  # upside down
    patch: Window | None  # of the square, which it may exceed


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """The five steps of a training, in the order in which they are drawn and done; its fields are settings.

    Cut out a part of the image and resize it to the square; blur and compress an image that no social
    network has compressed; mirror it, and, apart from that, turn it upside down; cut a patch out of the
    square.
    """

    resize_prob: float
    resize_scale: tuple[float, float]
    resize_ratio: tuple[float, float]
    resize_size: int
    blur_prob: float
    blur_sigma: tuple[float, float]
    jpeg_prob: float
    jpeg_qual: tuple[int, int]
    flip_prob: float
    patch_size: int

    @classmethod
    def of(cls, settings: AugmentationSettings) -> Self:
        """Return the steps under the settings of a training."""
        return cls(**{field.name: getattr(settings, field.name) for field in fields(cls)})

    @property
    def is_random(self) -> bool:
        """Whether any step can change an image; each is then drawn anew for each."""
        chances = (self.resize_prob, self.blur_prob, self.jpeg_prob, self.flip_prob)
        return max(*chances, self.patch_size) > 0

    @property
    def identity(self) -> dict[str, Json]:
        """Return the parameters of all steps."""
        return asdict(self)

    def draw(self, height: int, width: int, chance: random.Random, *, unshared: bool) -> Parameters:
        """Draw the parameters of an image of this size, in the original's order of steps.

        Args:
            height: of the image, in pixels.
            width: likewise.
            chance: where every random choice comes from.
            unshared: whether blur and JPEG may be applied; shared images have had theirs.
        """
        crop = sigma = quality = None
        if chance.random() < self.resize_prob:
            crop = self._crop(height, width, chance.getrandbits(63))
        if unshared and chance.random() < self.blur_prob:
            sigma = chance.uniform(*self.blur_sigma)
        if unshared and chance.random() < self.jpeg_prob:
            quality = chance.randint(*self.jpeg_qual)
        return Parameters(
            crop=crop,
            sigma=sigma,
            quality=quality,
            mirrored=chance.random() < self.flip_prob,
            turned=chance.random() < self.flip_prob,
            patch=self._patch(chance),
        )

    def _crop(self, height: int, width: int, seed: int) -> Window:
        """Return what torchvision's RandomResizedCrop chooses after `torch.manual_seed(seed)`."""
        generator = torch.Generator().manual_seed(seed)
        low, high = torch.log(torch.tensor(self.resize_ratio)).tolist()
        for _ in range(TRIES):
            area = height * width * _uniform(self.resize_scale, generator).item()
            ratio = torch.exp(_uniform((low, high), generator)).item()
            columns, rows = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < columns <= width and 0 < rows <= height:
                top = int(torch.randint(0, height - rows + 1, size=(1,), generator=generator))
                left = int(torch.randint(0, width - columns + 1, size=(1,), generator=generator))
                return Window(top=top, left=left, height=rows, width=columns)
        narrowest, widest = self.resize_ratio
        rows, columns = height, width
        if width / height < narrowest:
            rows = max(
                round(width / narrowest), 1
            )  # torchvision's is empty for an image of 1 pixel, and fails
        elif width / height > widest:
            columns = max(round(height * widest), 1)
        return Window(
            top=(height - rows) // 2, left=(width - columns) // 2, height=rows, width=columns
        )

    def _patch(self, chance: random.Random) -> Window | None:
        """Return where the patch lies; a square that is smaller has borders on both sides."""
        size, side = self.resize_size, self.patch_size
        if side <= 0:
            return None
        border = max(0, side - size)
        top, left = (chance.randint(0, size + 2 * border - side) - border for _ in range(2))
        return Window(top=top, left=left, height=side, width=side)


def _uniform(span: tuple[float, float], generator: torch.Generator) -> torch.Tensor:
    return torch.empty(1).uniform_(*span, generator=generator)
