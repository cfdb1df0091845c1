"""Weights of StarGAN's own program: a state dict of its generator, such as 200000-G.ckpt."""

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from trueface.models.pretrained import REMEDY, read_state
from trueface.runtime.errors import CheckpointError, WeightsError
from trueface.translation.checkpoint import filled
from trueface.translation.networks import COLOURS, Generator, GeneratorShape

FIRST = "main.0.weight"
BLOCK = re.compile(r"main\.\d+\.main\.0\.weight")
# of the instance norms, which the program computes and never uses
UNUSED = (".running_mean", ".running_var", ".num_batches_tracked")
MOST_SHOWN = 3


def load_foreign(path: Path, labels: int) -> Generator:
    """Return the generator of a file; width, blocks and number of labels are read from it.

    Args:
        path: a state dict; nothing in it is executed.
        labels: how many attributes are named.

    Raises:
        CheckpointError: it cannot be read, is no generator of StarGAN, or has another number of
            labels.
    """
    try:
        state = read_state(path)
    except WeightsError as error:  # whose advice is about detectors
        reason = str(error).removesuffix(f"; {REMEDY}")
        raise CheckpointError(f"{reason}; give a state dict of StarGAN's generator") from error
    state = {name: tensor for name, tensor in state.items() if not name.endswith(UNUSED)}
    shape = shape_of(state, path)
    if shape.classes != labels:
        raise CheckpointError(
            f"{path} is a generator of {shape.classes} labels (c_dim), and {labels} are named; write "
            f"labels: with its {shape.classes} attributes, in the order of its training"
        )
    expected = {name: tensor.shape for name, tensor in Generator(shape).state_dict().items()}
    unknown, missing = sorted(state.keys() - expected), sorted(expected.keys() - state)
    if unknown or missing:
        raise CheckpointError(
            f"{path} is no generator of StarGAN with {shape.blocks} blocks: "
            + "; ".join(
                f"{what} {', '.join(names[:MOST_SHOWN])}"
                for what, names in (("unknown", unknown), ("missing", missing))
                if names
            )
        )
    for name, tensor in state.items():
        if tensor.shape != expected[name]:
            raise CheckpointError(
                f"{path}: {name} is {list(tensor.shape)}, where a generator of width {shape.width} has "
                f"{list(expected[name])}"
            )
    return filled(shape, state)


def shape_of(state: Mapping[str, Tensor], path: Path) -> GeneratorShape:
    """Return the shape of the generator that a state dict belongs to.

    Raises:
        CheckpointError: to none.
    """
    first = state.get(FIRST)
    if first is None or first.ndim != 4 or first.shape[1] <= COLOURS:
        shown = ", ".join(sorted(state)[:MOST_SHOWN])
        raise CheckpointError(
            f"{path} is no generator of StarGAN: it needs {FIRST}, a convolution of {COLOURS} colours "
            f"and the labels; the file has {shown}"
        )
    blocks = sum(BLOCK.fullmatch(name) is not None for name in state)
    return GeneratorShape(first.shape[1] - COLOURS, first.shape[0], blocks)
