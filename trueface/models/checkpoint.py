"""Checkpoints of detectors and of networks of classes; `model_file` describes the file."""

import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from torch import Tensor

from trueface.data.settings import DataSettings, other_decoding
from trueface.models import model_file
from trueface.models.assembly import load_state
from trueface.models.detectors import Classifier, Detector, build_classifier, build_detector
from trueface.models.head import RidgeHead
from trueface.models.model_file import Checkpoint, ModelKind
from trueface.models.registry import ClassifierShape
from trueface.runtime.errors import CheckpointError, WeightsError
from trueface.runtime.files import Json

GIT_TIMEOUT_S = 2.0  # a checkpoint does not wait for a slow network folder
DETECTOR = ModelKind(
    name="detector",
    # of `detectors.build_detector`. side: the only side of images that it takes. None: any
    arguments={"normalization": str, "nodown": bool, "side": int | None},
    title="checkpoint",
    absent="checkpoint {path} does not exist. Train this model first.",
    other_kind="{path} is not a checkpoint of schema {expected}",
    other_schema="{path} is not a checkpoint of schema {expected}",
)
# its messages are the same. Arguments of `ClassifierShape`
CLASSIFIER = replace(
    DETECTOR, name="classifier", arguments={"stem": str, "size": int, "classes": int}
)


def save_model(path: Path, model: Classifier, provenance: Mapping[str, Json]) -> None:
    """Write the parameters of `model` with where they come from."""
    arguments: dict[str, Any]
    if model.shape is None:
        kind = DETECTOR
        arguments = {
            "normalization": model.normalization,
            "nodown": model.nodown,
            "side": model.spec.input_size,
        }
    else:
        kind, arguments = CLASSIFIER, asdict(model.shape)
        del arguments["model"]  # the name of the architecture
    stored = Checkpoint(
        kind=kind.name,
        arch=model.spec.name,
        arguments=arguments,
        state=model.network.state_dict(),
        provenance=provenance,
    )
    model_file.save(path, stored)


def load(path: Path) -> Checkpoint:
    """Read the checkpoint of a detector or of a network of classes; see `model_file.load`."""
    return model_file.load(path, DETECTOR, CLASSIFIER)


def add_reference(path: Path, reference: Mapping[str, Tensor]) -> None:
    """Write into the checkpoint of a training that is done what predictions are compared with."""
    model_file.save(path, replace(model_file.load(path, DETECTOR), reference=reference))


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
    trained = checkpoint.arguments["normalization"]
    if wanted not in {"model", trained}:
        raise CheckpointError(
            f"the base was trained with normalization: {trained}, and this "
            f"training uses {wanted}. Leave the setting out to keep that of the base."
        )


def refuse_other_resolution(checkpoint: Checkpoint, *, nodown: bool) -> None:
    """Refuse `nodown` where a model was trained without it: its layers saw a coarser grid.

    Raises:
        CheckpointError: so it was; without the setting a training goes on as its base was.
    """
    if nodown and not checkpoint.arguments["nodown"]:
        raise CheckpointError(
            f"the base ({checkpoint.arch}) was trained without nodown. Leave the setting out to "
            "keep that of the base."
        )


def load_detector(path: Path, *, arch: str | None = None) -> Detector:
    """Return the model of a checkpoint file, in evaluation mode; see `load` and `from_checkpoint`.

    Args:
        path: of the file.
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
        CheckpointError: it is a classifier's, or another architecture's.
    """
    if checkpoint.kind != DETECTOR.name:
        raise CheckpointError(f"{path} is a {checkpoint.kind}. Give a model of job type train.")
    if arch is not None and checkpoint.arch != arch:
        raise CheckpointError(
            f"checkpoint {path} has model {checkpoint.arch}, but the settings have model {arch}"
        )
    model = build_detector(
        checkpoint.arch,
        weights="none",
        seed=0,
        dropout=dropout,
        channels_last=channels_last,
        **checkpoint.arguments,
    )
    if f"{model.spec.head}.scale" in checkpoint.state:  # any network may have one
        model.replace_head(RidgeHead(model.feature_dim))
    _load_parameters(model, checkpoint, path)
    return model


def classifier_from_checkpoint(
    checkpoint: Checkpoint, path: Path, *, channels_last: bool = True
) -> Classifier:
    """Return the network of K logits of a checkpoint, in evaluation mode.

    Raises:
        CheckpointError: it is a detector's.
    """
    if checkpoint.kind != CLASSIFIER.name:
        raise CheckpointError(f"{path} is a {checkpoint.kind}. Give a model of job type classify.")
    shape = ClassifierShape(model=checkpoint.arch, **checkpoint.arguments)
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
