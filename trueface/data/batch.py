"""The samples of one step: pixels or features, with labels, positions and further columns."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from trueface.runtime.errors import JobError

IMAGE_DIMENSIONS = 5  # most dimensions of a batch of images: batch, crops, channels, height, width
CLIP_DIMENSIONS = 6  # those of a batch of clips: batch, crops, frames, channels, height, width
NO_COLUMNS: Mapping[str, Any] = MappingProxyType({})
NO_LABELS = torch.empty(0, dtype=torch.int64)  # labels of a dataset whose labels are in `Examples`


class Batch(NamedTuple):
    """The input of the network in one step."""

    # (B, 3, H, W), (B, crops, 3, H, W) or clips (B, crops, T, 3, H, W), uint8; or features (B, F)
    inputs: Tensor
    labels: Tensor  # (B, 1) float32, as trained: 1 fake; of classes (B,) int64
    indices: Tensor  # (B,) int64, positions in the dataset
    columns: Mapping[str, Tensor] = NO_COLUMNS  # (B,) int64 each, such as the group of an image

    def column(self, name: str) -> Tensor:
        """Return a column that an objective needs, (B,) int64.

        Raises:
            JobError: the batch does not have it.
        """
        if name not in self.columns:
            raise JobError(
                f"this objective needs the {name} of every image, and these images have none. "
                "Choose another objective."
            )
        return self.columns[name]

    def to(self, device: str) -> "Batch":
        """Return the batch on a device; indices stay where they are."""
        return self._replace(
            # a copy from ordinary memory is complete before the call returns
            inputs=self.inputs.to(device, non_blocking=True),
            labels=self.labels.to(device, non_blocking=True),
            columns={
                name: values.to(device, non_blocking=True) for name, values in self.columns.items()
            },
        )


class BatchLoader(Protocol):
    """Samples with labels that come in batches, any number of times."""

    def __len__(self) -> int:
        """Return how many rows one pass has."""

    def __call__(self, epoch: int) -> Iterator[Batch]:
        """Start a pass; its order and its augmentation are functions of `epoch`."""
