"""Checkpoints: a model's parameters with all that says where they come from.

A file holds plain values and tensors only, is written whole or not at all, and is read without
executing anything in it (`torch.load(weights_only=True)`).
"""

import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
import torchvision
from torch import Tensor

from trueface.data.settings import DataSettings, other_decoding
from trueface.models.assembly import load_state
from trueface.models.detectors import Classifier, Detector, build_classifier, build_detector
from trueface.models.head import RidgeHead
from trueface.models.registry import ClassifierShape
from trueface.runtime import tensor_files
from trueface.runtime.errors import CheckpointError, WeightsError
from trueface.runtime.files import Json

SCHEMA = 1
GIT_TIMEOUT_S = 2.0  # a checkpoint does not wait for a slow network folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A trained model as stored on disk."""

    arch: str  # of a network, as `registry.spec_of` takes it
    normalization: str = "model"  # of pixels; see `detectors.build_detector`
    nodown: bool = False  # likewise
    side: int | None = None  # the only one of images that it takes, in pixels; None: any
    state: Mapping[str, Tensor]  # torchvision's parameter names
    provenance: Mapping[str, Json]
    # what predictions are compared with, see `prediction.reference`; older ones have nothing
    reference: Mapping[str, Tensor] = field(default_factory=dict)


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint atomically; folders are made as needed."""
    content = {
        "schema": SCHEMA,
        "arch": checkpoint.arch,
        "normalization": checkpoint.normalization,
        "nodown": checkpoint.nodown,
        "side": checkpoint.side,
        "state": {
            name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.state.items()
        },
        "provenance": dict(checkpoint.provenance),
        **({"reference": dict(checkpoint.reference)} if checkpoint.reference else {}),
    }
    tensor_files.save(path, content)


def save_model(path: Path, model: Classifier, provenance: Mapping[str, Json]) -> None:
    """Write the parameters of `model` with where they come from."""
    state = model.network.state_dict()
    kept = Checkpoint(
        arch=model.spec.name,
        normalization=model.normalization,
        nodown=model.nodown,
        side=model.spec.input_size,
        state=state,
        provenance=provenance,
    )
    save(path, kept)


def load(path: Path) -> Checkpoint:
    """Read a checkpoint; nothing in the file is executed.

    Raises:
        CheckpointError: absent, cut off, not ours, or holding more than plain values.
    """
    content = tensor_files.load_model(
        path,
        absent="checkpoint {path} does not exist. Train this model first.",
        unreadable="checkpoint {path} cannot be read safely: {error}",
    )
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise CheckpointError(f"{path} is not a checkpoint of schema {SCHEMA}")
    shapes = {"arch": str, "state": dict, "provenance": dict}
    tensor_files.refuse_broken(content, path, "checkpoint", shapes)
    return Checkpoint(
        arch=content["arch"],
        normalization=content.get("normalization", "model"),
        nodown=content.get("nodown", False),
        side=content.get("side"),
        state=content["state"],
        provenance=content["provenance"],
        reference=_tensors(content.get("reference")),
    )


def add_reference(path: Path, reference: Mapping[str, Tensor]) -> None:
    """Write into the checkpoint of a training that is done what predictions are compared with."""
    save(path, replace(load(path), reference=reference))


def _tensors(content: object) -> dict[str, Tensor]:
    if not isinstance(content, dict):
        return {}
    return {str(key): value for key, value in content.items() if isinstance(value, Tensor)}


def refuse_other_decoding(checkpoint: Checkpoint, settings: DataSettings) -> None:
    """Refuse a model that was trained on images that were decoded in another way.

    The traces that a detector uses are in the difference between the two.

    Raises:
        CheckpointError: the decoding differs.
    """
    trained = checkpoint.provenance.get("settings")
    differs = other_decoding(trained if isinstance(trained, dict) else {}, settings.model_dump())
    if differs:
        raise CheckpointError(
            f"the model was trained with {differs}. Use the same value in training and test."
        )


def refuse_other_normalization(checkpoint: Checkpoint, wanted: str) -> None:
    """Refuse to go on from a model whose weights want other pixels than a person asks for.

    Raises:
        CheckpointError: so it is; "model" asks for nothing.
    """
    if wanted not in {"model", checkpoint.normalization}:
        raise CheckpointError(
            f"the base was trained with normalization: {checkpoint.normalization}, and this "
            f"training uses {wanted}. Leave the setting out to keep that of the base."
        )


def refuse_other_resolution(checkpoint: Checkpoint, *, nodown: bool) -> None:
    """Refuse `nodown` where a model was trained without it: its layers saw a coarser grid.

    Raises:
        CheckpointError: so it was; without the setting a training goes on as its base was.
    """
    if nodown and not checkpoint.nodown:
        raise CheckpointError(
            f"the base ({checkpoint.arch}) was trained without nodown. Leave the setting out to "
            "keep that of the base."
        )


def load_detector(path: Path, *, arch: str | None = None) -> Detector:
    """Return the model of a checkpoint file, in evaluation mode; see `load` and `from_checkpoint`.

    Args:
        path: a file written by `save`.
        arch: the architecture that is expected; None takes any.

    Raises:
        CheckpointError: the file cannot be read, or is another architecture's.
    """
    return from_checkpoint(load(path), path, arch=arch)


def from_checkpoint(
    checkpoint: Checkpoint,
    path: Path,
    *,
    arch: str | None = None,
    dropout: float = 0.0,
    channels_last: bool = True,
) -> Detector:
    """Return the model of a checkpoint, in evaluation mode.

    Args:
        checkpoint: as read.
        path: for messages.
        arch: the architecture that is expected; None takes any.
        dropout: before the last layer, when the model is trained on.
        channels_last: memory format.

    Raises:
        CheckpointError: it is another architecture's.
    """
    if arch is not None and checkpoint.arch != arch:
        raise CheckpointError(
            f"checkpoint {path} has model {checkpoint.arch}, but the settings have model {arch}"
        )
    model = build_detector(
        checkpoint.arch,
        weights="none",
        seed=0,
        dropout=dropout,
        normalization=checkpoint.normalization,
        channels_last=channels_last,
        nodown=checkpoint.nodown,
        side=checkpoint.side,
    )
    if f"{model.spec.head}.scale" in checkpoint.state:  # any network may have one
        model.replace_head(RidgeHead(model.feature_dim))
    _load_parameters(model, checkpoint, path)
    return model


def classifier_from_checkpoint(
    checkpoint: Checkpoint, path: Path, shape: ClassifierShape, *, channels_last: bool = True
) -> Classifier:
    """Return the network of K logits of a checkpoint, in evaluation mode.

    Raises:
        CheckpointError: it is another network's.
    """
    if checkpoint.arch != shape.model:
        raise CheckpointError(
            f"checkpoint {path} has model {checkpoint.arch}, expected {shape.model}"
        )
    model = build_classifier(shape, seed=0, channels_last=channels_last)
    _load_parameters(model, checkpoint, path)
    return model


def _load_parameters(model: Classifier, checkpoint: Checkpoint, path: Path) -> None:
    try:
        load_state(model.network, checkpoint.state, f"the parameters of checkpoint {path}")
    except WeightsError as error:
        raise CheckpointError(str(error)) from error


def has_constant_body(checkpoint: Checkpoint) -> bool:
    """Return whether only the last layer learned, so that others share its features."""
    trained = checkpoint.provenance.get("settings")
    if not isinstance(trained, Mapping):
        return False
    return trained.get("freeze") is True and trained.get("freeze_bn", True) is True


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
    """Return the commit of `folder`, with "+" if files differ, or None outside git."""
    command = ["git", "-C", str(folder), "describe", "--always", "--abbrev=40", "--dirty=+"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=GIT_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
