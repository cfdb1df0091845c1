"""Files of translators: written whole, read without executing anything."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from trueface.runtime import tensor_files
from trueface.runtime.errors import CheckpointError
from trueface.runtime.files import Json
from trueface.translation.networks import Generator, GeneratorShape
from trueface.translation.translator import Translator, ready

SCHEMA = 1
WHAT = "translator"


def save_translator(path: Path, translator: Translator, provenance: Mapping[str, Json]) -> None:
    """Write a translator atomically; folders are made as needed."""
    shape = translator.generator.shape
    state = translator.generator.state_dict()
    content = {
        "schema": SCHEMA,
        "what": WHAT,
        "labels": list(translator.labels),
        "size": translator.size,
        "width": shape.width,
        "blocks": shape.blocks,
        "state": {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()},
        "provenance": dict(provenance),
    }
    tensor_files.save(path, content)


def load_translator(path: Path, device: str = "cpu") -> Translator:
    """Read a translator that a job has written.

    Raises:
        CheckpointError: absent, cut off, of another kind, or holding more than plain values.
    """
    try:
        content = tensor_files.load(path)
    except FileNotFoundError as error:
        raise CheckpointError(f"no translator {path}; train it first") from error
    except tensor_files.BrokenFileError as error:
        raise CheckpointError(f"translator {path} cannot be read safely: {error}") from error
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
