"""The processes of one training (ranks), which share each batch and average their gradients.

The batch of a step is the same as in a single process. It is divided among the ranks, and the loss of
each is weighted by its number of images. The averaged gradient is therefore that of the whole batch,
even if the last batch is uneven, an image cannot be decoded, or a rank has no image. Values that
control the training (sums of the loss, validation, a stop) are exchanged, and are therefore the
same on all ranks. `SINGLE_PROCESS` is the group of a training in one process. It does not communicate.

Nothing is unpickled: tensors are sent directly, other values as JSON.

Batch norm computes its statistics over the batch of all ranks. On a GPU it is torch's SyncBatchNorm, which
has no code for the CPU. For the CPU, this module implements S. Ioffe and C. Szegedy, arXiv 1502.03167. Mean
and variance of the ranks are merged as in T. Chan et al., Updating formulae and a pairwise algorithm (1979).

Dropout and stochastic depth use the same masks as a single process. A network with another layer that draws
random numbers is refused at its first batch, because each rank would draw for its own images.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from inspect import signature
from itertools import accumulate
from typing import Any, NamedTuple, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.parallel import DistributedDataParallel
from torch.overrides import TorchFunctionMode

from trueface.data.batch import CLIP_DIMENSIONS, IMAGE_DIMENSIONS, Batch
from trueface.data.loading.loader import WHOLE, Shard
from trueface.data.quality_feed import COLUMN
from trueface.models.detectors import Detector
from trueface.models.registry import OWN_DRAWS
from trueface.runtime.errors import DataError, JobError


@dataclass(slots=True)
class RankRows:
    """The positions of a rank's images in the batch of a step."""

    before: int = 0
    own: int = 0
    total: int = 0
    crops: int = 1  # rows per image
    # whether the batch has several qualities of each image, so that those of a rank are not consecutive rows
    has_copies: bool = False
    whole_clips: bool = False  # whether a clip is one row of the network, not one per frame

    def per_image(self, shape: Sequence[int]) -> int:
        """Return the rows of the network for each image or clip of a batch of this shape."""
        if len(shape) == CLIP_DIMENSIONS:
            return shape[1] if self.whole_clips else shape[1] * shape[2]
        return shape[1] if len(shape) == IMAGE_DIMENSIONS else 1


# layers that multiply each image by a random factor, by their names: packages are imported only if a network needs them
STOCHASTIC_DEPTH = frozenset({
    "torchvision.ops.stochastic_depth.StochasticDepth",
    "timm.layers.drop.DropPath",
    "trueface.models.blocks.efficientnet.DropConnect",
})  # fmt: skip


ONE_PROCESS = "Set gpus: 1 and leave out processes."


@contextmanager
def sync_batch_layers(model: nn.Module, rows: RankRows) -> Iterator[None]:
    """Make batch norm, dropout and stochastic depth of `model` use the batch of all ranks inside the `with` block.

    Parameters and buffers remain the same objects with the same names.

    Args:
        model: model on its device. A batch norm with several parents remains shared.
        rows: positions of this rank's images in the batch of the step.
    """
    before = [
        (parent, name, child)
        for parent in list(model.modules())
        for name, child in parent.named_children()
        if _is_plain_norm(child) or draws_rows(child)
    ]
    derived = [
        module
        for module in model.modules()
        if isinstance(module, _BatchNorm) and not _is_plain_norm(module)
    ]
    shared: dict[nn.Module, nn.Module] = {}
    for parent, name, child in before:
        if child not in shared:
            shared[child] = _share_layer(child, rows)
        setattr(parent, name, shared[child])
    for norm in derived:
        # a partial function, as a copy of the model has to copy the batch norm in it
        vars(norm)["forward"] = partial(_forward_derived, norm, _share_norm(norm))
    try:
        yield
    finally:
        for norm in derived:
            del vars(norm)["forward"]
        for parent, name, child in before:
            child.train(shared[child].training)
            setattr(parent, name, child)


def draws_rows(layer: nn.Module) -> bool:
    """Return whether a layer multiplies the rows of a batch by random factors, as dropout does."""
    kind = type(layer)
    if isinstance(layer, nn.AlphaDropout | nn.FeatureAlphaDropout):
        return False  # they add a number, too
    named = f"{kind.__module__}.{kind.__qualname__}" in STOCHASTIC_DEPTH
    return (named or isinstance(layer, _DropoutNd)) and _probability_of(layer) > 0


def _is_plain_norm(module: nn.Module) -> bool:
    """Return whether a module is a batch norm that does nothing besides."""
    return isinstance(module, _BatchNorm) and type(module).forward is _BatchNorm.forward


def _share_layer(layer: nn.Module, rows: RankRows) -> nn.Module:
    """Return a layer that uses the batch of all ranks, with the parameters and buffers of `layer`."""
    return _share_norm(layer) if isinstance(layer, _BatchNorm) else SharedDropout(layer, rows)


def _share_norm(norm: _BatchNorm) -> nn.Module:
    """Return a batch norm over all ranks, with the parameters and buffers of `norm`."""
    weight = next(norm.parameters(recurse=False), norm.running_mean)
    if weight is not None and weight.device.type == "cuda":
        convert: Any = nn.SyncBatchNorm.convert_sync_batchnorm  # untyped in torch
        plain = nn.BatchNorm2d(
            norm.num_features,
            eps=norm.eps,
            momentum=cast(float, norm.momentum),
            affine=norm.affine,
            track_running_stats=norm.track_running_stats,
        )
        _adopt_tensors(plain, norm)
        return cast(nn.Module, convert(plain))
    return SharedBatchNorm(norm)


def _adopt_tensors(layer: _BatchNorm, norm: _BatchNorm) -> None:
    """Give a layer the parameters and buffers of a batch norm, as the same objects, and its mode."""
    for name, parameter in norm.named_parameters(recurse=False):
        layer.register_parameter(name, parameter)
    for name, buffer in norm.named_buffers(recurse=False):
        layer.register_buffer(name, buffer)
    layer.train(norm.training)


def _forward_derived(norm: _BatchNorm, shared_norm: nn.Module, *inputs: Any) -> Tensor:
    """Return the output of a batch norm of a class of its own, whose statistics are those of all ranks."""
    if shared_norm.num_batches_tracked is not None:
        # the layer itself counts
        shared_norm.num_batches_tracked = norm.num_batches_tracked.clone()  # type: ignore[union-attr]  # as in the other
    with _SharedStatistics(shared_norm.train(norm.training)):
        return type(norm).forward(norm, *inputs)


class _SharedStatistics(TorchFunctionMode):
    """Calls another batch norm in place of torch's function."""

    def __init__(self, shared_norm: nn.Module) -> None:
        super().__init__()
        self._shared_norm = shared_norm

    def __torch_function__(
        self, func: Callable[..., Any], _: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if func is functional.batch_norm:
            return self._shared_norm(args[0])
        return func(*args, **(kwargs or {}))


class SharedDropout(nn.Module):
    """Draws the mask of the whole batch on every rank and applies this rank's rows of it.

    All ranks begin an epoch with the same seed and draw the same number of values, so that their
    generators remain equal.

    Args:
        layer: layer for which `draws_rows` holds.
        rows: positions of this rank's images in the batch. The caller updates them.
    """

    def __init__(self, layer: nn.Module, rows: RankRows) -> None:
        super().__init__()
        self.layer, self._rows = layer, rows

    def forward(self, inputs: Tensor) -> Tensor:
        """Return `inputs` (n·K, …) of n images with K crops each, multiplied by random factors.

        Raises:
            JobError: the inputs have another number of rows.
        """
        if not self.training:
            return inputs
        rows = self._rows
        if rows.has_copies or len(inputs) != rows.own * rows.crops:
            reason = (
                "gets all images in one quality after another"
                if rows.has_copies
                else f"gets {len(inputs)} rows for {rows.own * rows.crops} images or frames"
            )
            raise JobError(
                f"layer {type(self.layer).__name__} {reason}, so that it would draw other masks in several processes "
                f"than in one. {ONE_PROCESS}"
            )
        ones = inputs.new_ones(rows.total * rows.crops, *self._factors_of(inputs.shape[1:]))
        if inputs.ndim == 4 and inputs.is_contiguous(memory_format=torch.channels_last):
            # the mask is drawn in memory order
            ones = ones.contiguous(memory_format=torch.channels_last)
        mask: Tensor = self.layer(ones)
        return inputs * mask[rows.before * rows.crops :][: len(inputs)]

    def _factors_of(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Return the shape of the factors of a row: each value, each channel, or the whole row has one."""
        if isinstance(self.layer, nn.Dropout):
            return (*shape,)
        channels = 1 if isinstance(self.layer, _DropoutNd) else 0
        return (*shape[:channels], *[1] * (len(shape) - channels))


def _probability_of(layer: nn.Module) -> float:
    """Return the probability of a layer for which `draws_rows` holds."""
    return float(
        next(vars(layer)[name] for name in ("p", "drop_prob", "rate") if name in vars(layer))
    )


@contextmanager
def refuse_own_draws(model: nn.Module) -> Iterator[None]:
    """Refuse layers of a model, and an objective, that draw random numbers for the images of one rank.

    Layers inside `sync_batch_layers` may draw, and those with the attribute `draws_alike`, which draw the same
    numbers for any batch.

    Args:
        model: model whose batch passes through it inside the `with` block.

    Raises:
        JobError: a layer, or the objective, draws.
    """
    parents = [""]  # names of the modules that are being called
    device = next(model.parameters()).device
    last = _random_state(device)

    def check(name: str) -> None:
        if not torch.equal(_random_state(device), last):
            raise JobError(
                f"{f'layer {name}' if name else 'the training step'} {OWN_DRAWS} {ONE_PROCESS}"
            )

    def begin(name: str, *_: Any) -> None:
        check(parents[-1])
        parents.append(name)

    def end(name: str, module: nn.Module, *_: Any) -> None:
        nonlocal last
        parents.pop()
        if isinstance(module, SharedDropout) or getattr(module, "draws_alike", False):
            last = _random_state(device)
        check(name)

    hooks = []
    for name, module in model.named_modules():
        if not any(isinstance(each, SharedDropout) for each in _outer_modules(model, name)):
            hooks.append(module.register_forward_pre_hook(partial(begin, name)))
            hooks.append(module.register_forward_hook(partial(end, name)))
    try:
        yield
        check("")
    finally:
        for hook in hooks:
            hook.remove()


def _outer_modules(model: nn.Module, name: str) -> Iterator[nn.Module]:
    """Yield the modules that contain the one of that name."""
    while name:
        name = name.rpartition(".")[0]
        yield model.get_submodule(name)


def _random_state(device: torch.device) -> Tensor:
    """Return the state of the generators that a model on a device draws from."""
    state = torch.get_rng_state()
    return torch.cat([state, torch.cuda.get_rng_state(device)]) if device.type == "cuda" else state


class SharedBatchNorm(_BatchNorm):
    """Batch norm over all ranks for the CPU. In evaluation mode it is the same as torch's.

    Args:
        norm: batch norm whose parameters and buffers are used, as the same objects.
    """

    def __init__(self, norm: _BatchNorm) -> None:
        super().__init__(
            norm.num_features,
            eps=norm.eps,
            momentum=cast(float, norm.momentum),
            affine=norm.affine,
            track_running_stats=norm.track_running_stats,
        )
        _adopt_tensors(self, norm)

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002  # torch's own name
        if input.ndim < 2:
            raise ValueError(
                f"batch norm needs an input of shape (B, C, …), got {tuple(input.shape)}"
            )

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # torch's own name
        """Return `input` (B, C, …) normalised; B may differ between ranks, and may be 0.

        Raises:
            ValueError: all ranks together have only one value per channel.
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
            # the message of torch, which the trainer handles
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
    """Return mean and biased variance (C,) of the values on all ranks, and the number of values per channel."""
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


# buffers need no broadcast: each rank computes the batch norm statistics of the whole batch. Parts of a network
# may have no gradient, if the objective does not read them; they are the same in each step
_OPTIONS: dict[str, Any] = {
    "static_graph": True,
    "forward_sync_buffers"  # the name in newer versions of torch
    if "forward_sync_buffers" in signature(DistributedDataParallel).parameters
    else "broadcast_buffers": False,
}


class RankBatch(NamedTuple):
    """The part of a batch that one rank has."""

    batch: Batch
    before: int  # number of images of this batch on lower ranks
    total: int  # number of images of this batch on all ranks, at least 1


class ProcessGroup:
    """The ranks of a training, as seen by one of them.

    Args:
        shard: number of this rank, and the number of ranks.
        control: process group for communication on the CPU. None for a single rank.
        backend: backend for the gradients, nccl or gloo. None for a single rank.
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
        """Return a context in which batch norm and dropout of `model` use the whole batch."""
        if self.size == 1:
            return nullcontext()
        self._rows.whole_clips = isinstance(model, Detector) and model.spec.frames is not None
        return sync_batch_layers(model, self._rows)

    def refuse_own_draws(self, model: nn.Module) -> AbstractContextManager[None]:
        """Return a context in which a forward pass of `model` may draw only what all ranks draw alike."""
        return nullcontext() if self.size == 1 else refuse_own_draws(model)

    def average_gradients(self, model: nn.Module, device: str) -> nn.Module:
        """Return a wrapper of `model` whose backward pass averages the gradients over the ranks."""
        if self.size == 1:
            return model
        ids = [torch.device(device)] if device.startswith("cuda") else None
        return DistributedDataParallel(model, device_ids=ids, **_OPTIONS)

    def iter_rank_batches(self, batches: Iterable[Batch]) -> Iterator[RankBatch]:
        """Yield this rank's part of each batch that has an image on any rank.

        A part without images has the image shape of the other ranks, so that every rank takes the
        step.

        Args:
            batches: this rank's parts in the order of the batches, including empty ones.

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
                # the same empty part, with the image shape of the other ranks
                batch = _make_empty_batch(batch, max(shapes)[1:])
            before = sum(counts[: self.shard.rank])
            crops = self._rows.per_image(batch.inputs.shape)
            self._rows.before, self._rows.total, self._rows.crops = before, sum(counts), crops
            self._rows.own = counts[self.shard.rank]
            self._rows.has_copies = COLUMN in batch.columns and len(
                set(batch.indices.tolist())
            ) < len(batch.indices)
            yield RankBatch(batch, before, sum(counts))
        if not seen:
            raise DataError("no image could be read in any process of the training")

    def weight(self, part: RankBatch) -> float:
        """Return the factor of a part's mean loss, so that the average over ranks is the mean loss of the batch."""
        return len(part.batch.labels) * self.size / part.total

    def mean_of(self, part: RankBatch, loss: float, right: int) -> tuple[float, int]:
        """Return the mean loss and the number of correct images of the batch, from the values of each rank."""
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
        """Wait until all ranks have called this method."""
        self.total(0.0)

    def gather(self, rows: Tensor) -> Tensor:
        """Return the rows (n, K) of all ranks, concatenated by rank. n may differ between ranks and be 0."""
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
        """Return the values of all ranks, after a round trip through JSON."""
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
    """Return the number of images and the other dimensions, padded with 0, (1, 1 + 5)."""
    count = len(batch.labels)
    shape = [*batch.inputs.shape[1:]] if count else []
    return torch.tensor([[count, *shape, *[0] * (CLIP_DIMENSIONS - 1 - len(shape))]])


def _make_empty_batch(batch: Batch, shape: list[int]) -> Batch:
    """Return a batch without images that has the other dimensions of another rank's images."""
    sides = [side for side in shape if side]
    dtype = torch.uint8 if len(sides) > 1 else torch.float32  # pixels, or features
    return batch._replace(inputs=torch.empty(0, *sides, dtype=dtype))
