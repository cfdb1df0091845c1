"""Dropout over a batch that several ranks share: the mask is the one of a single process."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(slots=True)
class Rows:
    """Where a rank's images stand in the batch of a step."""

    before: int = 0
    total: int = 0
    crops: int = 1  # rows an image

    def set(self, *, before: int, total: int, crops: int) -> None:
        """Go on to the next batch."""
        self.before, self.total, self.crops = before, total, crops


class SharedDropout(nn.Module):
    """Draws the mask of the whole batch on every rank and applies this rank's rows of it.

    All ranks begin an epoch with the same seed and draw as much, so their generators stay alike.

    Args:
        dropout: gives the probability.
        rows: which rows are this rank's; the caller keeps it up to date.
    """

    def __init__(self, dropout: nn.Dropout, rows: Rows) -> None:
        super().__init__()
        self.probability, self._rows = dropout.p, rows

    def forward(self, inputs: Tensor) -> Tensor:
        """Return `inputs` (n·K, …), of n images with K crops each, with some values set to 0."""
        if not self.training or self.probability == 0:
            return inputs
        rows = self._rows
        ones = inputs.new_ones(rows.total * rows.crops, *inputs.shape[1:])
        if inputs.ndim == 4 and inputs.is_contiguous(memory_format=torch.channels_last):
            ones = ones.contiguous(
                memory_format=torch.channels_last
            )  # a mask is drawn in that order
        mask = functional.dropout(ones, self.probability, training=True)
        return inputs * mask[rows.before * rows.crops :][: len(inputs)]
