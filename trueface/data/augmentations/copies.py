"""Copies of training images as a closed-form training learns them: corrupted alike in both classes, mirrored.

A detector that learns clean images alone takes a JPEG or a blur for a sign of a fake, or of its
absence. The copies are *matched*: the i-th real and the i-th fake image get the same corruption of
the same strength, so that no corruption tells the classes apart. Kinds come in turn.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count
from typing import Final

from torch import Tensor

from trueface.corruptions.chain import Chain
from trueface.data.index import Image
from trueface.data.transforms import TestTransform, TransformId
from trueface.runtime.files import Json

CORRUPTED: Final = "corrupted"
MIRRORED: Final = "mirrored"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of corruption, and the strengths that copies get."""

    name: str  # of `trueface.corruptions`
    low: float
    high: float
    digits: int  # decimals of the strength
    exact: tuple[float, ...] = ()  # one of these in the place of any between


# in turn; what is common comes twice, so that a third of the copies has other processing. An image that
# was halved has other statistics than one resized by 0.48 or 0.52: interpolation weights repeat from
# pixel to pixel (A. Popescu and H. Farid, IEEE TSP 53(2), 2005), which factors drawn at random never show
KINDS = (
    Kind("jpeg", 30, 95, 0),
    Kind("noise", 1, 7, 2),
    Kind("resize", 0.4, 0.9, 3),
    Kind("blur", 0.4, 1.8, 3),
    Kind("webp", 40, 95, 0),
    Kind("jpeg", 30, 95, 0),
    Kind("noise", 1, 7, 2),
    Kind("resize", 0.4, 0.9, 3, exact=(0.5, 0.75)),
    Kind("blur", 0.4, 1.8, 3),
    Kind("gamma", 0.7, 1.4, 3),
    Kind("sharpen", 0.3, 1.5, 3),
    Kind("contrast", 0.7, 1.4, 3),
)


def matched_chains(images: Sequence[Image], seed: int) -> dict[str, Chain]:
    """Return the corruption of each image's copy, by the image's name.

    Args:
        images: of both classes, in the order of the list.
        seed: of the strengths.
    """
    places = {label: count() for label in (0, 1)}
    return {image.name: _chain(next(places[image.label]), seed) for image in images}


def _chain(place: int, seed: int) -> Chain:
    kind = KINDS[place % len(KINDS)]
    draw = random.Random(f"copies/{seed}/{place}")
    strength = draw.choice(kind.exact) if kind.exact else draw.uniform(kind.low, kind.high)
    return Chain.parse(f"{kind.name}{round(strength, kind.digits):g}")


@dataclass(frozen=True, kw_only=True)
class CorruptedCopy:
    """What a test sees of an image, corrupted; nothing in it changes from epoch to epoch."""

    tested: TestTransform
    chains: Mapping[str, Chain]  # by the image's name

    @cached_property
    def id(self) -> TransformId:
        """What the pixels depend on, the chain of each image included."""
        return _id(self.tested, CORRUPTED, {name: str(each) for name, each in self.chains.items()})

    def __call__(self, pixels: Tensor, image: Image, epoch: int) -> Tensor:
        """Return the corrupted centre crop (3, h, w), or patches of it (crops, 3, h, w), uint8."""
        tested = replace(self.tested, corruptions=self.chains[image.name])
        return tested(pixels, image, epoch)

    def bottom(self, height: int, width: int, image: Image, epoch: int) -> int:
        """Return the first row below what a test sees."""
        return self.tested.bottom(height, width, image, epoch)


@dataclass(frozen=True, kw_only=True)
class MirroredCopy:
    """What a test sees of an image, left and right exchanged."""

    tested: TestTransform

    @cached_property
    def id(self) -> TransformId:
        """What the pixels depend on."""
        return _id(self.tested, MIRRORED, {})

    def __call__(self, pixels: Tensor, image: Image, epoch: int) -> Tensor:
        """Return the mirrored centre crop, or mirrored patches of it."""
        return self.tested(pixels, image, epoch).flip(-1)

    def bottom(self, height: int, width: int, image: Image, epoch: int) -> int:
        """Return the first row below what a test sees."""
        return self.tested.bottom(height, width, image, epoch)


def _id(tested: TestTransform, copy: str, of_row: Mapping[str, str]) -> TransformId:
    own: dict[str, Json] = {"copy": copy}
    return TransformId(
        identity={**tested.id.identity, **own, "rows": dict(of_row)},
        of_view={**tested.id.of_view, **own},
        period=1,
        is_test=False,
        of_row=of_row,
    )
