"""The loader of trainings by steps: each step reads one batch, drawn with replacement.

Batch and random stream of a step depend only on the seed and the number of the step. An interrupted
training therefore resumes from the number alone.
"""

from typing import Protocol

import torch
from torch import Tensor

from trueface.data.batch import NO_LABELS, Batch
from trueface.runtime.rng import torch_rng


class Rows(Protocol):
    """A tensor of images, or what reads them by position."""

    def __len__(self) -> int: ...
    def __getitem__(self, places: Tensor, /) -> Tensor: ...


class StepLoader:
    """The batches of a training by steps.

    Args:
        images: without labels; those of a batch follow from its indices.
        stream: name of the random streams of the steps, before their numbers.
        batch_size: samples per step.
        seed: of the training.
    """

    def __init__(self, images: Rows, stream: str, batch_size: int, seed: int) -> None:
        self._images, self._batch_size = images, batch_size
        self._stream, self._seed = stream, seed

    def __call__(self, step: int) -> tuple[Batch, torch.Generator]:
        """Return the batch of a step, and the step's random stream for all further draws."""
        rng = torch_rng(f"{self._stream}/{step}", self._seed)
        rows = torch.randint(len(self._images), (self._batch_size,), generator=rng)
        return Batch(self._images[rows], NO_LABELS, rows), rng
