"""What chance decides of one augmentation, before a pixel is touched.

The order in which numbers are drawn is fixed: whoever changes it changes every training.
"""

import math
import random
from dataclasses import dataclass

import torch

from trueface.data.crops import Window
from trueface.data.settings import AugmentationSettings

TRIES = 10  # to find a crop that fits; torchvision's


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """One augmentation; None stands for a step that is left out."""

    crop: Window | None  # of the source, to be resized
    sigma: float | None  # of the blur, in pixels
    quality: int | None  # of JPEG, 1 to 100
    mirrored: bool
    turned: bool  # upside down
    patch: Window | None  # of the square, which it may exceed


def choose(
    height: int,
    width: int,
    settings: AugmentationSettings,
    chance: random.Random,
    *,
    unshared: bool,
) -> Choices:
    """Draw an augmentation of an image of this size, in the original's order of steps."""
    crop = sigma = quality = None
    if chance.random() < settings.resize_prob:
        crop = _crop(height, width, settings, chance.getrandbits(63))
    if unshared and chance.random() < settings.blur_prob:
        sigma = chance.uniform(*settings.blur_sigma)
    if unshared and chance.random() < settings.jpeg_prob:
        quality = chance.randint(*settings.jpeg_qual)
    return Choices(
        crop=crop,
        sigma=sigma,
        quality=quality,
        mirrored=chance.random() < settings.flip_prob,
        turned=chance.random() < settings.flip_prob,
        patch=_patch(settings.resize_size, settings.patch_size, chance),
    )


def _crop(height: int, width: int, settings: AugmentationSettings, seed: int) -> Window:
    """Return what torchvision's RandomResizedCrop chooses after `torch.manual_seed(seed)`."""
    generator = torch.Generator().manual_seed(seed)
    low, high = torch.log(torch.tensor(settings.resize_ratio)).tolist()
    for _ in range(TRIES):
        area = height * width * _uniform(settings.resize_scale, generator).item()
        ratio = torch.exp(_uniform((low, high), generator)).item()
        columns, rows = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < columns <= width and 0 < rows <= height:
            top = int(torch.randint(0, height - rows + 1, size=(1,), generator=generator))
            left = int(torch.randint(0, width - columns + 1, size=(1,), generator=generator))
            return Window(top=top, left=left, height=rows, width=columns)
    narrowest, widest = settings.resize_ratio
    rows, columns = height, width
    if width / height < narrowest:
        rows = max(
            round(width / narrowest), 1
        )  # torchvision's is empty for an image of 1 pixel, and fails
    elif width / height > widest:
        columns = max(round(height * widest), 1)
    return Window(top=(height - rows) // 2, left=(width - columns) // 2, height=rows, width=columns)


def _uniform(span: tuple[float, float], generator: torch.Generator) -> torch.Tensor:
    return torch.empty(1).uniform_(*span, generator=generator)


def _patch(size: int, side: int, chance: random.Random) -> Window | None:
    """Return where the patch lies; a square that is smaller has borders on both sides."""
    if side <= 0:
        return None
    border = max(0, side - size)
    top, left = (chance.randint(0, size + 2 * border - side) - border for _ in range(2))
    return Window(top=top, left=left, height=side, width=side)
