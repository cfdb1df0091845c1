"""The processes of one training, its ranks: they share each batch and average their gradients.

The batch of a step is the one that a single process would take. It is divided among the ranks, and the
loss of each counts by its number of images, so that the averaged gradient is that of the whole batch,
also where the last batch is uneven, an image cannot be decoded, or a rank has no image at all. What
decides how a training goes on (sums of the loss, validation, a stop) is exchanged, and is therefore the
same on all ranks. `ALONE` is the group of a training in one process; it exchanges nothing.

Nothing that is exchanged is unpickled: tensors are sent as they are, other values as JSON.
"""

import json
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from inspect import signature
from itertools import accumulate
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from trueface.data.dataset import Batch
from trueface.runtime.errors import DataError
from trueface.runtime.sharding import WHOLE, Shard
from trueface.training.distributed.layers import RankRows, joined

# statistics of batch norm agree already: each rank computes those of the whole batch
_OWN_BUFFERS: dict[str, Any] = {
    "forward_sync_buffers"  # as newer versions of torch call it
    if "forward_sync_buffers" in signature(DistributedDataParallel).parameters
    else "broadcast_buffers": False
}
_MOST_DIMENSIONS = 5  # of images: batch, crops, channels, height, width


class BatchPart(NamedTuple):
    """What one rank has of the batch of a step."""

    batch: Batch
    before: int  # images of this batch that ranks before this one have
    total: int  # images of this batch on all ranks, at least 1


class ProcessGroup:
    """The ranks of a training as one of them sees them.

    Args:
        shard: which rank this is, of how many.
        control: for what is exchanged on the CPU; None where there is one rank.
        backend: of the gradients, nccl or gloo; None where there is one rank.
    """

    def __init__(
        self,
        shard: Shard = WHOLE,
        *,
        control: dist.ProcessGroup | None = None,
        backend: str | None = None,
    ) -> None:
        self.shard, self.backend = shard, backend
        self._control = control
        self._rows = RankRows()

    @property
    def is_first(self) -> bool:
        """Whether this rank writes the files of the training."""
        return self.shard.rank == 0

    @property
    def size(self) -> int:
        """The number of ranks."""
        return self.shard.size

    def joined(self, model: nn.Module) -> AbstractContextManager[None]:
        """Return a context in which batch norm and dropout of `model` see the whole batch."""
        return nullcontext() if self.size == 1 else joined(model, self._rows)

    def averaged(self, model: nn.Module, device: str) -> nn.Module:
        """Return `model` so wrapped that a backward pass averages the gradients over the ranks."""
        if self.size == 1:
            return model
        ids = [torch.device(device)] if device.startswith("cuda") else None
        return DistributedDataParallel(model, device_ids=ids, **_OWN_BUFFERS)

    def parts(self, batches: Iterable[Batch]) -> Iterator[BatchPart]:
        """Yield this rank's part of each batch that has an image on any rank.

        A part without images has the shape of the others' images, so that every rank takes the step.

        Args:
            batches: this rank's parts in the order of the batches, empty ones included.

        Raises:
            DataError: none of the ranks could read an image.
        """
        if self.size == 1:
            for batch in batches:
                yield BatchPart(batch, 0, len(batch.labels))
            return
        seen = 0
        for batch in batches:
            shapes = self.gather(_shape_of(batch)).tolist()
            counts = [shape[0] for shape in shapes]
            if not sum(counts):
                continue
            seen += sum(counts)
            if not counts[self.shard.rank]:
                batch = _empty(batch, max(shapes)[1:])  # the same part, with a shape
            before = sum(counts[: self.shard.rank])
            crops = batch.images.shape[1] if batch.images.ndim == _MOST_DIMENSIONS else 1
            self._rows.before, self._rows.total, self._rows.crops = before, sum(counts), crops
            yield BatchPart(batch, before, sum(counts))
        if not seen:
            raise DataError("not one image could be read on any of the ranks")

    def weight(self, part: BatchPart) -> float:
        """Return the factor of the mean loss of a part; averaged over ranks it gives that of the batch."""
        return len(part.batch.labels) * self.size / part.total

    def mean_of(self, part: BatchPart, loss: float, right: int) -> tuple[float, int]:
        """Return the mean loss of a batch and its number of correct images, from those of the parts."""
        if self.size == 1:
            return loss, right
        weighted, correct = self.total(loss * len(part.batch.labels), right)
        return weighted / part.total, round(correct)

    def any(self, *, flag: bool) -> bool:
        """Tell whether a flag is set on any rank."""
        return flag if self.size == 1 else self.total(float(flag))[0] > 0

    def total(self, *values: float) -> tuple[float, ...]:
        """Return the sums over all ranks."""
        if self.size == 1:
            return values
        return tuple(self.gather(torch.tensor([values], dtype=torch.float64)).sum(0).tolist())

    def wait(self) -> None:
        """Wait until all ranks have come this far."""
        self.total(0.0)

    def gather(self, rows: Tensor) -> Tensor:
        """Return the rows (n, K) of all ranks, one rank after the other; n may differ, and may be 0."""
        if self.size == 1:
            return rows
        own = torch.tensor([len(rows), rows.shape[1]])
        shapes = [torch.empty_like(own) for _ in range(self.size)]
        dist.all_gather(shapes, own, group=self._control)
        most, width = torch.stack(shapes).amax(0).tolist()
        padded = rows.new_zeros(most, width)
        padded[: len(rows), : rows.shape[1]] = rows
        every = [torch.empty_like(padded) for _ in range(self.size)]
        dist.all_gather(every, padded, group=self._control)
        return torch.cat([part[: int(shape[0])] for part, shape in zip(every, shapes, strict=True)])

    def gather_json(self, value: Any) -> list[Any]:
        """Return the values of all ranks, one a rank; each is what JSON makes of it."""
        if self.size == 1:
            return [value]
        text = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        lengths = [int(length) for (length,) in self.gather(torch.tensor([[len(text)]])).tolist()]
        texts = bytes(self.gather(text.reshape(-1, 1)).reshape(-1).tolist())
        ends = list(accumulate(lengths))
        return [
            json.loads(texts[end - length : end]) for end, length in zip(ends, lengths, strict=True)
        ]


ALONE = ProcessGroup()


def _shape_of(batch: Batch) -> Tensor:
    """Return (1, 1 + 4) numbers: how many images, and the other dimensions, 0 where there is none."""
    count = len(batch.labels)
    shape = [*batch.images.shape[1:]] if count else []
    return torch.tensor([[count, *shape, *[0] * (_MOST_DIMENSIONS - 1 - len(shape))]])


def _empty(batch: Batch, shape: list[int]) -> Batch:
    """Return a batch without images that has the other dimensions of another rank's images."""
    sides = [side for side in shape if side]
    dtype = torch.uint8 if len(sides) > 1 else torch.float32  # pixels, or features
    return batch._replace(images=torch.empty(0, *sides, dtype=dtype))
