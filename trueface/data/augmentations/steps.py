"""The original's augmentation in five steps: what each says of itself, and what chance decides of it.

The order in which numbers are drawn is fixed: whoever changes it changes every training. Pixels are
changed in `data.transforms`, in one pass over what the network will see.
"""

import math
import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import ClassVar, Self

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
class ResizedCrop:
    """Cut out a part of the image and resize it to the square."""

    resize_prob: float
    resize_scale: tuple[float, float]
    resize_ratio: tuple[float, float]
    resize_size: int

    @property
    def is_random(self) -> bool:
        """Whether it can change an image; it is then drawn anew each time."""
        return self.resize_prob > 0

    def draw(self, height: int, width: int, chance: random.Random) -> Window | None:
        """Return the part of an image of this size; None: the centre crop instead."""
        if chance.random() < self.resize_prob:
            return self._window(height, width, chance.getrandbits(63))
        return None

    def _window(self, height: int, width: int, seed: int) -> Window:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Blur:
    """Blur an image that no social network has compressed."""

    blur_prob: float
    blur_sigma: tuple[float, float]

    @property
    def is_random(self) -> bool:
        """Whether it can change an image; it is then drawn anew each time."""
        return self.blur_prob > 0

    def draw(self, chance: random.Random) -> float | None:
        """Return the standard deviation in pixels; None: no blur."""
        return chance.uniform(*self.blur_sigma) if chance.random() < self.blur_prob else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Jpeg:
    """Compress an image that no social network has compressed."""

    jpeg_prob: float
    jpeg_qual: tuple[int, int]

    @property
    def is_random(self) -> bool:
        """Whether it can change an image; it is then drawn anew each time."""
        return self.jpeg_prob > 0

    def draw(self, chance: random.Random) -> int | None:
        """Return the quality, 1 to 100; None: no compression."""
        return chance.randint(*self.jpeg_qual) if chance.random() < self.jpeg_prob else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Flips:
    """Mirror the image, and, apart from that, turn it upside down."""

    flip_prob: float

    @property
    def is_random(self) -> bool:
        """Whether it can change an image; it is then drawn anew each time."""
        return self.flip_prob > 0

    def draw(self, chance: random.Random) -> tuple[bool, bool]:
        """Return whether the image is mirrored, and whether it is turned upside down."""
        return chance.random() < self.flip_prob, chance.random() < self.flip_prob


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchCrop:
    """Cut a patch out of the square."""

    patch_size: int
    resize_size: int

    @property
    def is_random(self) -> bool:
        """Whether there are patches; each is drawn anew."""
        return self.patch_size > 0

    def draw(self, chance: random.Random) -> Window | None:
        """Return where the patch lies; a square that is smaller has borders on both sides."""
        size, side = self.resize_size, self.patch_size
        if side <= 0:
            return None
        border = max(0, side - size)
        top, left = (chance.randint(0, size + 2 * border - side) - border for _ in range(2))
        return Window(top=top, left=left, height=side, width=side)


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """The five steps of a training, in the order in which they are drawn and done."""

    resized_crop: ResizedCrop
    blur: Blur
    jpeg: Jpeg
    flips: Flips
    patch_crop: PatchCrop

    CLASSES: ClassVar[Mapping[str, type]] = {
        "resized_crop": ResizedCrop,
        "blur": Blur,
        "jpeg": Jpeg,
        "flips": Flips,
        "patch_crop": PatchCrop,
    }

    @classmethod
    def of(cls, settings: AugmentationSettings) -> Self:
        """Return the steps under the settings of a training; a step's fields are settings."""
        return cls(
            **{
                name: step(**{field.name: getattr(settings, field.name) for field in fields(step)})
                for name, step in cls.CLASSES.items()
            }
        )

    @property
    def is_random(self) -> bool:
        """Whether any step can change an image; each is then drawn anew for each."""
        return any(getattr(self, name).is_random for name in self.CLASSES)

    @property
    def identity(self) -> dict[str, Json]:
        """Return the parameters of all steps."""
        return {key: value for step in asdict(self).values() for key, value in step.items()}

    def draw(self, height: int, width: int, chance: random.Random, *, unshared: bool) -> Parameters:
        """Draw the parameters of an image of this size, in the original's order of steps.

        Args:
            height: of the image, in pixels.
            width: likewise.
            chance: where every random choice comes from.
            unshared: whether blur and JPEG may be applied; shared images have had theirs.
        """
        crop = self.resized_crop.draw(height, width, chance)
        sigma = self.blur.draw(chance) if unshared else None
        quality = self.jpeg.draw(chance) if unshared else None
        mirrored, turned = self.flips.draw(chance)
        return Parameters(
            crop=crop,
            sigma=sigma,
            quality=quality,
            mirrored=mirrored,
            turned=turned,
            patch=self.patch_crop.draw(chance),
        )


def _uniform(span: tuple[float, float], generator: torch.Generator) -> torch.Tensor:
    return torch.empty(1).uniform_(*span, generator=generator)
