"""Diffusers as files: plain values and tensors, written whole or not at all, read without executing anything."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import Tensor

from trueface.diffusion.diffuser import Diffuser, make_schedule
from trueface.diffusion.networks import EpsNetwork, NetworkShape, build_network
from trueface.runtime import tensor_files
from trueface.runtime.errors import CheckpointError
from trueface.runtime.files import Json

SCHEMA = 1
KIND = "diffuser"
STABLE = "trueface.diffusion.stable"  # builds the network of a Stable Diffusion
# what a file must hold, and of which type
_PARTS: Mapping[str, type] = {
    "network": dict, "schedule": dict, "state": dict, "provenance": dict, "prediction": str,
    "t_max": int, "size": int, "channels": int, "class_names": list, "has_null": bool,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptDiffuser:
    """A diffuser as it lies on disk, and where it comes from."""

    diffuser: Diffuser
    provenance: Mapping[str, Json] = field(default_factory=dict)


def save_diffuser(path: Path, diffuser: Diffuser, provenance: Mapping[str, Json]) -> None:
    """Write a diffuser atomically; folders are made as needed.

    Raises:
        MachineError: it cannot be written.
    """
    schedule = diffuser.schedule
    content: dict[str, Any] = {
        "schema": SCHEMA,
        "kind": KIND,
        "network": diffuser.network.facts(),
        "schedule": {
            "name": schedule.name,
            "steps": schedule.steps,
            "beta_start": schedule.beta_start,
            "beta_end": schedule.beta_end,
        },
        "prediction": diffuser.prediction,
        "t_max": diffuser.t_max,
        "size": diffuser.size,
        "channels": diffuser.channels,
        "class_names": list(diffuser.class_names),
        "has_null": diffuser.has_null,
        "state": tensor_files.weights_of(diffuser.network),
        "provenance": dict(provenance),
    }
    tensor_files.save(path, content)


def load_diffuser(path: Path, device: str = "cpu") -> Diffuser:
    """Return the diffuser of a file, in evaluation mode, its weights without gradients; see `read_diffuser`."""
    return read_diffuser(path, device).diffuser


def read_diffuser(path: Path, device: str = "cpu") -> KeptDiffuser:
    """Read a diffuser and where it comes from.

    Raises:
        CheckpointError: the file is absent, cut off, or no diffuser of ours.
    """
    content = tensor_files.load_model(
        path,
        absent="no diffuser {path}; train it first",
        unreadable="diffuser {path} cannot be read safely: {error}",
    )
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise CheckpointError(f"{path} is no diffuser: it is a model of another kind of job")
    if content.get("schema") != SCHEMA:
        raise CheckpointError(
            f"{path} is a diffuser of schema {content.get('schema')}, not {SCHEMA}"
        )
    tensor_files.refuse_broken(content, path, "diffuser", _PARTS)
    try:
        network = _rebuilt(content["network"])
        diffuser = Diffuser(
            network=network,
            schedule=make_schedule(**content["schedule"]),
            prediction=content["prediction"],
            t_max=content["t_max"],
            size=content["size"],
            channels=content["channels"],
            class_names=tuple(content["class_names"]),
            has_null=content["has_null"],
        )
    except (TypeError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} is a broken diffuser: {error}") from error
    _fill(network, content["state"], path)
    network.eval().requires_grad_(requires_grad=False)
    return KeptDiffuser(diffuser=diffuser.to(device), provenance=content["provenance"])


def _rebuilt(facts: Mapping[str, Any]) -> EpsNetwork:
    """Return a network of untrained weights, from what `EpsNetwork.facts` says of it."""
    if facts["network"] == "stable":  # needs an extra, which few have
        network: EpsNetwork = import_module(STABLE).rebuild(facts)
        return network
    return build_network(NetworkShape(**{**facts, "widths": tuple(facts["widths"])}))


def _fill(network: EpsNetwork, state: Mapping[str, Tensor], path: Path) -> None:
    try:
        network.load_state_dict(dict(state))
    except RuntimeError as error:
        raise CheckpointError(
            f"{path} is a broken diffuser: its weights do not fit its network"
        ) from error
