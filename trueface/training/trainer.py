"""Training for any number of classes: epochs of steps, validation, and selected weights.

Detectors and class networks differ only in data: objective, optimizer and schedule (`config`), and
the loaders. Validation uses the test transform and is never poisoned. A fine-tuning starts with its
own learning rate, and with a fresh optimizer unless it gets the state of its base. A killed
training resumes at its last state.

A two-layer head contains mean and deviation of its features. They are computed once, in a pass over
the training images before the first step. A fine-tuning keeps those of its base. Each rank of a
group sums its part.
"""

import copy
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from trueface.data.batch import Batch, BatchLoader
from trueface.evaluation.operating_threshold import Calibration, fit_calibration
from trueface.evaluation.prediction_rows import predict_rows, sort_rows
from trueface.models.detectors import Detector
from trueface.models.head import MlpHead
from trueface.prediction.reference import FeatureDistance
from trueface.predictions.cross_entropy import mean_cross_entropy
from trueface.predictions.predictions import Predictions
from trueface.runtime import paths
from trueface.runtime.errors import JobError
from trueface.runtime.files import Json
from trueface.runtime.progress import RunContext
from trueface.runtime.timer import now
from trueface.training import checkpointing
from trueface.training.cells import subgroup_ids, worst_subgroup_accuracy
from trueface.training.checkpointing import (
    BEST,
    LAST,
    CheckpointCallback,
    TrainerState,
    TrainingFingerprint,
    clear_event_files,
    log_to_tensorboard,
)
from trueface.training.config import DEMOGRAPHIC, WORST_CELL, TrainerConfig
from trueface.training.distributed import SINGLE_PROCESS, ProcessGroup
from trueface.training.history import Epoch, epochs_without_progress
from trueface.training.loop import Loop, RunningMetrics
from trueface.training.objectives.protocol import Objective, logits_of
from trueface.training.objectives.registry import make_objective
from trueface.training.optimizer_state import OptimizerState, network_of

FEATURES = 2  # dimensions of a batch that holds features in the place of pixels
log = logging.getLogger(__name__)
# history, "best" or "last" or None, the model to keep, and a function that copies the optimizer's state
AfterEpoch = Callable[[Sequence[Epoch], str | None, nn.Module, Callable[[], OptimizerState]], None]


def standardise(
    model: nn.Module, training: BatchLoader, watch: RunContext, group: ProcessGroup = SINGLE_PROCESS
) -> None:
    """Store mean and deviation of the features in the last layer of `model`, if it standardises features.

    Nothing is done if the layer has them already, or if the training was stopped meanwhile.

    Args:
        model: on the device of `watch`.
        training: loader whose first pass is read.
        watch: device and stop.
        group: processes that share each batch.

    Raises:
        DataError: not one image could be read.
    """
    if isinstance(model, Detector) and not model.has_head:
        return
    head = model.head if isinstance(model, Detector) else model
    if not isinstance(head, MlpHead) or head.is_standardised:
        return
    model.eval()
    sums = torch.zeros(2, head.in_features, dtype=torch.float64)
    rows = 0
    for part in group.iter_rank_batches(training(0)):
        if group.any(flag=watch.stop.is_set()):
            return
        if len(part.batch.labels):
            features = _features(model, part.batch.inputs.to(watch.device)).double().cpu()
            sums += torch.stack([features.sum(0), features.square().sum(0)])
            rows += len(features)
    every = group.gather(torch.cat([sums.flatten(), torch.tensor([float(rows)])])[None]).sum(0)
    rows = int(every[-1])
    if rows:
        added, squared = every[:-1].to(watch.device).chunk(2)
        head.standardise(added, squared, rows)
        log.info("state=features standardised images=%d features=%d", rows, head.in_features)


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """The validation result that selects between epochs. Accuracies are in 0 … 1."""

    loss: float  # cross-entropy, whatever the objective is
    accuracy: float
    balanced_accuracy: float | None  # mean over classes; None: a detector saw one class only
    calibration: Calibration | None = None  # a detector's; None: there are several classes
    predictions: Predictions | None = None  # a detector's, of the same pass
    worst_cell: float | None = None  # accuracy of the worst group × class; None: not asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingResult:
    """The result of a training. Its model has the weights of `chosen`."""

    epochs: tuple[Epoch, ...]
    chosen: Epoch
    seconds: float
    samples_read: int  # images, those of validation not counted
    # predictions of the chosen weights; None: they were chosen before an interruption, or are of classes
    val_predictions: Predictions | None = None
    features: FeatureDistance | None = None  # a fit in closed form has the features at hand
    notes: Mapping[str, Json] = field(default_factory=dict)  # notes of the objective
    # launch of the steps; empty with `accelerate: off`
    acceleration: Mapping[str, Json] = field(default_factory=dict)


class ResumeOptions(NamedTuple):
    """The options for saving the state of a running training, and its initial state."""

    resume_from_state: TrainerState | None = None
    every: int = 0  # batches; 0: after epochs only
    start: Mapping[str, Json] = MappingProxyType({})  # facts about its start
    pause: Callable[[TrainerState], None] | None = None  # None: it is not saved


def train(
    model: Detector,
    training: BatchLoader,
    validation: BatchLoader,
    checkpoint_callback: CheckpointCallback,
    *,
    watch: RunContext,
    objective: Objective | None = None,
    state: OptimizerState | None = None,
    group: ProcessGroup = SINGLE_PROCESS,
) -> TrainingResult:
    """Train `model` in place, and write checkpoints/best.pt and history.csv to its folder.

    Both files are complete after every epoch, and so is checkpoints/optimizer.pt if the optimizer's
    state is kept. It belongs to the same epoch as the weights. A stopped training writes its
    weights to checkpoints/last.pt. A training that ends early in any other way leaves
    checkpoints/resume.pt, from which it resumes. The caller removes that file after storing the
    result. Each process of a `group` trains the same model, and only the first writes files. `checkpoint_callback`
    selects the files, and identifies this training.

    Raises:
        JobError: stopped, or loss or gradients are not finite.
    """
    settings, folder, started = (
        checkpoint_callback.settings,
        checkpoint_callback.folder,
        checkpoint_callback.provenance,
    )
    made_of = {**started, **checkpoint_callback.facts()}
    claim = TrainingFingerprint.from_provenance(
        made_of, settings.neutral_to_results, checkpoint_callback.identity
    )
    begun = (
        checkpointing.find_trainer_state(paths.resume(folder), claim, group)
        if settings.resume
        else None
    )
    if begun is None and group.is_first:
        # whatever comes next replaces the weights that another training's state belongs to
        checkpointing.clear_trainer_state(paths.resume(folder))
        clear_event_files(folder)
    elif begun is not None:
        started = {**started, **begun.start, "resumed": [dict(note) for note in begun.resumed]}
        checkpoint_callback = replace(
            checkpoint_callback, provenance=started, further=begun.chosen is not None
        )
    saving = ResumeOptions(
        resume_from_state=begun,
        every=settings.checkpoint_every,
        start={key: started[key] for key in checkpointing.START if key in started},
        pause=partial(checkpointing.save_trainer_state, paths.resume(folder), claim)
        if group.is_first
        else lambda _: None,
    )
    read = 0 if begun is None else int(begun.steps["images_read"])
    logs_events = settings.tensorboard and group.is_first
    with log_to_tensorboard(watch, folder, is_on=logs_events, images_read=read) as logged_watch:
        trained = fit(
            model,
            training,
            validation,
            settings.trainer,
            watch=logged_watch,
            objective=objective,
            after_epoch=checkpoint_callback
            if group.is_first
            else lambda *_: checkpoint_callback.before_save(),
            state=state,
            saving=saving,
            group=group,
        )
    if begun is not None and group.is_first:
        checkpoint_callback.confirm(trained.epochs, trained.chosen, model)
    return trained


def fit(
    model: nn.Module,
    training: BatchLoader,
    validation: BatchLoader,
    config: TrainerConfig,
    *,
    watch: RunContext,
    objective: Objective | None = None,
    after_epoch: AfterEpoch = lambda *_: None,
    state: OptimizerState | None = None,
    saving: ResumeOptions | None = None,
    group: ProcessGroup = SINGLE_PROCESS,
) -> TrainingResult:
    """Train `model` in place. It ends with the weights of the chosen epoch.

    Args:
        model: with the initial weights.
        training: shuffled and augmented, with training labels.
        validation: in order, not augmented, true labels.
        config: optimizer, schedule, trainable layers, and the selection of the epoch.
        watch: device, progress, stop. The precision is that of `config`.
        objective: minimised. None: the one that `config` names.
        after_epoch: called with the history, a name, the model to keep, and a function that returns a
            copy of the optimizer's state. The name is "best" if this epoch is the best so far, "last" if
            the training was stopped.
        state: of the optimizer that trained `model` before. None: a fresh optimizer.
        saving: options for resuming an interrupted training. None disables it.
        group: the processes that share each batch. All of them end with the same weights.

    Raises:
        JobError: stopped, or loss or gradients are not finite.
        UnknownName: no such objective.
    """
    model.to(watch.device)
    with group.sync_batch_layers(model):
        loop = Loop(
            model,
            training,
            objective or make_objective(config.objective),
            config=config,
            watch=watch,
            state=state or {},
            group=group,
        )
        course = _EpochRunner(loop, saving or ResumeOptions(), after_epoch)
        standardise(model, training, watch, group)
        try:
            while len(course.history) < config.num_epochs and not course.is_finished:
                course.epoch(validation)
        finally:
            loop.steps.release()
    if course.chosen is None:
        raise ValueError(f"num_epochs must be at least 1, got {config.num_epochs}")
    network_of(model).load_state_dict(dict(course.weights))
    model.eval()
    return TrainingResult(
        epochs=tuple(course.history),
        chosen=course.chosen,
        seconds=course.seconds,
        samples_read=loop.images_read,
        val_predictions=course.predictions,
        notes=loop.objective.notes(),
        acceleration=loop.steps.ran,
    )


class _EpochRunner:
    """The epochs of a training: done, chosen, kept."""

    def __init__(self, loop: Loop, saving: ResumeOptions, after_epoch: AfterEpoch) -> None:
        self._loop, self._saving, self._after_epoch = loop, saving, after_epoch
        self._started, self._earlier = now(), 0.0
        self._sums: RunningMetrics | None = None  # metrics of an epoch that was interrupted
        self.history: list[Epoch] = []
        self.chosen: Epoch | None = None
        self.weights: Mapping[str, Tensor] = {}
        self.predictions: Predictions | None = None  # predictions of these weights
        if saving.resume_from_state is not None:
            self._restore(saving.resume_from_state)

    @property
    def seconds(self) -> float:
        """How long it took, interruptions not counted."""
        return self._earlier + now() - self._started

    @property
    def is_finished(self) -> bool:
        """Whether more epochs would change nothing, or are not wanted."""
        patience = self._loop.config.early_stop
        stalled = 0 < patience <= epochs_without_progress(self.history)
        return stalled or self._loop.schedule.is_finished

    def epoch(self, validation: BatchLoader) -> None:
        """Go through one epoch, or the rest of one; choose, keep, and save the state."""
        loop, config = self._loop, self._loop.config
        began, number = time.monotonic(), len(self.history)
        images_before = loop.images_read
        sums = loop.run(number, self._sums, every=self._saving.every, pause=self._pause)
        self._sums = None
        if loop.is_stopped:
            self._pause(sums)
            self._after_epoch(self.history, LAST, loop.result, loop.optimizer_state)
            loop.group.wait()  # none ends before the first has written its files
            raise JobError(f"stopped in epoch {number + 1} of {config.num_epochs}")
        speed = (loop.images_read - images_before) / max(time.monotonic() - began, 1e-9)
        epoch, predictions = self._validate_epoch(
            validation, sums, images_per_s=speed, start_time=began
        )
        self.history.append(epoch)
        # the last of equally good epochs counts
        better = config.select == "last" or epoch.selection_score == max(
            past.selection_score for past in self.history
        )
        if better:
            self.chosen, self.predictions = epoch, predictions
            self.weights = copy.deepcopy(network_of(loop.result).state_dict())
        self._after_epoch(self.history, BEST if better else None, loop.result, loop.optimizer_state)
        loop.report(
            epoch=epoch.epoch,
            loss=epoch.loss,
            accuracy=epoch.accuracy,
            val_loss=epoch.val_loss,
            val_accuracy=epoch.val_accuracy,
            lr=epoch.lr,
            images_per_s=speed,
        )
        loop.schedule.end_epoch(epochs_without_progress(self.history))
        self._pause(None)
        left_s = (config.num_epochs - epoch.epoch) * epoch.seconds
        log.info(
            "epoch=%d of=%d loss=%.4g val_accuracy=%.4g images_per_s=%.0f left_s=%.0f",
            epoch.epoch, config.num_epochs, epoch.loss, epoch.val_accuracy, speed, left_s,
        )  # fmt: skip

    def _validate_epoch(
        self,
        validation: BatchLoader,
        sums: RunningMetrics,
        *,
        images_per_s: float,
        start_time: float,
    ) -> tuple[Epoch, Predictions | None]:
        loop, count = self._loop, max(sums.images, 1)
        # a saved training can go on after a stop, and a validation that is half done cannot
        stop = loop.watch.stop if self._saving.pause is None else threading.Event()
        result = validate(
            loop.result,
            validation,
            RunContext(device=loop.watch.device, precision=loop.config.precision, stop=stop),
            group=loop.group,
            by_cell=loop.config.select == WORST_CELL,
        )
        calibration = result.calibration
        epoch = Epoch(
            epoch=len(self.history) + 1,
            lr=loop.lr,
            loss=sums.loss / count,
            accuracy=sums.right / count,
            val_loss=result.loss,
            val_accuracy=result.accuracy,
            val_balanced_accuracy=result.balanced_accuracy,
            seconds=time.monotonic() - start_time,
            images_per_s=images_per_s,
            temperature=None if calibration is None else calibration.temperature,
            threshold=None if calibration is None else calibration.threshold,
            val_worst_cell_accuracy=result.worst_cell,
        )
        return epoch, result.predictions

    def _pause(self, sums: RunningMetrics | None) -> None:
        """Save where the training is."""
        if self._saving.pause is None:
            return
        own = self.chosen is not None and sums is None and self.chosen is self.history[-1]
        weights = None if own or self.chosen is None else checkpointing.clone_to_cpu(self.weights)
        self._saving.pause(
            TrainerState(
                epochs=tuple(self.history),
                chosen=None if self.chosen is None else self.chosen.epoch,
                weights=weights,
                model=checkpointing.clone_to_cpu(network_of(self._loop.model).state_dict()),
                steps=self._loop.state(sums),
                seconds=self.seconds,
                start=self._saving.start,
                resumed=()
                if self._saving.resume_from_state is None
                else self._saving.resume_from_state.resumed,
            )
        )

    def _restore(self, state: TrainerState) -> None:
        loop = self._loop
        network_of(loop.model).load_state_dict(dict(state.model))
        self._sums = loop.restore(state.steps, len(state.epochs))
        self.history = list(state.epochs)
        self._earlier = state.seconds
        if state.chosen is not None:
            self.chosen = state.epochs[state.chosen - 1]
            own = network_of(loop.result).state_dict()
            self.weights = copy.deepcopy(own) if state.weights is None else state.weights


@torch.no_grad()
def _features(model: nn.Module, inputs: Tensor) -> Tensor:
    if isinstance(model, Detector) and inputs.ndim > FEATURES:
        return model.forward_features(inputs)
    return inputs


def validate(
    model: nn.Module,
    images: BatchLoader,
    watch: RunContext,
    *,
    group: ProcessGroup = SINGLE_PROCESS,
    by_cell: bool = False,
) -> Validation:
    """Return the validation result of a model on one pass. It stays in evaluation mode.

    Args:
        model: on the device.
        images: in order, not augmented.
        watch: device, precision, and stop. Logits are float32 for any precision.
        group: the processes that each have a part of the images. All get the same result.
        by_cell: measure the worst group × class, too. The images need the column `demographic`.

    Raises:
        JobError: stopped, no image could be read, one occurred twice, groups of images are unknown,
        or a logit is not finite.
    """
    model.eval()
    own = predict_rows(
        images(0),
        partial(logits_of, model),
        watch,
        before_batch=lambda _: watch.raise_if_stopped(),
        facts=_groups_of if by_cell else lambda _: (),
    )
    every = group.gather(own)
    if not len(every):
        raise JobError(f"none of the {len(images)} validation images could be read")
    every = sort_rows(every, further_columns=int(by_cell), participle="validated")
    width = every.shape[1] - (3 if by_cell else 2)
    rows, classes = every[:, :width].float(), every[:, -2].long()
    if rows.shape[1] > 1:
        return _class_metrics(rows, classes)
    predictions = Predictions.from_margin(
        rows.squeeze(1).double().numpy(),
        (classes.numpy() == 1).astype(np.int8),
        positions=every[:, -1].long().numpy(),
    )
    result = replace(
        validate_logits(predictions.margin, predictions.labels == 1),
        calibration=fit_calibration(predictions.labels, predictions.margin),
        predictions=predictions,
    )
    if not by_cell:
        return result
    numbers = every[:, -3].long()
    cells = subgroup_ids(classes, numbers, int(numbers.max()) + 1)
    return replace(
        result, worst_cell=worst_subgroup_accuracy((rows.squeeze(1) > 0) == (classes == 1), cells)
    )


def _groups_of(batch: Batch) -> tuple[Tensor]:
    if DEMOGRAPHIC not in batch.columns:
        raise JobError(
            f"select: {WORST_CELL} needs the group of every validation image, and these images "
            "have no groups. Name their CSV files in attributes."
        )
    return (batch.columns[DEMOGRAPHIC],)


def validate_logits(logits: NDArray[np.float64], positive: NDArray[np.bool_]) -> Validation:
    """Return loss and accuracies of a detector's logits (N,), without a calibration.

    Args:
        logits: (N,).
        positive: (N,) which images are fake.
    """
    predicted = logits > 0
    balanced = None
    if positive.any() and not positive.all():
        balanced = float(predicted[positive].mean() + (~predicted[~positive]).mean()) / 2
    return Validation(
        loss=mean_cross_entropy(positive, logits),
        accuracy=float((predicted == positive).mean()),
        balanced_accuracy=balanced,
    )


def _class_metrics(logits: torch.Tensor, labels: torch.Tensor) -> Validation:
    correct = (logits.argmax(1) == labels).numpy()
    classes = labels.numpy()
    accuracies = [correct[classes == label].mean() for label in np.unique(classes)]
    return Validation(
        loss=float(functional.cross_entropy(logits, labels)),
        accuracy=float(np.mean(correct)),
        balanced_accuracy=float(np.mean(accuracies)),
    )
