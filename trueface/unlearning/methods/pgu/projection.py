"""Steps of layers that spare where the inputs of what is kept lie: see `trueface.unlearning.methods.pgu.subspaces`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from trueface.unlearning.methods.pgu.subspaces import Layer, Space, groups_of, learns_bias

LEAK = 0.8e-4  # fraction of a layer's way that may lie where it must not; 1e-4 is promised


class Free(NamedTuple):
    """A layer that may move, and in which directions it may not."""

    layer: Layer
    space: Space


def parameters_of(layer: Layer) -> list[nn.Parameter]:
    """Return the weight of a layer, and its bias if that learns."""
    return [layer.weight, layer.bias] if learns_bias(layer) else [layer.weight]  # type: ignore[list-item]  # it has one


def project(free: Sequence[Free], decay: float) -> Tensor:
    """Free the gradients of what is protected; return their new length as a fraction of the old."""
    before, after = [], []
    for layer, space in free:
        if layer.weight.grad is None:  # not used in this pass
            continue
        whole = _matrix(
            layer,
            [
                _gradient(parameter) + decay * parameter.detach()
                for parameter in parameters_of(layer)
            ],
        )
        spared = space.spared(whole)
        for parameter, part in zip(parameters_of(layer), _parts(layer, spared), strict=True):
            _gradient(parameter).copy_(part)
        before.append(whole.square().sum())
        after.append(spared.square().sum())
    lengths = torch.stack([torch.stack(after).sum(), torch.stack(before).sum()]).sqrt()
    return torch.where(lengths[1] > 0, lengths[0] / lengths[1], 0.0)


def settle(free: Sequence[Free], start: Sequence[Tensor]) -> None:
    """Take out of the way from `start` to here what the steps' rounding left in protected directions.

    Args:
        free: the layers that moved.
        start: the values of all their parameters before.
    """
    remaining = list(start)
    with torch.no_grad():
        for layer, space in free:
            values = parameters_of(layer)
            begun, remaining = remaining[: len(values)], remaining[len(values) :]
            way = space.spared(_matrix(layer, values) - _matrix(layer, begun))
            for value, first, moved in zip(values, begun, _parts(layer, way), strict=True):
                value.copy_(first + moved)


def stay(free: Sequence[Free], start: Sequence[Tensor]) -> None:
    """Put layers back that moved so little that rounding has turned them into protected directions.

    Numbers are stored with 24 bits: of a way of some 1e-4 of the weights themselves, rounding alone
    is more than `LEAK`. Such a way changes no answer, and what is promised shall hold.
    """
    remaining = list(start)
    for layer, space in free:
        values = parameters_of(layer)
        begun, remaining = remaining[: len(values)], remaining[len(values) :]
        with torch.no_grad():
            way = _matrix(layer, values) - _matrix(layer, begun)
            if (way - space.spared(way)).norm() > LEAK * way.norm():
                put_back(values, begun)


@contextmanager
def alone(model: nn.Module, parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """Let no other parameter learn meanwhile: batch norms, and layers without free directions."""
    chosen = {id(parameter) for parameter in parameters}
    others = [
        parameter
        for parameter in model.parameters()
        if parameter.requires_grad and id(parameter) not in chosen
    ]
    for parameter in others:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in others:
            parameter.requires_grad_(True)


def copies(parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    """Return copies of the values of parameters."""
    return [parameter.detach().clone() for parameter in parameters]


def put_back(parameters: Sequence[nn.Parameter], values: Sequence[Tensor]) -> None:
    """Give parameters values that they had before."""
    with torch.no_grad():
        for parameter, value in zip(parameters, values, strict=True):
            parameter.copy_(value)


def _matrix(layer: Layer, values: Sequence[Tensor]) -> Tensor:
    """Return a weight, and a bias behind it, as (G, O, D)."""
    groups, outputs = groups_of(layer), len(values[0])
    return torch.cat([value.reshape(groups, outputs // groups, -1) for value in values], 2)


def _parts(layer: Layer, matrix: Tensor) -> list[Tensor]:
    """Return what `_matrix` put together."""
    values = parameters_of(layer)
    widths = [value.numel() // value.shape[0] for value in values]
    parts = torch.split(matrix, widths, 2)
    return [part.reshape(value.shape) for part, value in zip(parts, values, strict=True)]


def _gradient(parameter: nn.Parameter) -> Tensor:
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad
