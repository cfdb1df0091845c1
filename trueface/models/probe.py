"""A pass of a few random images: what a network does cannot be read off its layers."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeGuard

import torch
from torch import Tensor, nn

from trueface.runtime.errors import JobError

SIDES = (64, 224)  # pixels: the first is enough for most networks
BATCH = 2

Hook = Callable[[str, nn.Module, tuple[object, ...], object], None]  # name, layer, inputs, result


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A layer that makes maps (B, C, S, S) of maps."""

    name: str  # dotted
    side_before: int
    side: int
    channels: int


def probe(network: nn.Module, name: str, side: int | None) -> Tensor:
    """Return what `network` makes of two random images; it is in evaluation mode afterwards.

    Args:
        network: from images (B, 3, H, W) to logits.
        name: of the network, for messages.
        side: the only side of images that it takes, in pixels; None: any.

    Raises:
        JobError: it takes none of them; says why.
    """
    network.eval()
    *others, last = SIDES if side is None else (side,)
    for each in others:
        try:
            return _pass(network, each)
        except (JobError, RuntimeError, AssertionError, ValueError):  # larger ones may do
            continue
    return _answers(network, name, last)


def refuse_small(network: nn.Module, name: str, side: int) -> None:
    """Check that a network takes images that are smaller than those of a probe.

    Args:
        network: from images (B, 3, H, W) to logits; it is in evaluation mode afterwards.
        name: of the network, for messages.
        side: of images, in pixels.

    Raises:
        JobError: it does not; says why.
    """
    if side < SIDES[0]:
        _answers(network.eval(), name, side)


def layers_of_maps(network: nn.Module, name: str, side: int | None) -> list[Layer]:
    """Return the layers from square maps to square maps, in the order in which they end.

    Args and errors are those of `probe`.
    """
    layers: list[Layer] = []

    def note(layer: str, _: nn.Module, inputs: tuple[object, ...], result: object) -> None:
        if inputs and _is_map(before := inputs[0]) and _is_map(result):
            layers.append(
                Layer(
                    name=layer,
                    side_before=before.shape[-1],
                    side=result.shape[-1],
                    channels=result.shape[1],
                )
            )

    with hooked(network, note):
        probe(network, name, side)
    return layers


@contextmanager
def hooked(network: nn.Module, hook: Hook) -> Iterator[None]:
    """Call `hook` after each layer of a network while the block runs; the network itself is none."""

    def named(name: str) -> Callable[..., None]:
        return lambda layer, inputs, result: hook(name, layer, inputs, result)

    handles = [
        layer.register_forward_hook(named(name)) for name, layer in network.named_modules() if name
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def first_line(error: BaseException) -> str:
    """Return the first line of an error of a library, or its type where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def _answers(network: nn.Module, name: str, side: int) -> Tensor:
    try:
        return _pass(network, side)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise JobError(
            f"model {name} takes no images of {side} by {side} pixels ({first_line(error)}); change "
            "resize_size, or take another network"
        ) from error


def _pass(network: nn.Module, side: int) -> Tensor:
    images = torch.rand(BATCH, 3, side, side, generator=torch.Generator().manual_seed(side))
    with torch.no_grad():
        return network(images)  # type: ignore[no-any-return]  # torch: modules return Any


def _is_map(value: object) -> TypeGuard[Tensor]:
    return isinstance(value, Tensor) and value.dim() == 4 and value.shape[-2] == value.shape[-1]
