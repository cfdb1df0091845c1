"""What a pass asks of a set for each image, and what it gets."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from trueface.data.loading.prefetch import pinned


class Request(NamedTuple):
    """An image as a pass asks for it; all that a loading process has to know of the pass."""

    position: int
    epoch: int
    is_sound: bool  # whether its file was decoded whole before


class BadFile(NamedTuple):
    """An image that gave no pixels."""

    position: int
    path: Path
    reason: str


class Loaded(NamedTuple):
    """A batch of images."""

    pixels: Tensor | None  # of those that gave some, (B, …) uint8; None: none did
    bad: list[BadFile]  # the others

    @property
    def pinned(self) -> "Loaded":
        """The same, ready for the device of this process."""
        return self if self.pixels is None else self._replace(pixels=pinned(self.pixels))


def together(items: Sequence[Tensor | BadFile]) -> Loaded:
    """Make one tensor of a batch where it is loaded: one thing to hand over, not one per image."""
    good = [item for item in items if isinstance(item, Tensor)]
    bad = [item for item in items if isinstance(item, BadFile)]
    return Loaded(torch.stack(good) if good else None, bad)
