"""The subspaces of the inputs of a network's layers: covariances, and projectors that protect them.

The gradient of a linear or convolutional layer is a sum of outer products of output gradients and
inputs. Its rows are therefore in the span of the layer's inputs: G. Saha et al., "Gradient projection
memory", ICLR 2021, arXiv 2103.09762, section 4. Inputs of a convolution are its patches, with its own
stride, padding, dilation and groups. A trainable bias is one more input, which is always 1. The sum is
the uncentred second moment. Activations themselves are never stored or decomposed. Its eigenvectors are the right
singular vectors of the stored activations. These are orthonormal already, so classical Gram-Schmidt, as in other
programs, gives the same projection.

All data are read once per model and cached under the model's fingerprint. After that a request needs one
pass over its forget set. If all data must not be read, a model from an earlier unlearning inherits the
result of that request. Samples are read without augmentation and dropout, so that the difference is
exact: both sums use the same inputs.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from trueface.data.examples import Examples
from trueface.models.head import forward_hooks, pre_logits
from trueface.runtime.errors import JobError
from trueface.runtime.rng import stream_seed
from trueface.unlearning.api import Request
from trueface.unlearning.cache import fingerprint

Layer = nn.Linear | nn.Conv2d
Layers = Mapping[str, Layer]
Energy = Literal["s", "s2"]
MOST_NUMBERS = 1 << 25  # numbers of patches that are laid out at a time: 128 MiB
ROUNDING = 1e-5  # fraction of the largest eigenvalue; float32 leaves some 1e-6 for 4608 inputs
HASH_BITS = 20  # bits of a place within its stretch; with 2^21 places of an image all fits 63 bits


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtectedSubspace:
    """The directions of a layer's inputs, one set per group, and the free ones."""

    basis: Tensor  # (G, D, M) float32 orthonormal columns, some of them 0 where groups differ
    free: bool  # they span what is free, as there is less of it; else what is protected
    protected: tuple[int, ...]  # directions, of each group

    @property
    def share(self) -> float:
        """The fraction of all directions that is left free."""
        groups, width, _ = self.basis.shape
        return 1 - sum(self.protected) / (groups * width)

    def project_out(self, gradient: Tensor) -> Tensor:
        """Return the part of a gradient (G, O, D) outside the protected directions."""
        with full_precision_matmul(gradient.device):
            if self.free:
                return (gradient @ self.basis) @ self.basis.mT
            for _ in range(2):  # a single projection leaves rounding errors
                gradient = gradient - (gradient @ self.basis) @ self.basis.mT
            return gradient


class CovarianceAccumulator:
    """Sums up the covariances of layers' inputs while the model works; see `accumulate_inputs`."""

    def __init__(self, layers: Layers, most: int) -> None:
        """Begin at nothing.

        Args:
            layers: by name; a name also determines the sampled positions of its inputs.
            most: positions used per sample; their sum is scaled up to all positions.
        """
        self._layers, self._most = layers, most
        # (G, D, D) of the layers that were used; float64 where the device has it
        self.found: dict[str, Tensor] = {}
        self.positions = torch.zeros(0, dtype=torch.int64)  # (B,) of the samples that come next

    def accumulate_inputs(self) -> AbstractContextManager[None]:
        """Accumulate the inputs of the layers in the block."""
        return forward_hooks(
            self._layers.items(),
            lambda name, _, arguments, __: self._add(name, arguments[0].detach()),
        )

    def _add(self, name: str, inputs: Tensor) -> None:
        layer = self._layers[name]
        samples = len(self.positions)
        single = samples > 0 and len(inputs) % samples == 0
        view = unfold_inputs(layer, inputs, samples if single else 1)
        places = view.shape[1:4].numel()
        taken = torch.arange(places, device=inputs.device).expand(samples if single else 1, -1)
        if single and places > self._most:
            taken = draw_stratified_places(
                self.positions.to(inputs.device), places, self._most, name
            )
        scale = places / taken.shape[1]
        with full_precision_matmul(inputs.device):
            for columns in patches(layer, view, taken):
                part = columns.mT @ columns
                if name not in self.found:
                    self.found[name] = torch.zeros_like(part, dtype=widest_dtype(inputs.device))
                self.found[name].add_(part, alpha=scale)


def layers_of(model: nn.Module) -> dict[str, Layer]:
    """Return the linear and convolutional layers whose weights may learn."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d) and module.weight.requires_grad
    }


def learns_bias(layer: Layer) -> bool:
    """Return whether a layer has a bias, and it may learn."""
    bias: Tensor | None = layer.bias  # torch's types say that it always exists
    return bias is not None and bias.requires_grad


def groups_of(layer: Layer) -> int:
    """Return in how many groups of channels a layer works."""
    return layer.groups if isinstance(layer, nn.Conv2d) else 1


def unfold_inputs(layer: Layer, layer_input: Tensor, samples: int) -> Tensor:
    """Return the patch at each position of an input: a view, (B, M, H, W, C, kernel).

    A sample may have several places of a linear layer (tokens), or several maps (crops): M of them.
    """
    if isinstance(layer, nn.Linear):
        rows = pre_logits(layer, layer_input.reshape(-1, layer.in_features))
        return rows.reshape(samples, -1, 1, 1, rows.shape[-1], 1, 1)
    (up, left), (down, right) = zip(*_padding_of(layer), strict=True)
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    if up or left or down or right:
        layer_input = functional.pad(layer_input, (left, right, up, down), mode=mode)
    for side, dilation in enumerate(layer.dilation):
        reach = dilation * (layer.kernel_size[side] - 1) + 1
        layer_input = layer_input.unfold(2 + side, reach, layer.stride[side])[..., ::dilation]
    return layer_input.view(samples, -1, *layer_input.shape[1:]).permute(0, 1, 3, 4, 2, 5, 6)


def patches(layer: Layer, view: Tensor, sampled_places: Tensor) -> Iterator[Tensor]:
    """Yield inputs (G, N, D) float32 at the places `sampled_places` (B, n), a few samples at a time.

    D is a group's channels × kernel, in the order of the weights, and 1 for a bias that learns.
    """
    width = view.shape[4:].numel()
    step = max(1, MOST_NUMBERS // (sampled_places.shape[1] * width))
    for at in range(0, len(sampled_places), step):
        shape, (rows, columns) = sampled_places[at : at + step], view.shape[2:4]
        # torch's function for this waits for the device
        places = (shape // (rows * columns), shape // columns % rows, shape % columns)
        samples = torch.arange(at, at + len(places[0]), device=sampled_places.device)[:, None]
        blocks = view[samples, *places].float()  # (b, n, C, kernel)
        blocks = blocks.reshape(-1, groups_of(layer), width // groups_of(layer)).transpose(0, 1)
        blocks = blocks.contiguous()
        yield (functional.pad(blocks, (0, 1), value=1.0) if learns_bias(layer) else blocks)


def draw_stratified_places(positions: Tensor, places: int, most: int, name: str) -> Tensor:
    """Return places (B, most) of samples, one out of each of `most` equal stretches.

    They depend only on a sample's position and the layer's name, so that sums over parts of a dataset add up
    to that of the whole. Each position is equally likely.
    """
    stretch = torch.arange(most, device=positions.device)
    seeds = splitmix64(positions + stream_seed(f"places/{name}", 0))
    within = splitmix64(seeds[:, None] + stretch) & ((1 << HASH_BITS) - 1)
    return (((stretch << HASH_BITS) + within) * places // most) >> HASH_BITS


def splitmix64(numbers: Tensor) -> Tensor:
    """Return well mixed int64 of int64, the same on every device: G. Steele's SplitMix64."""
    numbers = numbers * (0x9E3779B97F4A7C15 - (1 << 64))
    numbers = (numbers ^ _shift_right(numbers, 30)) * (0xBF58476D1CE4E5B9 - (1 << 64))
    numbers = (numbers ^ _shift_right(numbers, 27)) * (0x94D049BB133111EB - (1 << 64))
    return numbers ^ _shift_right(numbers, 31)


def principal_subspace(
    covariance: Tensor, energy_fraction: float, energy: Energy, more: int = 0
) -> ProtectedSubspace:
    """Return the directions that hold a fraction of the inputs' spectrum.

    The directions are those of the largest values whose running sum is at most that fraction.

    Args:
        covariance: (G, D, D), positive semidefinite up to rounding; negative eigenvalues count as 0.
        energy_fraction: the fraction.
        energy: "s" for singular values of the inputs, "s2" for their squares.
        more: directions besides those counted.
    """
    values, vectors = _eigen(covariance)
    # covariances and their differences are float32: smaller values are rounding, and the
    # roots of thousands of such values would be a good part of the sum
    values = values * (values > ROUNDING * values[:, :1])
    spectrum = values if energy == "s2" else values.sqrt()
    sums = spectrum.cumsum(-1)
    count = (sums <= energy_fraction * sums[:, -1:]).sum(-1) + more  # (G,)
    width = covariance.shape[-1]
    count = count.clamp(max=width) * (sums[:, -1] > 0)  # no input, nothing to protect
    fewest, largest = int(count.min()), int(count.max())
    free = width - fewest < largest
    kept = torch.arange(width, device=count.device) < count[:, None]
    masked = (vectors * (kept != free)[:, None, :]).float()
    basis = masked[:, :, fewest:] if free else masked[:, :, :largest]
    return ProtectedSubspace(basis=basis.contiguous(), free=free, protected=tuple(count.tolist()))


def widest_dtype(device: torch.device) -> torch.dtype:
    """Return the widest numbers that a device computes with."""
    return torch.float32 if device.type == "mps" else torch.float64


@contextmanager
def full_precision_matmul(device: torch.device) -> Iterator[None]:
    """Multiply in all digits of float32: neither TF32 nor half precision."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def _eigen(covariance: Tensor) -> tuple[Tensor, Tensor]:
    """Return eigenvalues (G, D), falling and not negative, and eigenvectors (G, D, D).

    Inputs that are always 0, such as the margins of a small map under a large kernel, are left out of the
    decomposition and come last. There may be many of them, the cost grows with the cube of their number, and
    solvers fail on thousands of equal eigenvalues.
    """
    if not bool(covariance.isfinite().all()):
        raise JobError("the inputs of a layer are not finite, so the model is broken")
    even = (covariance + covariance.mT) / 2
    used = (even.diagonal(dim1=1, dim2=2) > 0).any(0)  # (D,)
    count = int(used.sum())
    values, vectors = even.new_zeros(even.shape[:2]), torch.zeros_like(even)
    if count:
        solved, directions = _solve_symmetric(even[:, used][:, :, used])
        values[:, :count] = solved.flip(-1).clamp(min=0)
        vectors[:, used, :count] = directions.flip(-1)
    unused = (~used).nonzero().squeeze(1)
    vectors[:, unused, torch.arange(count, len(used), device=unused.device)] = 1
    return values, vectors


def _solve_symmetric(even: Tensor) -> tuple[Tensor, Tensor]:
    """Return rising eigenvalues and eigenvectors of symmetric matrices (G, D, D)."""
    width = even.shape[-1]
    ramp = torch.linspace(0, 1, width, device=even.device, dtype=even.dtype).diag()
    scale = torch.finfo(torch.float32).eps * even.diagonal(dim1=1, dim2=2).amax()
    for attempt in (even, even + scale * ramp, (even + scale * ramp).cpu().double()):
        try:
            values, vectors = torch.linalg.eigh(attempt)
        except RuntimeError:  # no solver on this device, no memory for it, or it did not converge:
            continue  # a perturbation as small as rounding separates equal eigenvalues
        return values.to(even), vectors.to(even)
    raise JobError(f"the {width} inputs of a layer could not be decomposed. Choose another seed.")


def _padding_of(layer: nn.Conv2d) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the padding before and after, vertically and horizontally."""
    if isinstance(layer.padding, str):
        totals = [
            dilation * (kernel - 1) if layer.padding == "same" else 0
            for dilation, kernel in zip(layer.dilation, layer.kernel_size, strict=True)
        ]
        down, along = ((total // 2, total - total // 2) for total in totals)
        return down, along
    return (layer.padding[0],) * 2, (layer.padding[1],) * 2


def _shift_right(numbers: Tensor, bits: int) -> Tensor:
    """Return numbers shifted to the right, filled with zeros, not with their signs."""
    return (numbers >> bits) & ((1 << (64 - bits)) - 1)


NAME, INHERITED = "covariances", "inherited"  # names of files in the cache
MEMBERS = "/members"  # key of a tensor in the file; no layer has this name


class _MissingError(Exception):
    """The cache does not hold it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Covariances:
    """Input covariances by layer, and of which samples they are."""

    by_layer: Mapping[str, Tensor]  # (G, D, D)
    members: Tensor  # (N,) int64, sorted: see `members`
    model: str  # its fingerprint
    inherited: bool = False  # from the model as it was before an earlier unlearning


def covariances_without_forgotten(request: Request, layers: Layers, most: int) -> Covariances:
    """Return the covariances of the retain set, float32 on the CPU.

    Raises:
        JobError: no covariances of the retain set are known, or they do not contain the forget set.
    """
    everything = _sum_all_layers(request, layers, most)
    gone = members([request.forget])
    present = torch.isin(gone, everything.members)
    if not bool(present.all()):
        raise JobError(
            f"{int((~present).sum())} of {len(gone)} samples of the forget set are not among the "
            f"{len(everything.members)} samples in the cache of this model. Pass `retain` once, or "
            "use another cache folder."
        )
    forgotten = sum_covariances(request, [request.forget], layers, most)
    less = {}
    for name, whole in everything.by_layer.items():
        part = forgotten.pop(name, torch.zeros(1, device=request.watch.device))
        less[name] = (whole.to(part.device, widest_dtype(part.device)) - part).float().cpu()
    return Covariances(
        by_layer=less,
        members=everything.members[~torch.isin(everything.members, gone)],
        model=everything.model,
        inherited=everything.inherited,
    )


def cache_for_descendant(
    request: Request, covariances: Covariances, layers: Layers, most: int
) -> None:
    """Store the covariances of the retain set for the model as it is now, for a later request."""
    model = fingerprint(request.model)
    if model == covariances.model:
        return
    follows = _follows(request, model, layers, most)
    request.cache.tensors(
        INHERITED, follows, lambda: {**covariances.by_layer, MEMBERS: covariances.members}
    )


def sum_covariances(
    request: Request, parts: Sequence[Examples], layers: Layers, most: int
) -> dict[str, Tensor]:
    """Return the sums of the layers' input covariances over samples, on the device.

    Raises:
        JobError: stopped.
    """
    sums = CovarianceAccumulator(layers, most)
    request.model.eval()
    with torch.no_grad(), sums.accumulate_inputs():
        for part in parts:
            for batch in part.read(request.watch):
                sums.positions = batch.indices
                request.logits(batch.inputs)
    return sums.found


def members(parts: Sequence[Examples]) -> Tensor:
    """Return a number for each sample that is its own in all sources, sorted."""
    numbers = [
        splitmix64(splitmix64(torch.tensor(part.positions)) + stream_seed(part.source.identity, 0))
        for part in parts
    ]
    ordered: Tensor = torch.unique(torch.cat(numbers))
    return ordered


def _sum_all_layers(request: Request, layers: Layers, most: int) -> Covariances:
    model = fingerprint(request.model)
    follows = _follows(request, model, layers, most)
    if request.retain is None:
        for name in (NAME, INHERITED):
            try:
                tensors = request.cache.tensors(name, follows, _raise_missing)
            except _MissingError:
                continue
            return _covariances(tensors, model, is_inherited=name == INHERITED)
        raise JobError(
            "pgu needs the inputs of the retain set, but they are not in the cache and the retain set "
            "may not be read. Pass `retain` and a cache folder once."
        )
    parts = [request.retain, request.forget]
    members_of_parts = members(parts)

    def sum_all_covariances() -> dict[str, Tensor]:
        sums = sum_covariances(request, parts, layers, most)
        return {**{name: value.float() for name, value in sums.items()}, MEMBERS: members_of_parts}

    tensors = request.cache.tensors(NAME, follows, sum_all_covariances)
    if not torch.equal(
        tensors[MEMBERS], members_of_parts
    ):  # an earlier request was given other samples
        digest = str(members_of_parts.tolist())
        tensors = request.cache.tensors(NAME, (*follows, digest), sum_all_covariances)
    return _covariances(tensors, model)


def _covariances(
    tensors: Mapping[str, Tensor], model: str, *, is_inherited: bool = False
) -> Covariances:
    sums = {name: value for name, value in tensors.items() if name != MEMBERS}
    return Covariances(by_layer=sums, members=tensors[MEMBERS], model=model, inherited=is_inherited)


def _raise_missing() -> dict[str, Tensor]:
    raise _MissingError


def _follows(request: Request, model: str, layers: Layers, most: int) -> list[str]:
    names = [f"{name} bias={learns_bias(layer)}" for name, layer in layers.items()]
    return [model, request.watch.precision, f"positions={most}", *names]
