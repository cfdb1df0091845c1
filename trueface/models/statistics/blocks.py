"""The blocks of a convolutional network, and their maps while it runs."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trueface.models.probe import first_line
from trueface.runtime.errors import JobError

LEAST_BLOCKS = 2
PROBE_SIDES = (96, 160)  # pixels; two, since maps with channels last have a side in their place
CONTAINERS = (nn.Sequential, nn.ModuleList)  # of blocks; their subclasses are blocks
NO_BLOCKS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.Flatten)

Reduction = Callable[[int, Tensor], Tensor]  # of a block's position and its map (B, C, h, w)


@dataclass(frozen=True, slots=True)
class Block:
    """A block of a network."""

    name: str  # of the module that answers with its map
    channels: int
    stride: float  # side of an image by side of the map


class _LastBlock(Exception):  # it ends a pass, and is no error
    pass


def blocks_of(network: nn.Module) -> tuple[Block, ...]:
    """Return the blocks of a network, in the order of their registration.

    A block is a module that has parts, or a convolution with the norm and the activation after
    it. Only those count that answer with maps (B, C, h, w), larger for a larger image.

    Raises:
        JobError: fewer than two do, as in a transformer, or it takes images of one size only.
    """
    names = list(_block_names(network))
    small, large = (_map_shapes(network, names, side) for side in PROBE_SIDES)
    blocks = [
        Block(name, small[name][1], PROBE_SIDES[0] / small[name][2])
        for name in names
        if _are_maps(small.get(name, ()), large.get(name, ()))
    ]
    if len(blocks) < LEAST_BLOCKS:
        raise JobError(
            "statistics of blocks need a convolutional network, whose blocks answer with maps "
            f"(batch, channels, height, width): of a {type(network).__name__}, {len(blocks)} do; take "
            "another, such as mobilenet"
        )
    return tuple(blocks)


def reduce_maps(
    network: nn.Module, images: Tensor, blocks: Sequence[Block], reduction: Reduction
) -> list[Tensor]:
    """Return what `reduction` makes of each block's map, in the order of `blocks`.

    A map is reduced when it is made, and not kept; what follows the last block does not run.
    """
    results: dict[int, Tensor] = {}

    def reduce(position: int, answer: Tensor) -> None:
        results[position] = reduction(position, answer)
        if len(results) == len(blocks):
            raise _LastBlock

    _run(network, images, [block.name for block in blocks], reduce)
    return [results[position] for position in range(len(blocks))]


def _block_names(module: nn.Module, prefix: str = "") -> Iterator[str]:
    """Name the modules that end blocks: parts, or the last of a run of plain layers."""
    last_of_run = ""
    for name, child in module.named_children():
        path = f"{prefix}{name}"
        plain = not any(True for _ in child.children())
        if last_of_run and (not plain or isinstance(child, (nn.Conv2d, *NO_BLOCKS))):
            yield last_of_run
            last_of_run = ""
        if type(child) in CONTAINERS:
            yield from _block_names(child, f"{path}.")
        elif not plain:
            yield path
        elif not isinstance(child, NO_BLOCKS):
            last_of_run = path
    if last_of_run:
        yield last_of_run


def _map_shapes(network: nn.Module, names: Sequence[str], side: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}

    def note(position: int, answer: Tensor) -> None:
        shapes[names[position]] = tuple(getattr(answer, "shape", ()))  # a part may answer otherwise

    parameter = next(network.parameters(), torch.zeros(()))
    try:
        with torch.no_grad():
            _run(network, torch.zeros(1, 3, side, side).to(parameter), names, note)
    except (RuntimeError, AssertionError, ValueError) as error:  # libraries raise all of them
        raise JobError(
            f"statistics of blocks need a network that takes images of any size, and a "
            f"{type(network).__name__} takes none of {side} pixels ({first_line(error)}); take a "
            "convolutional one, such as mobilenet"
        ) from error
    return shapes


def _are_maps(small: tuple[int, ...], large: tuple[int, ...]) -> bool:
    return len(small) == len(large) == 4 and small[1] == large[1] and small[2] < large[2]


def _run(
    network: nn.Module, images: Tensor, names: Sequence[str], see: Callable[[int, Tensor], None]
) -> None:
    """Run a network; let `see` have the position and the answer of each module of these names."""
    with ExitStack() as stack, suppress(_LastBlock):
        for position, name in enumerate(names):
            module = network.get_submodule(name)
            handle = module.register_forward_hook(
                lambda _, __, answer, position=position: see(position, answer)
            )
            stack.callback(handle.remove)
        network(images)
