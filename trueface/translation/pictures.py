"""Batches of images and their labels: each a function of its step alone, so that a training can go on anywhere."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from trueface.data.made.folders import read_images, to_levels, to_unit
from trueface.runtime.rng import derive

MOST_HELD = 2 << 30  # bytes of images that are kept in memory; more are read at each step
READ_AT_ONCE = 256  # images, while they are read into memory


@dataclass(frozen=True, slots=True)
class Batch:
    """What one step sees."""

    images: Tensor  # N×3×H×W in [-1, 1]
    labels: Tensor  # N×K, their own
    targets: Tensor  # N×K, of other images of the batch
    share: Tensor  # N×1×1×1, of the gradient penalty


class Pictures:
    """Images of a folder with labels.

    Args:
        root: the folder.
        names: of the images.
        labels: N×K.
        size: side that each must have.
    """

    def __init__(self, root: Path, names: Sequence[str], labels: Tensor, size: int) -> None:
        self.root, self.names, self.labels, self.size = root, tuple(names), labels, size
        self._held = self._read_all() if len(names) * size * size * 3 <= MOST_HELD else None

    def _read_all(self) -> Tensor:
        parts = [
            to_levels(read_images(self.root, self.names[at : at + READ_AT_ONCE], size=self.size))
            for at in range(0, len(self.names), READ_AT_ONCE)
        ]
        return torch.cat(parts)

    def at(self, rows: Sequence[int]) -> Tensor:
        """Return images in [-1, 1]."""
        if self._held is not None:
            return to_unit(self._held[torch.tensor(rows)])
        return read_images(self.root, [self.names[row] for row in rows], size=self.size)

    def batch(self, step: int, count: int, *, flip: float, seed: int) -> Batch:
        """Return the batch of a step: images drawn with replacement, some of them mirrored.

        Targets are the labels of the same images in another order, as in the paper.
        """
        chance = torch.Generator().manual_seed(derive(f"translator/batch/{step}", seed))
        rows = torch.randint(len(self.names), (count,), generator=chance)
        mirrored = torch.rand(count, generator=chance) < flip
        order = torch.randperm(count, generator=chance)
        share = torch.rand(count, 1, 1, 1, generator=chance)
        images = self.at(rows.tolist())
        images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
        labels = self.labels[rows]
        return Batch(images, labels, labels[order], share)

    def batches(
        self, first: int, last: int, count: int, *, flip: float, seed: int
    ) -> Iterator[Batch]:
        """Yield the batches of steps `first` … `last`; the next one is read while one is used."""

        def begin(step: int) -> Future[Batch]:
            return reader.submit(self.batch, step, count, flip=flip, seed=seed)

        with ThreadPoolExecutor(1) as reader:
            coming = begin(first) if first <= last else None
            for step in range(first, last + 1):
                assert coming is not None
                batch = coming.result()
                coming = begin(step + 1) if step < last else None
                yield batch
