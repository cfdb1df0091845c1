"""What a training starts from: the weights of another model, or new ones; and what is written of that."""

from dataclasses import dataclass
from pathlib import Path

from trueface.models import assembly, checkpoint, detectors
from trueface.models.detectors import Classifier, Detector
from trueface.runtime import paths
from trueface.runtime.errors import JobError
from trueface.runtime.files import Json, file_sha256, read_json
from trueface.training import checkpointing
from trueface.training.settings import LearningSettings, TrainSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What a training starts from."""

    model: str | None  # ID of the model whose weights it takes; None: a new one
    folder: Path | None  # of that model
    weights: str  # of a new one: default, none, or the absolute path of a state dict
    own: bool = False  # they are the earlier weights of the model that it makes


def load_start(start: Start, settings: LearningSettings, device: str) -> Detector:
    """Return the model that a training starts from, on a device.

    Raises:
        CheckpointError: the base cannot be read, or is of another architecture.
        WeightsError: pretrained weights cannot be had.
    """
    if start.folder is None:
        model = detectors.build(
            settings.model,
            weights=start.weights,
            seed=settings.seed,
            dropout=settings.dropout,
            normalization=settings.normalization,
            channels_last=settings.channels_last,
            nodown=settings.nodown,
            side=settings.patch_size if settings.patch_size > 0 else settings.resize_size,
        )
        return model.to(device)
    path = paths.checkpoint(start.folder)
    base = checkpoint.load(path)
    checkpoint.refuse_other_decoding(base, settings)
    checkpoint.refuse_other_normalization(base, settings.normalization)
    checkpoint.refuse_other_resolution(base, nodown=settings.nodown)
    model = checkpoint.revive(
        base,
        path,
        arch=settings.model,
        dropout=settings.dropout,
        channels_last=settings.channels_last,
    )
    return model.to(device)


def load_optimizer_state(
    start: Start, settings: TrainSettings
) -> checkpointing.OptimizerState | None:
    """Return the state of the optimizer that made the weights of a start; None: a fresh one.

    Raises:
        JobError: there is nothing to start from.
        CheckpointError: the base's state is not there, or cannot be read.
    """
    if settings.optimizer_state == "fresh":
        return None
    if start.folder is None:
        raise JobError("optimizer_state: kept needs a model to start from, and there is none")
    path = paths.optimizer(start.folder)
    if start.own and not path.exists():  # an earlier run did not keep its own
        return None
    return checkpointing.load_optimizer(path).state


def of_start(
    start: Start, settings: LearningSettings, *, optimizer: bool = False
) -> dict[str, Json]:
    """Return what a training starts from, with checksums.

    Args:
        start: the model whose weights it starts from, or the weights of a new one.
        settings: of the training.
        optimizer: it goes on with the state of that model's optimizer, too.
    """
    facts: dict[str, Json] = {
        "started_from": start.model, "weights_sha256": None, "start_sha256": None,
    }  # fmt: skip
    if start.folder is None:
        sha256 = assembly.weights_sha256(settings.model, start.weights)
        facts["weights_sha256"] = facts["start_sha256"] = sha256
    elif not start.own:  # its own weights are those that the training is about to replace
        facts["start_sha256"] = file_sha256(paths.checkpoint(start.folder))
        if optimizer:
            facts["optimizer_sha256"] = file_sha256(paths.optimizer(start.folder))
    return facts


def of_network(model: Classifier, start: Start) -> dict[str, Json]:
    """Return which library made a network, and the licence of its published weights, where there are.

    A model that starts from another one is bound by the licence that the other's provenance names.
    """
    licence: Json = model.spec.licence if start.weights != "none" else ""
    if start.folder is not None:
        licence = (read_json(paths.provenance(start.folder)) or {}).get("weights_licence")
    facts = {"library": model.spec.library, "weights_licence": licence}
    return {name: value for name, value in facts.items() if value}
