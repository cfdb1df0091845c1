"""Checkpoints of detectors and classifiers. See `model_file` for the format of the file."""

import logging
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

from trueface.data.loading.preprocessing import Preprocessing
from trueface.data.settings import DataSettings, other_decoding, resized_base
from trueface.models import model_file
from trueface.models.assembly import load_state
from trueface.models.detectors import Classifier, Detector, build_classifier, build_detector
from trueface.models.head import RidgeHead
from trueface.models.model_file import Checkpoint, ModelKind
from trueface.models.registry import ClassifierShape
from trueface.runtime.errors import CheckpointError, WeightsError
from trueface.runtime.files import Json

log = logging.getLogger(__name__)
GIT_TIMEOUT_S = 2.0  # seconds; git can be slow in a network folder, and saving must not wait for it
REVISION = "network_revision"  # in the provenance, of networks whose code has changed its results
DETECTOR = ModelKind(
    name="detector",
    # arguments of `detectors.build_detector`; side: required side of images in pixels, None if any
    arguments={"normalization": str, "nodown": bool, "side": int | None},
    title="checkpoint",
    absent="checkpoint {path} does not exist. Train this model first.",
    other_kind="{path} is not a checkpoint of schema {expected}",
    other_schema="{path} is not a checkpoint of schema {expected}",
)
# the messages are those of detectors; the arguments are those of `ClassifierShape`
CLASSIFIER = replace(
    DETECTOR, name="classifier", arguments={"stem": str, "size": int, "classes": int}
)


def save_model(path: Path, model: Classifier, provenance: Mapping[str, Json]) -> None:
    """Write the parameters and the provenance of `model`."""
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
    if model.spec.revision:
        provenance = {**provenance, REVISION: model.spec.revision}
    stored = Checkpoint(
        kind=kind.name,
        arch=model.spec.name,
        arguments=arguments,
        state=model.network.state_dict(),
        provenance=provenance,
    )
    model_file.save(path, stored)


def load(path: Path) -> Checkpoint:
    """Read the checkpoint of a detector or classifier. See `model_file.load` for errors."""
    return model_file.load(path, DETECTOR, CLASSIFIER)


def add_reference(path: Path, reference: Mapping[str, Tensor]) -> None:
    """Add the reference that predictions are compared with to the checkpoint of a finished training."""
    model_file.save(path, replace(model_file.load(path, DETECTOR), reference=reference))


def refuse_other_decoding(checkpoint: Checkpoint, settings: DataSettings) -> None:
    """Refuse a model that was trained on images from another decoder.

    A detector relies on traces that differ between decoders. A published model has its own resizing instead.

    Raises:
        CheckpointError: the decoding differs.
    """
    trained = checkpoint.provenance.get("settings")
    differs = other_decoding(trained if isinstance(trained, dict) else {}, settings.model_dump())
    if differs:
        raise CheckpointError(
            f"the model was trained with {differs}. Use the same value in training and test."
        )


def refuse_other_normalization(checkpoint: Checkpoint, normalization: str) -> None:
    """Refuse a base model that was trained with another normalization than `normalization`.

    Raises:
        CheckpointError: the normalizations differ. "model" accepts any.
    """
    trained = checkpoint.arguments["normalization"]
    if normalization not in {"model", trained}:
        raise CheckpointError(
            f"the base was trained with normalization: {trained}, and this "
            f"training uses {normalization}. Leave the setting out to keep that of the base."
        )


def refuse_other_preprocessing(checkpoint: Checkpoint, settings: DataSettings, crop: int) -> None:
    """Refuse a base that others published with another resizing, and log what else differs.

    Args:
        checkpoint: the base model.
        settings: how the training reads images.
        crop: side length of the training's centre crop, in pixels.

    Raises:
        CheckpointError: the published preprocessing resizes images, and the training does not.
    """
    published, model = Preprocessing.read(checkpoint.provenance), checkpoint.provenance.get("model")
    if published is None:
        return
    if reason := resized_base(str(model), published.json_record, settings.model_dump()):
        raise CheckpointError(reason)
    if published.resize:
        log.warning(
            "base=%s state=trains with decode: fitted, whose filter is not %s%s",
            model,
            published.interpolation,
            ", and without squash" if published.squash else "",
        )
    if published.crop != crop:
        log.warning(
            "base=%s crop=%d state=trains with resize_size: %d, unlike the base",
            model,
            published.crop,
            crop,
        )


def refuse_other_resolution(checkpoint: Checkpoint, *, nodown: bool) -> None:
    """Refuse `nodown` for a base model that was trained without it, at a lower resolution.

    Raises:
        CheckpointError: `nodown` is set and the base was trained without it.
    """
    if nodown and not checkpoint.arguments["nodown"]:
        raise CheckpointError(
            f"the base ({checkpoint.arch}) was trained without nodown. Leave the setting out to "
            "keep that of the base."
        )


def load_detector(path: Path, *, arch: str | None = None) -> Detector:
    """Return the model of a checkpoint file, in evaluation mode; see `load` and `from_checkpoint`.

    Args:
        path: path of the file.
        arch: expected architecture. None accepts any.

    Raises:
        CheckpointError: the file cannot be read, or has another architecture.
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
        checkpoint: content of the checkpoint file.
        path: path of the file, for messages.
        arch: expected architecture. None accepts any.
        dropout: dropout probability before the last layer, for further training.
        channels_last: whether the memory format is channels_last.

    Raises:
        CheckpointError: the checkpoint is of a classifier, or has another architecture.
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
    # any architecture with a last layer may have a ridge head
    if model.has_head and f"{model.spec.head}.scale" in checkpoint.state:
        model.replace_head(RidgeHead(model.feature_dim))
    _load_parameters(model, checkpoint, path)
    if model.spec.revision and checkpoint.provenance.get(REVISION) != model.spec.revision:
        log.warning(
            "checkpoint=%s state=made before %r, so its predictions differ from those of its training. Train it again.",
            path, model.spec.revision,
        )  # fmt: skip
    return model


def classifier_from_checkpoint(
    checkpoint: Checkpoint, path: Path, *, channels_last: bool = True
) -> Classifier:
    """Return the classifier with K logits of a checkpoint, in evaluation mode.

    Raises:
        CheckpointError: the checkpoint is of a detector.
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
    """Return whether the backbone was frozen, so that its features are shared with other models."""
    trained = checkpoint.provenance.get("settings")
    if not isinstance(trained, Mapping):
        return False
    return trained.get("freeze") is True and trained.get("freeze_bn", True) is True


def versions() -> dict[str, Json]:
    """Return the versions of the software that computed a checkpoint, and the type of the machine."""
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
