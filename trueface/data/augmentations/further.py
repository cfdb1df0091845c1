"""Augmentations of files of their own: they follow the five steps, in the order of their names."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Never, Protocol

from torch import Tensor

from trueface.data.augmentations.registry import SPECS, settings_of
from trueface.runtime.errors import JobError
from trueface.runtime.field_types import Settings
from trueface.runtime.files import Json


class Augmentation(Protocol):
    """A registered class, made of its settings."""

    @property
    def is_active(self) -> bool:
        """Whether it changes any image under its settings; else it is left out."""

    @property
    def is_random(self) -> bool:
        """Whether what it does is drawn anew for every image and epoch."""

    def __call__(self, pixels: Tensor, chance: random.Random, *, unshared: bool) -> Tensor:
        """Return what the network sees, (3, h, w) uint8, of an image of that form.

        Args:
            pixels: what the steps before it left; not to be changed in place.
            chance: the only source of randomness: of seed, image, epoch and name.
            unshared: whether no social network has compressed the image.
        """


@dataclass(frozen=True, slots=True)
class Further:
    """One augmentation of a training, with what identifies it."""

    name: str
    identity: Mapping[str, Json]  # its settings
    augmentation: Augmentation

    @property
    def is_random(self) -> bool:
        """Whether what it does is drawn anew for every image and epoch."""
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
        chance = random.Random(f"{stream}/{self.name}") if self.is_random else _NoChance(self.name)
        return self.augmentation(pixels, chance, unshared=unshared)


class _NoChance(random.Random):
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
        return JobError(f"augmentation {self._name} draws, though its is_random is false")


def further_of(settings: Settings) -> tuple[Further, ...]:
    """Return the registered augmentations that are active under the settings of a training."""
    made = []
    for name, spec in SPECS.items():
        own = settings_of(spec, settings)
        made.append(Further(name, own.model_dump(mode="json"), _make(SPECS.load(name), own)))
    return tuple(each for each in made if each.augmentation.is_active)


def _make(augmentation: Any, settings: Settings) -> Augmentation:
    return augmentation(settings)  # type: ignore[no-any-return]  # what a file holds
