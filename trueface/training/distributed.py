"""The processes of one training, its ranks: they share each batch and average their gradients.

The batch of a step is that of a single process. It is divided among the ranks, and the loss of each
is weighted by its number of images. The averaged gradient is therefore that of the whole batch,
also if the last batch is uneven, an image cannot be decoded, or a rank has no image. Values that
control the training (sums of the loss, validation, a stop) are exchanged, and are therefore the
same on all ranks. `SINGLE_PROCESS` is the group of a training in one process. It exchanges nothing.

Nothing is unpickled: tensors are sent directly, other values as JSON.

Layers that use a whole batch use that of all ranks. Batch norm computes its statistics over it. On
a GPU it is torch's SyncBatchNorm. That has no CPU code, so the same is computed here: S. Ioffe and
C. Szegedy, arXiv 1502.03167, with mean and variance merged over the ranks by T. Chan et al.,
Updating formulae and a pairwise algorithm (1979).

Dropout draws the same mask as a single process.
"""

import json
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from inspect import signature
from itertools import accumulate
from typing import Any, NamedTuple, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from trueface.data.batch import Batch
from trueface.data.loader import WHOLE, Shard
from trueface.runtime.errors import DataError


@dataclass(slots=True)
class RankRows:
    """The positions of a rank's images in the batch of a step."""

    before: int = 0
    total: int = 0
    crops: int = 1  # rows an image


@contextmanager
def sync_batch_layers(model: nn.Module, rows: RankRows) -> Iterator[None]:
    """Make batch norm and dropout of `model` use the batch of all ranks inside the block.

    Parameters and buffers stay the same objects under the same names.

    Args:
        model: on its device. A batch norm that is shared by several parents stays shared.
        rows: positions of this rank's images in the batch of the step.
    """
    before = [
        (parent, name, child)
        for parent in list(model.modules())
        for name, child in parent.named_children()
        if isinstance(child, _BatchNorm | nn.Dropout)
    ]
    shared: dict[nn.Module, nn.Module] = {}
    for parent, name, child in before:
        if child not in shared:
            shared[child] = _shared(child, rows)
        setattr(parent, name, shared[child])
    try:
        yield
    finally:
        for parent, name, child in before:
            child.train(shared[child].training)
            setattr(parent, name, child)


def _shared(layer: nn.Module, rows: RankRows) -> nn.Module:
    """Return a layer that sees the batch of all ranks, with the parameters and buffers of `layer`."""
    if not isinstance(layer, _BatchNorm):
        assert isinstance(layer, nn.Dropout)
        return SharedDropout(layer, rows)
    weight = next(layer.parameters(), layer.running_mean)
    if weight is not None and weight.device.type == "cuda":
        convert: Any = nn.SyncBatchNorm.convert_sync_batchnorm  # torch gives it no types
        return cast(nn.Module, convert(layer))
    return SharedBatchNorm(layer)


class SharedDropout(nn.Module):
    """Draws the mask of the whole batch on every rank and applies this rank's rows of it.

    All ranks begin an epoch with the same seed and draw as much, so their generators stay alike.

    Args:
        dropout: gives the probability.
        rows: which rows are this rank's; the caller keeps it up to date.
    """

    def __init__(self, dropout: nn.Dropout, rows: RankRows) -> None:
        super().__init__()
        self.probability, self._rows = dropout.p, rows

    def forward(self, inputs: Tensor) -> Tensor:
        """Return `inputs` (n·K, …), of n images with K crops each, with some values set to 0."""
        if not self.training or self.probability == 0:
            return inputs
        rows = self._rows
        ones = inputs.new_ones(rows.total * rows.crops, *inputs.shape[1:])
        if inputs.ndim == 4 and inputs.is_contiguous(memory_format=torch.channels_last):
            # a mask is drawn in that order
            ones = ones.contiguous(memory_format=torch.channels_last)
        mask = functional.dropout(ones, self.probability, training=True)
        return inputs * mask[rows.before * rows.crops :][: len(inputs)]


class SharedBatchNorm(_BatchNorm):
    """Batch norm over all ranks, for the CPU; in evaluation mode it is torch's.

    Args:
        norm: whose parameters and buffers it takes: they stay the same objects.
    """

    def __init__(self, norm: _BatchNorm) -> None:
        super().__init__(
            norm.num_features,
            eps=norm.eps,
            momentum=cast(float, norm.momentum),
            affine=norm.affine,
            track_running_stats=norm.track_running_stats,
        )
        for name, parameter in norm.named_parameters(recurse=False):
            self.register_parameter(name, parameter)
        for name, buffer in norm.named_buffers(recurse=False):
            self.register_buffer(name, buffer)
        self.train(norm.training)

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002  # torch's own name
        if input.ndim < 2:
            raise ValueError(
                f"batch norm needs an input of shape (B, C, …), got {tuple(input.shape)}"
            )

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # torch's own name
        """Return `input` (B, C, …) normalised; B may differ between ranks, and may be 0.

        Raises:
            ValueError: all ranks together have a single value a channel.
        """
        if not self.training:
            return super().forward(input)
        self._check_input_dim(input)
        apply: Any = _Normalise.apply
        outputs, mean, variance, count = apply(input.float(), self.weight, self.bias, self.eps)
        if self.track_running_stats:
            self._track(mean, variance * count / (count - 1))
        return cast(Tensor, outputs).to(input.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor) -> None:
        if self.num_batches_tracked is None or self.running_mean is None:
            return
        self.num_batches_tracked.add_(1)
        momentum = self.momentum
        fraction = 1.0 / float(self.num_batches_tracked) if momentum is None else momentum
        for running, new in ((self.running_mean, mean), (self.running_var, variance)):
            cast(Tensor, running).mul_(1 - fraction).add_(new, alpha=fraction)


class _Normalise(torch.autograd.Function):
    """The forward and backward pass of `SharedBatchNorm` in training mode."""

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, int]:
        """Return outputs, mean and biased variance (C,) over all ranks, and values per channel."""
        mean, variance, count = _statistics(inputs)
        if count == 1:
            # torch's own words, which the trainer knows
            raise ValueError("Expected more than 1 value per channel when training")
        inverse = (variance + eps).rsqrt()
        ctx.save_for_backward(inputs, weight, mean, inverse)
        ctx.count = count
        scale = inverse if weight is None else inverse * weight
        shift = -mean * scale if bias is None else bias - mean * scale
        shape = (1, -1, *[1] * (inputs.ndim - 2))
        return inputs * scale.view(shape) + shift.view(shape), mean, variance, count

    @staticmethod
    def backward(
        ctx: Any, gradient: Tensor, *_: Any
    ) -> tuple[Tensor, Tensor | None, Tensor | None, None]:
        """Return the gradients of a rank's inputs, and its share of those of weight and bias."""
        inputs, weight, mean, inverse = ctx.saved_tensors
        shape, axes = (1, -1, *[1] * (inputs.ndim - 2)), (0, *range(2, inputs.ndim))
        centred = inputs - mean.view(shape)
        own = torch.stack([gradient.sum(axes), (gradient * centred).sum(axes)])
        sums = own.clone()
        dist.all_reduce(sums)
        scale = inverse if weight is None else inverse * weight
        common = sums[0] / ctx.count
        along = inverse.square() * sums[1] / ctx.count
        of_inputs = (gradient - common.view(shape) - centred * along.view(shape)) * scale.view(
            shape
        )
        if weight is None:
            return of_inputs, None, None, None
        return of_inputs, own[1] * inverse, own[0], None


def _statistics(inputs: Tensor) -> tuple[Tensor, Tensor, int]:
    """Return mean and biased variance (C,) of all ranks' values, and how many each channel has."""
    axes = (0, *range(2, inputs.ndim))
    channels = inputs.shape[1]
    count = inputs.numel() // channels
    own = torch.zeros(3, channels, dtype=torch.float64)
    if count:
        variance, mean = torch.var_mean(inputs, axes, correction=0)
        own = torch.stack([mean, variance * count, torch.full_like(mean, count)]).double()
    every = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(every, own)
    means, squares, counts = torch.stack(every).unbind(1)  # (ranks, C) each
    total = counts.sum(0)
    mean = (means * counts).sum(0) / total
    variance = (squares + counts * (means - mean).square()).sum(0) / total
    return mean.to(inputs.dtype), variance.to(inputs.dtype), int(total[0])


# statistics of batch norm agree already: each rank computes those of the whole batch
_OWN_BUFFERS: dict[str, Any] = {
    "forward_sync_buffers"  # as newer versions of torch call it
    if "forward_sync_buffers" in signature(DistributedDataParallel).parameters
    else "broadcast_buffers": False
}
_MOST_DIMENSIONS = 5  # of images: batch, crops, channels, height, width


class RankBatch(NamedTuple):
    """The part of one rank in the batch of a step."""

    batch: Batch
    before: int  # images of this batch that ranks before this one have
    total: int  # images of this batch on all ranks, at least 1


class ProcessGroup:
    """The ranks of a training, from the view of one of them.

    Args:
        shard: this rank, and the number of ranks.
        control: group for exchange on the CPU. None if there is one rank.
        backend: for the gradients, nccl or gloo. None if there is one rank.
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

    def sync_batch_layers(self, model: nn.Module) -> AbstractContextManager[None]:
        """Return a context in which batch norm and dropout of `model` see the whole batch."""
        return nullcontext() if self.size == 1 else sync_batch_layers(model, self._rows)

    def average_gradients(self, model: nn.Module, device: str) -> nn.Module:
        """Return `model` so wrapped that a backward pass averages the gradients over the ranks."""
        if self.size == 1:
            return model
        ids = [torch.device(device)] if device.startswith("cuda") else None
        return DistributedDataParallel(model, device_ids=ids, **_OWN_BUFFERS)

    def iter_rank_batches(self, batches: Iterable[Batch]) -> Iterator[RankBatch]:
        """Yield this rank's part of each batch that has an image on any rank.

        A part without images has the shape of the others' images, so that every rank takes the
        step.

        Args:
            batches: this rank's parts in the order of the batches, empty ones included.

        Raises:
            DataError: none of the ranks could read an image.
        """
        if self.size == 1:
            for batch in batches:
                yield RankBatch(batch, 0, len(batch.labels))
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
            crops = batch.inputs.shape[1] if batch.inputs.ndim == _MOST_DIMENSIONS else 1
            self._rows.before, self._rows.total, self._rows.crops = before, sum(counts), crops
            yield RankBatch(batch, before, sum(counts))
        if not seen:
            raise DataError("no image could be read in any process of the training")

    def weight(self, part: RankBatch) -> float:
        """Return the factor of the mean loss of a part; averaged over ranks it gives that of the batch."""
        return len(part.batch.labels) * self.size / part.total

    def mean_of(self, part: RankBatch, loss: float, right: int) -> tuple[float, int]:
        """Return the mean loss of a batch and its number of correct images, from those of the parts."""
        if self.size == 1:
            return loss, right
        weighted, correct = self.total(loss * len(part.batch.labels), right)
        return weighted / part.total, round(correct)

    def any(self, *, flag: bool) -> bool:
        """Return whether a flag is set on any rank."""
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


SINGLE_PROCESS = ProcessGroup()


def _shape_of(batch: Batch) -> Tensor:
    """Return (1, 1 + 4) numbers: how many images, and the other dimensions, 0 where there is none."""
    count = len(batch.labels)
    shape = [*batch.inputs.shape[1:]] if count else []
    return torch.tensor([[count, *shape, *[0] * (_MOST_DIMENSIONS - 1 - len(shape))]])


def _empty(batch: Batch, shape: list[int]) -> Batch:
    """Return a batch without images that has the other dimensions of another rank's images."""
    sides = [side for side in shape if side]
    dtype = torch.uint8 if len(sides) > 1 else torch.float32  # pixels, or features
    return batch._replace(inputs=torch.empty(0, *sides, dtype=dtype))
