"""The augmentation of a training: five original steps, then registered steps by name.

Contains the settings of each step and its random parameters. The order in which numbers are drawn
is fixed: a change of it changes every training. Pixels are changed in `data.loading.transforms`, in one
pass over the pixels that the network gets. Windows may extend beyond the image.
"""

import math
import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Never, Protocol, Self

import torch
from torch import Tensor

from trueface.data.augmentations.registry import SPECS, settings_of
from trueface.data.settings import AugmentationSettings
from trueface.runtime.errors import JobError
from trueface.runtime.field_types import Settings
from trueface.runtime.files import Json
from trueface.runtime.rng import python_rng


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A rectangle in an image's own pixels; parts of it may lie outside."""

    top: int
    left: int
    height: int
    width: int

    @property
    def bottom(self) -> int:
        """The first row below it."""
        return self.top + self.height

    @property
    def right(self) -> int:
        """The first column to its right."""
        return self.left + self.width

    def shifted_by(self, rows: int, columns: int) -> "Window":
        """Return a window of the same size elsewhere."""
        return Window(
            top=self.top + rows, left=self.left + columns, height=self.height, width=self.width
        )

    def clipped_to(self, size: int) -> "Window":
        """Return the part of the window inside the square of this side. It may be empty."""
        top, left = min(max(self.top, 0), size), min(max(self.left, 0), size)
        return Window(
            top=top,
            left=left,
            height=max(0, min(self.bottom, size) - top),
            width=max(0, min(self.right, size) - left),
        )

    def padded_by(self, border: int, size: int, *, multiple: int = 1) -> "Window":
        """Return a window with `border` more pixels around, at a multiple, within a square.

        Args:
            border: pixels on each side.
            size: side of the square that it does not leave.
            multiple: the edges are at multiples of this, or at the edges of the square.
        """
        top = (self.top - border) // multiple * multiple
        left = (self.left - border) // multiple * multiple
        bottom = -(-(self.bottom + border) // multiple) * multiple
        right = -(-(self.right + border) // multiple) * multiple
        return Window(top=top, left=left, height=bottom - top, width=right - left).clipped_to(size)

    def flip(self, size: int, *, horizontal: bool, vertical: bool) -> "Window":
        """Return the window in a square that is flipped after the window was chosen."""
        return Window(
            top=size - self.bottom if vertical else self.top,
            left=size - self.right if horizontal else self.left,
            height=self.height,
            width=self.width,
        )


def crop_padded(pixels: Tensor, window: Window) -> Tensor:
    """Return a window of an image, black where the image does not reach.

    Args:
        pixels: (3, H, W).
        window: in the image's pixels.

    Returns:
        (3, window.height, window.width), a view where nothing is black.
    """
    height, width = pixels.shape[-2:]
    top, left = max(window.top, 0), max(window.left, 0)
    bottom, right = min(window.bottom, height), min(window.right, width)
    inside = pixels[:, top : max(bottom, top), left : max(right, left)]
    if inside.shape[-2:] == (window.height, window.width):
        return inside
    black = torch.zeros((window.height, window.width, 3), dtype=pixels.dtype).permute(2, 0, 1)
    if inside.numel():
        down, along = top - window.top, left - window.left
        black[:, down : down + inside.shape[-2], along : along + inside.shape[-1]] = inside
    return black


def crop_relative(pixels: Tensor, whole: Window, window: Window) -> Tensor:
    """Return `window` of an image of which `pixels` are the window `whole`."""
    return crop_padded(pixels, window.shifted_by(-whole.top, -whole.left))


def centre_offset(height: int, width: int, size: int) -> tuple[int, int]:
    """Return where the centred square of side `size` begins, as torchvision's CenterCrop has it.

    A negative number is the width of a black border above, or to the left.
    """
    return _centred_offset(height, size), _centred_offset(width, size)


def _centred_offset(length: int, size: int) -> int:
    if length < size:
        return -((size - length) // 2)
    return round((length - size) / 2)  # to even, so 0.5 is 0 and 1.5 is 2


TRIES = 10  # to find a crop that fits; torchvision's


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentationParams:
    """Of one augmented image; None stands for a step that is left out."""

    crop: Window | None  # part of the source that is resized
    sigma: float | None  # deviation of the blur, in pixels
    quality: int | None  # quality of JPEG, 1 to 100
    mirrored: bool
    turned: bool  # upside down
    patch: Window | None  # part of the square, which it may exceed


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentationSteps:
    """The five steps of a training, in the order in which they are drawn and applied.

    The fields are settings. The steps are:

    1. Crop a part of the image and resize it to the square.
    2. Blur an image that no social network has compressed.
    3. Compress such an image.
    4. Flip the image horizontally, and independently of that vertically.
    5. Crop a patch from the square.
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
    def from_settings(cls, settings: AugmentationSettings) -> Self:
        """Return the steps under the settings of a training."""
        return cls(**{field.name: getattr(settings, field.name) for field in fields(cls)})

    @property
    def is_random(self) -> bool:
        """Whether any step can change an image. Each step is then drawn again for each image."""
        chances = (self.resize_prob, self.blur_prob, self.jpeg_prob, self.flip_prob)
        return max(*chances, self.patch_size) > 0

    @property
    def identity(self) -> dict[str, Json]:
        """Return the parameters of all steps."""
        return asdict(self)

    def sample_params(
        self, height: int, width: int, rng: random.Random, *, unshared: bool
    ) -> AugmentationParams:
        """Draw the parameters of an image of this size, in the original's order of steps.

        Args:
            height: of the image, in pixels.
            width: of the image, in pixels.
            rng: source of every random choice.
            unshared: whether blur and JPEG may be applied; shared images have had theirs.
        """
        crop = sigma = quality = None
        if rng.random() < self.resize_prob:
            crop = self._crop(height, width, rng.getrandbits(63))
        if unshared and rng.random() < self.blur_prob:
            sigma = rng.uniform(*self.blur_sigma)
        if unshared and rng.random() < self.jpeg_prob:
            quality = rng.randint(*self.jpeg_qual)
        return AugmentationParams(
            crop=crop,
            sigma=sigma,
            quality=quality,
            mirrored=rng.random() < self.flip_prob,
            turned=rng.random() < self.flip_prob,
            patch=self._patch(rng),
        )

    def _crop(self, height: int, width: int, seed: int) -> Window:
        """Return what torchvision's RandomResizedCrop chooses after `torch.manual_seed(seed)`."""
        rng = torch.Generator().manual_seed(seed)
        low, high = torch.log(torch.tensor(self.resize_ratio)).tolist()
        for _ in range(TRIES):
            area = height * width * _uniform(self.resize_scale, rng).item()
            ratio = torch.exp(_uniform((low, high), rng)).item()
            columns, rows = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < columns <= width and 0 < rows <= height:
                top = int(torch.randint(0, height - rows + 1, size=(1,), generator=rng))
                left = int(torch.randint(0, width - columns + 1, size=(1,), generator=rng))
                return Window(top=top, left=left, height=rows, width=columns)
        narrowest, widest = self.resize_ratio
        rows, columns = height, width
        if width / height < narrowest:
            # torchvision's is empty for an image of 1 pixel, and fails
            rows = max(round(width / narrowest), 1)
        elif width / height > widest:
            columns = max(round(height * widest), 1)
        return Window(
            top=(height - rows) // 2, left=(width - columns) // 2, height=rows, width=columns
        )

    def _patch(self, rng: random.Random) -> Window | None:
        """Return where the patch lies; a square that is smaller has borders on both sides."""
        size, side = self.resize_size, self.patch_size
        if side <= 0:
            return None
        border = max(0, side - size)
        top, left = (rng.randint(0, size + 2 * border - side) - border for _ in range(2))
        return Window(top=top, left=left, height=side, width=side)


def _uniform(span: tuple[float, float], rng: torch.Generator) -> torch.Tensor:
    return torch.empty(1).uniform_(*span, generator=rng)


class Augmentation(Protocol):
    """A registered class, made of its settings."""

    @property
    def is_active(self) -> bool:
        """Whether the step changes any image under its settings. Otherwise it is left out."""

    @property
    def is_random(self) -> bool:
        """Whether its parameters are drawn again for every image and epoch."""

    def __call__(self, pixels: Tensor, rng: random.Random, *, unshared: bool) -> Tensor:
        """Return what the network sees, (3, h, w) uint8, of an image of that form.

        Args:
            pixels: what the steps before it left; not to be changed in place.
            rng: the only source of randomness: of seed, image, epoch and name.
            unshared: whether no social network has compressed the image.
        """


@dataclass(frozen=True, slots=True)
class RegisteredAugmentation:
    """One augmentation of a training, with what identifies it."""

    name: str
    identity: Mapping[str, Json]  # its settings
    augmentation: Augmentation

    @property
    def is_random(self) -> bool:
        """Whether its parameters are drawn again for every image and epoch."""
        return self.augmentation.is_random

    def __call__(self, pixels: Tensor, stream: str, *, unshared: bool) -> Tensor:
        """Return the image after this augmentation.

        Args:
            pixels: (3, h, w) uint8.
            stream: of seed, epoch and image.
            unshared: as for an `Augmentation`.

        Raises:
            JobError: it draws though it says that nothing in it is random.
        """
        rng = python_rng(f"{stream}/{self.name}") if self.is_random else _ForbiddenRandom(self.name)
        return self.augmentation(pixels, rng, unshared=unshared)


class _ForbiddenRandom(random.Random):
    """Refuses to be drawn from: features of a deterministic augmentation are kept between epochs."""

    def __init__(self, name: str) -> None:
        super().__init__(0)
        self._name = name

    def random(self) -> Never:
        raise self._error()

    def getrandbits(self, k: int, /) -> Never:
        del k
        raise self._error()

    def _error(self) -> JobError:
        return JobError(
            f"augmentation {self._name} draws random numbers, but its is_random is false"
        )


def active_augmentations(settings: Settings) -> tuple[RegisteredAugmentation, ...]:
    """Return the registered augmentations that are active under the settings of a training."""
    augmentations = []
    for name, spec in SPECS.items():
        own = settings_of(spec, settings)
        augmentations.append(
            RegisteredAugmentation(name, own.model_dump(mode="json"), _make(SPECS.load(name), own))
        )
    return tuple(each for each in augmentations if each.augmentation.is_active)


def _make(augmentation: Any, settings: Settings) -> Augmentation:
    return augmentation(settings)  # type: ignore[no-any-return]  # what a file holds
