"""Checkpoints: a model's parameters with all that says where they come from.

A file holds plain values and tensors only, is written whole or not at all, and is read without
executing anything in it (`torch.load(weights_only=True)`).
"""

import io
import pickle
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torchvision
from torch import Tensor

from launcher.api import Json, write_atomic
from trueface.errors import CheckpointError, WeightsError
from trueface.models import Detector, build, load_state

SCHEMA = 1
GIT_TIMEOUT_S = 2.0  # a checkpoint does not wait for a slow network folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A trained model as it lies on disk."""

    arch: str  # a key of `models.FAMILY`
    state: Mapping[str, Tensor]  # torchvision's parameter names
    provenance: Mapping[str, Json]


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint atomically; folders are made as needed."""
    content = {
        "schema": SCHEMA,
        "arch": checkpoint.arch,
        "state": {
            name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.state.items()
        },
        "provenance": dict(checkpoint.provenance),
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, buffer.getvalue())


def save_model(path: Path, model: Detector, provenance: Mapping[str, Json]) -> None:
    """Write the parameters of `model` with where they come from."""
    state = model.network.state_dict()
    save(path, Checkpoint(arch=model.spec.name, state=state, provenance=provenance))


def load(path: Path) -> Checkpoint:
    """Read a checkpoint; nothing in the file is executed.

    Raises:
        CheckpointError: absent, cut off, not ours, or holding more than plain values.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"no checkpoint {path}; train this model first") from error
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"checkpoint {path} cannot be read safely: {reason}") from error
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise CheckpointError(f"{path} is no checkpoint of schema {SCHEMA}")
    return Checkpoint(
        arch=content["arch"],
        state=content["state"],
        provenance=content["provenance"],
    )


def restore(path: Path, *, arch: str | None = None, dropout: float = 0.0) -> Detector:
    """Return the model of a checkpoint, in evaluation mode.

    Args:
        path: a file written by `save`.
        arch: the architecture that is expected; None takes any.
        dropout: before the last layer, when the model is trained on.

    Raises:
        CheckpointError: the file cannot be read, or is another architecture's.
    """
    checkpoint = load(path)
    if arch is not None and checkpoint.arch != arch:
        raise CheckpointError(
            f"checkpoint {path} is a {checkpoint.arch}, but the settings say model {arch}"
        )
    model = build(checkpoint.arch, weights="none", seed=0, dropout=dropout)
    try:
        load_state(model.network, checkpoint.state, f"the parameters of checkpoint {path}")
    except WeightsError as error:
        raise CheckpointError(str(error)) from error
    return model


def versions() -> dict[str, Json]:
    """Return the versions of everything whose arithmetic is in a checkpoint."""
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "torchvision": str(torchvision.__version__),
        "numpy": np.__version__,
        "machine": platform.machine(),
    }


def git_commit(folder: Path) -> str | None:
    """Return the commit that `folder` stands at, "+" added when files differ; None outside git."""
    command = ["git", "-C", str(folder), "describe", "--always", "--abbrev=40", "--dirty=+"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=GIT_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
