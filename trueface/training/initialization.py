"""What a training starts from: a model of an earlier one, or a new one."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from trueface.models import checkpoint, detectors, pretrained
from trueface.models.detectors import Detector
from trueface.runtime import paths
from trueface.runtime.errors import JobError
from trueface.training import optimizer_state
from trueface.training.settings import LearningSettings, TrainSettings

OWN_WEIGHTS = ("default", "none")  # others are files


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What a training starts from."""

    model: str | None  # ID of the model whose weights it takes; None: a new one
    folder: Path | None  # of that model
    weights: str  # of a new one: default, none, or the absolute path of a state dict
    own: bool = False  # they are the earlier weights of the model that it makes

    @classmethod
    def of(
        cls,
        settings: LearningSettings,
        base: str | None,
        *,
        path: Callable[[str], Path],
        model_folder: Callable[[str], Path],
    ) -> "Start":
        """Return the start from a base, or anew; the functions give absolute paths."""
        weights = pretrained.chosen_weights(settings.weights, os.environ)
        return cls(
            model=base,
            folder=None if base is None else model_folder(base),
            weights=weights if weights in OWN_WEIGHTS else str(path(weights)),
        )


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


def load_optimizer_state(start: Start, settings: TrainSettings) -> optimizer_state.State | None:
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
    return optimizer_state.load(path).state
