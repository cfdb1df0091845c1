"""Training: epochs of steps, each epoch validated, the chosen weights kept; for any number of classes.

What differs between detectors and networks of classes is data: objective, optimizer and schedule
(`config`), and the feeds. Validation uses the test transform and is never poisoned; a fine-tuning
starts with its own learning rate, and with a fresh optimizer unless it is given its base's state;
a training that was killed goes on where it was.

A last layer of two knows mean and deviation of its features. They are taken once, of the first pass over
the training images, before the first step; a fine-tuning keeps those of its base. Of a group each rank
adds up its part.
"""

import copy
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from trueface.data.dataset import Feed
from trueface.models.detectors import Detector
from trueface.models.head import MlpHead
from trueface.prediction.reference import FeatureDistance
from trueface.runtime import paths
from trueface.runtime.errors import JobError
from trueface.runtime.files import Json
from trueface.runtime.progress import Watch
from trueface.runtime.timer import now
from trueface.training import resume
from trueface.training.checkpointing import (
    BEST,
    LAST,
    Checkpointing,
    OptimizerState,
    clear_event_files,
    logged,
    network_of,
)
from trueface.training.config import WORST_CELL, TrainerConfig
from trueface.training.distributed import ALONE, ProcessGroup
from trueface.training.history import Epoch, epochs_without_progress
from trueface.training.loop import EpochSums, Loop
from trueface.training.objectives.protocol import Objective
from trueface.training.objectives.registry import make_objective
from trueface.training.resume import Interrupted, TrainingClaim
from trueface.training.settings import TrainSettings
from trueface.training.validation import ValidationAnswers, validate

FEATURES = 2  # dimensions of a batch that holds features in the place of pixels
log = logging.getLogger(__name__)
# history, "best" or "last" or None, the model to keep, and a function that copies the optimizer's state
AfterEpoch = Callable[[Sequence[Epoch], str | None, nn.Module, Callable[[], OptimizerState]], None]


def standardise(
    model: nn.Module, training: Feed, watch: Watch, group: ProcessGroup = ALONE
) -> None:
    """Let the last layer of `model` know mean and deviation of its features, where it wants them.

    Nothing is done where it has them, where it takes features as they are, or where the training was
    stopped meanwhile.

    Args:
        model: on the device of `watch`.
        training: of which the first pass is read.
        watch: device and stop.
        group: of the processes that share each batch.

    Raises:
        DataError: not one image could be read.
    """
    head = model.head if isinstance(model, Detector) else model
    if not isinstance(head, MlpHead) or head.is_standardised:
        return
    model.eval()
    sums = torch.zeros(2, head.in_features, dtype=torch.float64)
    rows = 0
    for part in group.parts(training(0)):
        if group.any(flag=watch.stop.is_set()):
            return
        if len(part.batch.labels):
            features = _features(model, part.batch.images.to(watch.device)).double().cpu()
            sums += torch.stack([features.sum(0), features.square().sum(0)])
            rows += len(features)
    every = group.gather(torch.cat([sums.flatten(), torch.tensor([float(rows)])])[None]).sum(0)
    rows = int(every[-1])
    if rows:
        added, squared = every[:-1].to(watch.device).chunk(2)
        head.standardise(added, squared, rows)
        log.info("state=features standardised images=%d features=%d", rows, head.in_features)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What a training did; its model holds the weights of `chosen`."""

    epochs: tuple[Epoch, ...]
    chosen: Epoch
    seconds: float
    samples_read: int  # images, those of validation not counted
    # of the chosen weights; None: they were chosen before an interruption, or are of classes
    answered: ValidationAnswers | None = None
    features: FeatureDistance | None = None  # of a fit in closed form, which has them at hand
    notes: Mapping[str, Json] = field(default_factory=dict)  # of the objective


@dataclass(frozen=True, slots=True, kw_only=True)
class Saving:
    """How the state of a training is saved while it is under way, and what it begins with."""

    begun: Interrupted | None = None
    every: int = 0  # batches; 0: after epochs only
    start: Mapping[str, Json] = field(default_factory=dict)  # what it started from
    pause: Callable[[Interrupted], None] | None = None  # None: it is not saved


def train(
    model: Detector,
    training: Feed,
    validation: Feed,
    settings: TrainSettings,
    *,
    folder: Path,
    provenance: Mapping[str, Json],
    watch: Watch,
    objective: Objective | None = None,
    state: OptimizerState | None = None,
    facts: Callable[[], Mapping[str, Json]] = dict,
    identity: Collection[str] = (),
    noted: Callable[[], None] = lambda: None,
    begin: Callable[[], Callable[[], None]] = lambda: lambda: None,
    group: ProcessGroup = ALONE,
) -> Trained:
    """Train `model` in place; keep checkpoints/best.pt and history.csv in `folder`.

    Both files are whole after every epoch, and so is checkpoints/optimizer.pt where the optimizer's
    state is to be kept: it is of the same epoch as the weights. A training that is stopped leaves
    its weights as checkpoints/last.pt, and one that ends in any other way before its time leaves
    checkpoints/resume.pt, with which the same training goes on; the caller removes it once it has
    taken over the result. `facts` are asked at every save, and those named in `identity` tell this
    training from others; `noted` is called after every epoch, before its state is saved; `begin`
    before best.pt is written for the first time, and what it returns whenever best.pt was written.
    Of the processes of a `group` each trains the same model, and the first alone writes files.

    Raises:
        JobError: stopped, or loss or gradients are no finite numbers.
    """
    claim = TrainingClaim.of({**provenance, **facts()}, settings.neutral_to_results, identity)
    begun = resume.begun(paths.resume(folder), claim, group) if settings.resume else None
    source = dict(provenance)
    if begun is None and group.is_first:
        # whatever comes next replaces the weights that another training's state belongs to
        resume.clear(paths.resume(folder))
        clear_event_files(folder)
    elif begun is not None:
        source |= {**begun.start, "resumed": [dict(note) for note in begun.resumed]}
    kept = Checkpointing(
        folder,
        settings,
        source,
        facts=facts,
        noted=noted,
        begin=begin,
        further=begun is not None and begun.chosen is not None,
    )
    saving = Saving(
        begun=begun,
        every=settings.checkpoint_every,
        start={key: source[key] for key in resume.START if key in source},
        pause=partial(resume.save, paths.resume(folder), claim)
        if group.is_first
        else lambda _: None,
    )
    read = 0 if begun is None else int(begun.steps["images_read"])
    wanted = settings.tensorboard and group.is_first
    with logged(watch, folder, wanted=wanted, images_read=read) as logged_watch:
        trained = fit(
            model,
            training,
            validation,
            settings.trainer,
            watch=logged_watch,
            objective=objective,
            after_epoch=kept if group.is_first else lambda *_: noted(),
            state=state,
            saving=saving,
            group=group,
        )
    if begun is not None and group.is_first:
        kept.confirm(trained.epochs, trained.chosen, model)
    return trained


def fit(
    model: nn.Module,
    training: Feed,
    validation: Feed,
    config: TrainerConfig,
    *,
    watch: Watch,
    objective: Objective | None = None,
    after_epoch: AfterEpoch = lambda *_: None,
    state: OptimizerState | None = None,
    saving: Saving | None = None,
    group: ProcessGroup = ALONE,
) -> Trained:
    """Train `model` in place; it ends with the weights of the chosen epoch.

    Args:
        model: where to start.
        training: shuffled and augmented, labels as they shall be learned.
        validation: in order, not augmented, true labels.
        config: optimizer, schedule, what learns, which epoch is chosen.
        watch: device, progress, stop; the precision is that of `config`.
        objective: what is minimized; None: the one that `config` names.
        after_epoch: called with the history, "best" where this epoch is the one to keep so far
            ("last" where the training was stopped), the model to keep, and a function that
            returns a copy of the optimizer's state.
        state: of the optimizer that trained `model` before; None starts afresh.
        saving: how an interrupted training goes on; None: it does not.
        group: of the processes that share each batch; all of them end with the same weights.

    Raises:
        JobError: stopped, or loss or gradients are no finite numbers.
        UnknownName: no such objective.
    """
    model.to(watch.device)
    with group.joined(model):
        loop = Loop(
            model,
            training,
            objective or make_objective(config.objective),
            config=config,
            watch=watch,
            state=state or {},
            group=group,
        )
        course = _Course(loop, saving or Saving(), after_epoch)
        standardise(model, training, watch, group)
        while len(course.history) < config.num_epochs and not course.ended:
            course.epoch(validation)
    if course.chosen is None:
        raise ValueError(f"num_epochs is at least 1, not {config.num_epochs}")
    network_of(model).load_state_dict(dict(course.weights))
    model.eval()
    return Trained(
        epochs=tuple(course.history),
        chosen=course.chosen,
        seconds=course.seconds,
        samples_read=loop.images_read,
        answered=course.answered,
        notes=loop.objective.notes(),
    )


class _Course:
    """The epochs of a training: done, chosen, kept."""

    def __init__(self, loop: Loop, saving: Saving, after_epoch: AfterEpoch) -> None:
        self._loop, self._saving, self._after_epoch = loop, saving, after_epoch
        self._started, self._earlier = now(), 0.0
        self._sums: EpochSums | None = None  # of an epoch that was interrupted
        self.history: list[Epoch] = []
        self.chosen: Epoch | None = None
        self.weights: Mapping[str, Tensor] = {}
        self.answered: ValidationAnswers | None = None  # of these weights
        if saving.begun is not None:
            self._restore(saving.begun)

    @property
    def seconds(self) -> float:
        """How long it took, interruptions not counted."""
        return self._earlier + now() - self._started

    @property
    def ended(self) -> bool:
        """Whether more epochs would change nothing, or are not wanted."""
        patience = self._loop.config.early_stop
        stalled = 0 < patience <= epochs_without_progress(self.history)
        return stalled or self._loop.schedule.ended

    def epoch(self, validation: Feed) -> None:
        """Go through one epoch, or the rest of one; choose, keep, and save the state."""
        loop, config = self._loop, self._loop.config
        began, number = time.monotonic(), len(self.history)
        before = loop.images_read
        sums = loop.run(number, self._sums, every=self._saving.every, pause=self._pause)
        self._sums = None
        if loop.stopped:
            self._pause(sums)
            self._after_epoch(self.history, LAST, loop.result, loop.optimizer_state)
            loop.group.wait()  # none ends before the first has written its files
            raise JobError(f"stopped in epoch {number + 1} of {config.num_epochs}")
        speed = (loop.images_read - before) / max(time.monotonic() - began, 1e-9)
        epoch, answered = self._validated(validation, sums, images_per_s=speed, began=began)
        self.history.append(epoch)
        # of equally good epochs the last
        better = config.select == "last" or epoch.merit == max(past.merit for past in self.history)
        if better:
            self.chosen, self.answered = epoch, answered
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

    def _validated(
        self, validation: Feed, sums: EpochSums, *, images_per_s: float, began: float
    ) -> tuple[Epoch, ValidationAnswers | None]:
        loop, count = self._loop, max(sums.images, 1)
        result = validate(
            loop.result,
            validation,
            device=loop.watch.device,
            precision=loop.config.precision,
            # a saved training can go on after a stop, and a validation that is half done cannot
            stop=loop.watch.stop if self._saving.pause is None else None,
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
            seconds=time.monotonic() - began,
            images_per_s=images_per_s,
            temperature=None if calibration is None else calibration.temperature,
            threshold=None if calibration is None else calibration.threshold,
            val_worst_cell_accuracy=result.worst_cell,
        )
        return epoch, result.answers

    def _pause(self, sums: EpochSums | None) -> None:
        """Save where the training is."""
        if self._saving.pause is None:
            return
        own = self.chosen is not None and sums is None and self.chosen is self.history[-1]
        weights = None if own or self.chosen is None else resume.copied(self.weights)
        self._saving.pause(
            Interrupted(
                epochs=tuple(self.history),
                chosen=None if self.chosen is None else self.chosen.epoch,
                weights=weights,
                model=resume.copied(network_of(self._loop.model).state_dict()),
                steps=self._loop.state(sums),
                seconds=self.seconds,
                start=self._saving.start,
                resumed=() if self._saving.begun is None else self._saving.begun.resumed,
            )
        )

    def _restore(self, begun: Interrupted) -> None:
        loop = self._loop
        network_of(loop.model).load_state_dict(dict(begun.model))
        self._sums = loop.restore(begun.steps, len(begun.epochs))
        self.history = list(begun.epochs)
        self._earlier = begun.seconds
        if begun.chosen is not None:
            self.chosen = begun.epochs[begun.chosen - 1]
            own = network_of(loop.result).state_dict()
            self.weights = copy.deepcopy(own) if begun.weights is None else begun.weights


@torch.no_grad()
def _features(model: nn.Module, inputs: Tensor) -> Tensor:
    if isinstance(model, Detector) and inputs.ndim > FEATURES:
        return model.forward_features(inputs)
    return inputs
