"""A trained generator with what is needed to use it; its files, and those of StarGAN's own program."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from trueface.models.assembly import REMEDY, read_state
from trueface.runtime import tensor_files
from trueface.runtime.errors import CheckpointError, JobError, WeightsError
from trueface.runtime.files import Json
from trueface.translation.networks import COLOURS, Generator, GeneratorShape
from trueface.translation.settings import HALVINGS

SCHEMA = 1
WHAT = "translator"
FIRST = "main.0.weight"
BLOCK = re.compile(r"main\.\d+\.main\.0\.weight")
# of the instance norms, which the program computes and never uses
UNUSED = (".running_mean", ".running_var", ".num_batches_tracked")
MOST_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Translator:
    """Gives images other attributes.

    Its weights want no gradients; images do: an attack differentiates through it.
    """

    generator: Generator
    labels: tuple[str, ...]  # names of the attributes
    size: int  # side of the images that it was trained on

    def __call__(self, images: Tensor, targets: Tensor) -> Tensor:
        """Return images with other attributes, N×3×H×W in [-1, 1].

        Args:
            images: likewise; sides are multiples of 4.
            targets: N×K, 0 or 1, in the order of `labels`.

        Raises:
            JobError: images or targets of another shape.
        """
        if images.ndim != 4 or images.shape[1] != COLOURS:
            raise JobError(
                f"a translator takes images of {COLOURS} channels, N×{COLOURS}×H×W, and got "
                f"{'×'.join(map(str, images.shape))}"
            )
        if any(side % (1 << HALVINGS) for side in images.shape[2:]):
            raise JobError(
                f"a translator takes sides that are multiples of {1 << HALVINGS}, and got "
                f"{images.shape[3]}x{images.shape[2]}; resize the images first"
            )
        if targets.shape != (len(images), len(self.labels)):
            raise JobError(
                f"the generator has {len(self.labels)} labels ({', '.join(self.labels)}), and got "
                f"targets {'×'.join(map(str, targets.shape))} for {len(images)} images"
            )
        made: Tensor = self.generator(images, targets)
        return made


def ready(generator: Generator, labels: tuple[str, ...], size: int, device: str) -> Translator:
    """Return a translator on a device, its weights fixed."""
    generator = generator.to(device).eval().requires_grad_(False)
    return Translator(generator, labels, size)


def save_translator(path: Path, translator: Translator, provenance: Mapping[str, Json]) -> None:
    """Write a translator atomically; folders are made as needed."""
    shape = translator.generator.shape
    content = {
        "schema": SCHEMA,
        "what": WHAT,
        "labels": list(translator.labels),
        "size": translator.size,
        "width": shape.width,
        "blocks": shape.blocks,
        "state": tensor_files.weights_of(translator.generator),
        "provenance": dict(provenance),
    }
    tensor_files.save(path, content)


def load_translator(path: Path, device: str = "cpu") -> Translator:
    """Read a translator that a job has written.

    Raises:
        CheckpointError: absent, cut off, of another kind, or holding more than plain values.
    """
    content = tensor_files.load_model(
        path,
        absent="no translator {path}; train it first",
        unreadable="translator {path} cannot be read safely: {error}",
    )
    if not isinstance(content, dict) or content.get("what") != WHAT:
        raise CheckpointError(f"{path} is no translator; name a model of the kind translator")
    if content.get("schema") != SCHEMA:
        raise CheckpointError(f"{path} is a translator of another schema than {SCHEMA}")
    try:
        labels, state = tuple(content["labels"]), content["state"]
        shape = GeneratorShape(len(labels), content["width"], content["blocks"])
        generator = filled(shape, state)
        return ready(generator, labels, content["size"], device)
    except (KeyError, TypeError, RuntimeError) as error:
        raise CheckpointError(f"{path} is a broken translator: {_first(error)}") from error


def filled(shape: GeneratorShape, state: Mapping[str, Any]) -> Generator:
    """Return a generator with these weights.

    Raises:
        RuntimeError: they do not fit.
    """
    generator = Generator(shape)
    tensors = {name: tensor for name, tensor in state.items() if isinstance(tensor, Tensor)}
    generator.load_state_dict(tensors)
    return generator


def _first(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


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
