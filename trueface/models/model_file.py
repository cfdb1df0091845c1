"""The file of a model, the same for all kinds: architecture, weights, and where they come from.

A file contains only plain values and tensors. It is written atomically and read without executing
code (`torch.load(weights_only=True)`). Its keys:

    schema      1
    kind        detector, classifier, diffuser, translator or denoiser
    arch        the architecture: with its arguments, it is enough to build the network again
    state       the weights by name
    provenance  what the weights were made from, as plain values
    reference   further tensors by name, if there are any

Each argument of the architecture is a key, too: `normalization`, `nodown` and `side` of a detector.
Other programs read these keys, which version 0.2 already wrote.

A kind of model declares its arguments as a `ModelKind`, next to the function that builds the model
from a `Checkpoint`. Files of earlier versions are translated in `_in_present_layout`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar

from torch import Tensor, nn

from trueface.models.assembly import load_state
from trueface.runtime import tensor_files
from trueface.runtime.errors import CheckpointError, WeightsError
from trueface.runtime.files import Json

SCHEMA = 1
# keys of every kind, with the types of their values
_PARTS: Mapping[str, type] = {"arch": str, "state": dict, "provenance": dict}
# raised by constructors that get other arguments than their own
_UNFIT = (KeyError, TypeError, ValueError, RuntimeError, WeightsError)

Model = TypeVar("Model")
Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A trained model as stored on disk."""

    kind: str
    arch: str
    arguments: Mapping[str, Any] = field(default_factory=dict)  # of the architecture: plain values
    state: Mapping[str, Tensor]
    provenance: Mapping[str, Json]
    # of a detector: what predictions are compared with, see `prediction.reference`
    reference: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelKind:
    """What files of one kind of model contain, and the messages about them.

    The messages may contain {name}, {path}, {schema} of the file, {expected} and {error}.
    """

    name: str
    stored_as: tuple[str, ...] = ()  # values of the key `kind`. Empty: the name
    arguments: Mapping[str, type | UnionType]  # of the architecture, with the types of their values
    absent: str = "{name} {path} does not exist. Train it first."
    unreadable: str = "{name} {path} cannot be read safely: {error}"
    other_kind: str = "{path} is not a {name}. Give a model of job type {name}."
    other_schema: str = "{path} is a {name} of schema {schema}, expected schema {expected}"
    damaged: str = "{path} is a damaged {name}: {error}"

    def refusal(self, message: str, path: Path, **facts: object) -> CheckpointError:
        """Return the error of a file that cannot be used."""
        return CheckpointError(message.format(name=self.name, path=path, expected=SCHEMA, **facts))


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write a model atomically; folders are made as needed.

    Raises:
        MachineError: it cannot be written. The old file is unchanged.
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


def load(path: Path, kind: ModelKind) -> Checkpoint:
    """Read a model of a kind; nothing in the file is executed.

    Raises:
        CheckpointError: the file is absent, cannot be read, is of another kind or schema, or a part
            is missing or of another type.
    """
    try:
        content = tensor_files.load(path)
    except FileNotFoundError as error:
        raise kind.refusal(kind.absent, path) from error
    except tensor_files.BrokenFileError as error:
        raise kind.refusal(kind.unreadable, path, error=error) from error
    content = _in_present_layout(content) if isinstance(content, dict) else {}
    if content.get("kind") not in (kind.stored_as or (kind.name,)):
        raise kind.refusal(kind.other_kind, path)
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
    """Return the model that `make` builds from the content of a file.

    Raises:
        CheckpointError: arguments or weights do not fit the architecture.
    """
    try:
        return make(checkpoint)
    except _UNFIT as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise kind.refusal(kind.damaged, path, error=reason) from error


def load_frozen(network: Network, state: Mapping[str, Tensor]) -> Network:
    """Load weights into a network; return it in evaluation mode, its weights without gradients.

    Raises:
        WeightsError: a name is missing or unknown, or a shape differs.
    """
    load_state(network, state, "its weights")
    return network.eval().requires_grad_(requires_grad=False)


def _tensors(content: object) -> dict[str, Tensor]:
    if not isinstance(content, dict):
        return {}
    return {str(key): value for key, value in content.items() if isinstance(value, Tensor)}


def _in_present_layout(content: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a file with the keys that `save` writes, whichever version wrote it."""
    network = content.get("network")
    if "kind" not in content and "arch" in content:  # detectors and classifiers, from 0.2 on
        facts = content.get("provenance")
        of_classes = isinstance(facts, dict) and "class_names" in facts
        kind = "classifier" if of_classes else "detector"
        return {"kind": kind, "normalization": "model", "nodown": False, "side": None, **content}
    # models of generators, in development versions of 0.3
    if content.get("kind") == "diffuser" and "arch" not in content and isinstance(network, dict):
        arguments = {key: value for key, value in network.items() if key != "network"}
        return {**content, "arch": network.get("network"), "network": arguments}
    if content.get("what") == "translator":
        return {"kind": "translator", "arch": "stargan", **content}
    if network == "denoiser":
        shape = content.get("shape")
        arguments = shape if isinstance(shape, dict) else {}
        return {"kind": "denoiser", "arch": "residual", **arguments, **content}
    return content
