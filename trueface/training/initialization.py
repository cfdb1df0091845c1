"""What a training starts from: a model of an earlier one, or a new one."""

import os

from launcher.api import Job
from trueface.models import checkpoint, detectors, pretrained
from trueface.models.detectors import Detector
from trueface.runtime import paths
from trueface.runtime.errors import JobError
from trueface.training import optimizer_state
from trueface.training.settings import LearningSettings, TrainSettings


def origin(job: Job, settings: TrainSettings) -> str | None:
    """Return the model whose weights a training starts from: itself, another one, or none."""
    if not settings.warm_start or job.model is None:
        return job.base
    own = paths.checkpoint(job.model_folder(job.model))
    return job.model if own.exists() else job.base


def state_of(job: Job, settings: TrainSettings, origin: str | None) -> optimizer_state.State | None:
    """Return the state of the optimizer that made the weights of `origin`, where it shall be kept.

    Raises:
        JobError: there is nothing to start from.
        CheckpointError: the base's state is not there, or cannot be read.
    """
    if settings.optimizer_state == "fresh":
        return None
    if origin is None:
        raise JobError("optimizer_state: kept needs a model to start from, and there is none")
    path = paths.optimizer(job.model_folder(origin))
    if origin == job.model and not path.exists():  # an earlier run did not keep its own
        return None
    return optimizer_state.load(path).state


def start(job: Job, settings: LearningSettings, base: str | None) -> Detector:
    """Return the model that a training starts from: that of `base`, or a new one.

    Raises:
        CheckpointError: the base cannot be read, or is of another architecture.
        WeightsError: pretrained weights cannot be had.
    """
    if base is not None:
        path = paths.checkpoint(job.model_folder(base))
        kept = checkpoint.load(path)
        checkpoint.refuse_other_decoding(kept, settings)
        checkpoint.refuse_other_normalization(kept, settings.normalization)
        model = checkpoint.revive(
            kept,
            path,
            arch=settings.model,
            dropout=settings.dropout,
            channels_last=settings.channels_last,
        )
        return model.to(job.device)
    weights = pretrained.chosen_weights(settings.weights, os.environ)
    if weights not in {"default", "none"}:
        weights = str(job.path(weights))
    model = detectors.build(
        settings.model,
        weights=weights,
        seed=settings.seed,
        dropout=settings.dropout,
        normalization=settings.normalization,
        channels_last=settings.channels_last,
    )
    return model.to(job.device)
