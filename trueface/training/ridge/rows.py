"""The rows of a regression: features of the views of images, and how they are standardised."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trueface.models.head import CLIP

Features = NDArray[np.float32]  # (N, F)
Numbers = NDArray[np.float64]

BLOCK = 1024  # columns that are held as float64 at a time: 34 MB of 4,200 rows


@dataclass(frozen=True)
class Rows:
    """Labelled rows of raw features; parts may be maps of files, of which columns are read.

    Attributes:
        parts: (n, F) each, one below the other: N rows in all.
        labels: (N,) 1 fake, 0 real.
        images: (N,) a number for each image; its views share it.
        weight: (N,) how much a row counts, > 0.
    """

    parts: tuple[Features, ...]
    labels: NDArray[np.int8]
    images: NDArray[np.int64]
    weight: Numbers

    @classmethod
    def of(
        cls,
        parts: Sequence[Features],
        labels: Sequence[int] | NDArray[np.int8],
        images: Sequence[int] | NDArray[np.int64] | None = None,
        weight: Numbers | None = None,
    ) -> "Rows":
        """Return rows; without `images` each is an image of its own, without `weight` all count 1."""
        count = len(labels)
        return cls(
            parts=tuple(parts),
            labels=np.asarray(labels, dtype=np.int8),
            images=np.arange(count) if images is None else np.asarray(images, dtype=np.int64),
            weight=np.ones(count) if weight is None else weight,
        )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def width(self) -> int:
        """F."""
        return int(self.parts[0].shape[1])

    def columns(self, start: int, end: int) -> Numbers:
        """Return some columns of all rows, (N, end - start) float64."""
        return np.concatenate([part[:, start:end] for part in self.parts], dtype=np.float64)

    def blocks(self) -> Iterator[tuple[int, int]]:
        """Yield the bounds of blocks of columns."""
        for start in range(0, self.width, BLOCK):
            yield start, min(start + BLOCK, self.width)


@dataclass(frozen=True)
class Standard:
    """How raw features become columns of a regression; numbers are those of a `RidgeHead`.

    Attributes:
        mean: (F,) of the raw features.
        scale: (F,) their standard deviations; 1 where a feature is constant.
        weights: (F,) of the standardised features.
        clip: in standard deviations.
    """

    mean: Features
    scale: Features
    weights: Features
    clip: float = CLIP

    @classmethod
    def of(cls, rows: Rows, weights: Features | None = None, clip: float = CLIP) -> "Standard":
        """Return means and deviations of rows, each counted by its weight."""
        mean, scale = np.empty(rows.width, np.float32), np.empty(rows.width, np.float32)
        share = rows.weight / rows.weight.sum()
        for start, end in rows.blocks():
            block = rows.columns(start, end)
            centre = share @ block
            deviation = np.sqrt(share @ np.square(block - centre))
            mean[start:end] = centre
            # a feature that hardly differs would be rounding errors, blown up
            least = 1e-6 * np.abs(centre) + np.finfo(np.float32).tiny
            scale[start:end] = np.where(deviation > least, deviation, 1.0)
        own = np.ones(rows.width, np.float32) if weights is None else weights
        return cls(mean=mean, scale=scale, weights=own, clip=clip)

    def block(self, rows: Rows, start: int, end: int) -> Numbers:
        """Return some standardised columns of all rows, (N, end - start)."""
        block = rows.columns(start, end)
        block -= self.mean[start:end]
        block /= self.scale[start:end]
        np.clip(block, -self.clip, self.clip, out=block)
        block *= self.weights[start:end]
        return block
