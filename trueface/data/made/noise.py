"""Noise that belongs to an image: drawn by its name, so that the size of a batch changes nothing."""

from collections.abc import Sequence

import torch
from torch import Tensor

from trueface.data.made.folders import stem
from trueface.runtime.rng import derive


class ImageNoise:
    """Draws random numbers for each image of a batch from a generator of its own.

    A name is taken without its suffix. Two draws of the same `stream` are equal.

    Args:
        names: of the batch's images, relative to their folder.
        seed: of the job.
    """

    def __init__(self, names: Sequence[str], seed: int) -> None:
        self.names, self.seed = tuple(names), seed

    def normal(self, stream: str, like: Tensor) -> Tensor:
        """Return standard normal numbers in the shape of a batch N×…, on its device."""
        return self._drawn(stream, like, uniform=False)

    def uniform(self, stream: str, like: Tensor) -> Tensor:
        """Return numbers in [-1, 1) in the shape of a batch N×…, on its device."""
        return self._drawn(stream, like, uniform=True) * 2 - 1

    def of_rows(self, rows: Sequence[int]) -> "ImageNoise":
        """Return the noise of some images of the batch, by their places in it."""
        return ImageNoise([self.names[row] for row in rows], self.seed)

    def _drawn(self, stream: str, like: Tensor, *, uniform: bool) -> Tensor:
        draw = torch.rand if uniform else torch.randn
        rows = []
        for name in self.names:
            generator = torch.Generator().manual_seed(derive(f"{stream}/{stem(name)}", self.seed))
            rows.append(draw(like.shape[1:], generator=generator))
        return torch.stack(rows).to(like)
