"""The file format of all models: architecture, weights and provenance.

A file contains only plain values and tensors. It is written atomically and read without executing
code (`torch.load(weights_only=True)`). docs/folders.md lists its keys. Each argument of the
architecture is a separate key, because other programs read the key `normalization` of detectors.

A kind of model declares its arguments as a `ModelKind`, next to the function that builds the model
from a `Checkpoint`. `_convert_to_present_layout` converts files of earlier versions.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar

from torch import Tensor, nn

from trueface.models.assembly import load_state
from trueface.runtime import tensor_files
from trueface.runtime.errors import CheckpointError, WeightsError, first_line
from trueface.runtime.files import Json

SCHEMA = 1
# keys that the files of every kind have, with the types of their values
_PARTS: Mapping[str, type] = {"arch": str, "state": dict, "provenance": dict}
# errors that constructors raise for arguments or weights that do not fit
_UNFIT = (KeyError, TypeError, ValueError, RuntimeError, WeightsError)

Model = TypeVar("Model")
Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A trained model as stored on disk. The network is built from the architecture and its arguments."""

    kind: str  # name of a `ModelKind`
    arch: str
    arguments: Mapping[str, Any]  # plain values that the architecture is built with
    # for detectors, with the names of the library that builds the network
    state: Mapping[str, Tensor]
    provenance: Mapping[str, Json]
    # only for detectors: reference for predictions, see `prediction.reference`
    reference: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelKind:
    """Declares the arguments in the files of a kind of model, and the messages about these files.

    The messages may contain {name}, {path}, {schema} of the file, {expected} and {error}.
    """

    name: str  # value of the key `kind`
    arguments: Mapping[str, type | UnionType]  # arguments of the architecture, with their types
    title: str = ""  # {name} in messages; if empty, `name`
    absent: str = "{name} {path} does not exist. Train it first."
    unreadable: str = "{name} {path} cannot be read safely: {error}"
    other_kind: str = "{path} is not a {name}. Give a model of job type {name}."
    other_schema: str = "{path} is a {name} of schema {schema}, expected schema {expected}"
    damaged: str = "{path} is a damaged {name}: {error}"

    def refusal(self, message: str, path: Path, **facts: object) -> CheckpointError:
        """Return the error of a file that cannot be used."""
        name = self.title or self.name
        return CheckpointError(message.format(name=name, path=path, expected=SCHEMA, **facts))


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write a model atomically. Folders are created as needed.

    Raises:
        MachineError: the file cannot be written. The old file is unchanged.
    """
    content = {
        "schema": SCHEMA,
        "kind": checkpoint.kind,
        "arch": checkpoint.arch,
        **checkpoint.arguments,
        "state": {
            name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.state.items()
        },
        "provenance": dict(checkpoint.provenance),
        **({"reference": dict(checkpoint.reference)} if checkpoint.reference else {}),
    }
    tensor_files.save(path, content)


def load(path: Path, *kinds: ModelKind) -> Checkpoint:
    """Read a model of one of the given kinds. No code in the file is executed.

    Raises:
        CheckpointError: the file is absent, cannot be read, or is of another kind or schema. Also if
            a key is missing or its value has another type.
    """
    kind = kinds[0]
    try:
        content = tensor_files.load(path)
    except FileNotFoundError as error:
        raise kind.refusal(kind.absent, path) from error
    except tensor_files.BrokenFileError as error:
        raise kind.refusal(kind.unreadable, path, error=error) from error
    content = _convert_to_present_layout(content) if isinstance(content, dict) else {}
    # not a set: the value of a damaged file may have no hash
    if content.get("kind") not in [each.name for each in kinds]:
        raise kind.refusal(kind.other_kind, path)
    kind = next(each for each in kinds if each.name == content["kind"])
    if content.get("schema") != SCHEMA:
        raise kind.refusal(kind.other_schema, path, schema=content.get("schema"))
    for key, shape in (*kind.arguments.items(), *_PARTS.items()):
        if not isinstance(content.get(key), shape):
            raise kind.refusal(kind.damaged, path, error=f"its {key!r} is missing or wrong")
    return Checkpoint(
        kind=content["kind"],
        arch=content["arch"],
        arguments={key: content.get(key) for key in kind.arguments},
        state=_tensors(content["state"]),
        provenance=content["provenance"],
        reference=_tensors(content.get("reference")),
    )


def build(
    checkpoint: Checkpoint, path: Path, kind: ModelKind, make: Callable[[Checkpoint], Model]
) -> Model:
    """Return the model that `make` builds from a checkpoint.

    Raises:
        CheckpointError: arguments or weights do not fit the architecture.
    """
    try:
        return make(checkpoint)
    except _UNFIT as error:
        reason = first_line(error)
        raise kind.refusal(kind.damaged, path, error=reason) from error


def load_frozen(network: Network, state: Mapping[str, Tensor]) -> Network:
    """Load weights into a network, and return it in evaluation mode and without gradients.

    Raises:
        WeightsError: a name is missing or unknown, or a shape differs.
    """
    load_state(network, state, "its weights")
    return network.eval().requires_grad_(requires_grad=False)


def _tensors(content: object) -> dict[str, Tensor]:
    if not isinstance(content, dict):
        return {}
    return {str(key): value for key, value in content.items() if isinstance(value, Tensor)}


def _convert_to_present_layout(content: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a file of any version with the keys that `save` writes.

    A file of version 0.2 has no key for the kind of model.
    """
    if "arch" not in content or "kind" in content:
        return content
    facts = _dict(content.get("provenance"))
    if "class_names" not in facts:  # version 0.2 did not write nodown and side
        arguments = {"normalization": "model", "nodown": False, "side": None}
        return {"kind": "detector", **arguments, **content}
    settings, names = _dict(facts.get("settings")), facts["class_names"]
    classes = len(names) if isinstance(names, list | tuple) else None
    shape = {key: settings.get(key) for key in ("stem", "size")}
    return {"kind": "classifier", **shape, "classes": classes, **content}


def _dict(value: object) -> dict[str, Any]:
    return dict(value) if isinstance(value, dict) else {}
