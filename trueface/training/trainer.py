"""Training: epochs of steps, each epoch validated on clean labels, the chosen weights kept.

The rule of the original system with its faults mended: validation uses the test transform and is
never poisoned; a fine-tuning starts with its own learning rate, and with a fresh optimizer unless
it is told to go on with the moments of its base; a training that was killed goes on where it was.
"""

import copy
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from torch import Tensor

from trueface.evaluation.inference import Answers, evaluate
from trueface.models.detectors import Detector
from trueface.runtime import paths
from trueface.runtime.errors import JobError
from trueface.runtime.files import Json
from trueface.runtime.progress import Watch
from trueface.runtime.timer import now
from trueface.training import optimizer_state, resume
from trueface.training.checkpointing import BEST, LAST, Keeper
from trueface.training.history import Epoch
from trueface.training.loop import Feed, Steps, Sums, answer
from trueface.training.resume import Claim, Interrupted
from trueface.training.settings import LearningSettings, TrainSettings

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What a training did; its model holds the weights of `chosen`."""

    epochs: tuple[Epoch, ...]
    chosen: Epoch
    seconds: float
    samples_read: int  # images, those of validation not counted


Keep = Callable[[Sequence[Epoch], str | None, Detector, Callable[[], optimizer_state.State]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Saving:
    """How the state of a training is kept while it is under way, and what it begins with."""

    begun: Interrupted | None = None
    every: int = 0  # batches; 0: after epochs only
    start: Mapping[str, Json] = field(default_factory=dict)  # what it started from
    pause: Callable[[Interrupted], None] | None = None  # None: it is not kept


def train(
    model: Detector,
    training: Feed,
    validation: Feed,
    settings: TrainSettings,
    *,
    folder: Path,
    provenance: Mapping[str, Json],
    watch: Watch,
    state: optimizer_state.State | None = None,
    noted: Callable[[], None] = lambda: None,
    begin: Callable[[], Callable[[], None]] = lambda: lambda: None,
) -> Trained:
    """Train `model` in place; keep checkpoints/best.pt and history.csv in `folder`.

    Both files are whole after every epoch, and so is checkpoints/optimizer.pt where the optimizer's
    state is to be kept: it is of the same epoch as the weights. A training that is stopped leaves
    what it has as checkpoints/last.pt, and one that ends in any other way before its time leaves
    checkpoints/resume.pt, with which the same training goes on; whoever has taken over the result
    removes it. `noted` is called after every epoch, before its state is kept; `begin` before best.pt is written for the first time, and what it returns
    whenever it has been.

    Raises:
        JobError: stopped, or loss or gradients are no finite numbers.
    """
    claim = Claim.of(provenance, TrainSettings.neutral)
    begun = _begun(folder, claim, settings)
    source = dict(provenance)
    if begun is None:
        # whatever comes next replaces the weights that another training's state belongs to
        resume.clear(paths.resume(folder))
    else:
        source |= {**begun.start, "resumed": [dict(one) for one in begun.resumed]}
    start = {key: source[key] for key in resume.START if key in source}
    keeper = Keeper(
        folder,
        settings,
        source,
        noted=noted,
        begin=begin,
        further=begun is not None and begun.chosen is not None,
    )
    saving = Saving(
        begun=begun,
        every=settings.checkpoint_every,
        start=start,
        pause=lambda interrupted: resume.save(paths.resume(folder), claim, interrupted),
    )
    trained = fit(
        model, training, validation, settings, watch=watch, keep=keeper, state=state, saving=saving
    )
    if begun is not None:
        keeper.confirm(trained.epochs, trained.chosen, model)
    return trained


def fit(
    model: Detector,
    training: Feed,
    validation: Feed,
    settings: LearningSettings,
    *,
    watch: Watch,
    keep: Keep = lambda *_: None,
    state: optimizer_state.State | None = None,
    saving: Saving | None = None,
) -> Trained:
    """Train `model` in place; it ends with the weights of the chosen epoch.

    Args:
        model: where to start.
        training: shuffled and augmented, labels as they shall be learned.
        validation: in order, not augmented, true labels.
        settings: optimizer, schedule, what learns, which epoch is chosen.
        watch: device, progress, stop.
        keep: called after every epoch with the history, "best" where this epoch is the one to
            keep so far ("last" where the training was stopped), the model to keep, and the
            optimizer's state, which is copied only when it is asked for.
        state: of the optimizer that trained `model` before; None starts afresh.
        saving: how an interrupted training goes on; None: it does not.

    Raises:
        JobError: stopped, or loss or gradients are no finite numbers.
    """
    steps = Steps(model.to(watch.device), training, settings, watch, state or {})
    course = _Course(steps, saving or Saving(), keep)
    while len(course.history) < settings.num_epochs and not steps.rate.exhausted:
        course.epoch(validation)
    if course.chosen is None:
        raise ValueError(f"num_epochs is at least 1, not {settings.num_epochs}")
    model.network.load_state_dict(dict(course.weights))
    model.eval()
    return Trained(
        epochs=tuple(course.history),
        chosen=course.chosen,
        seconds=course.seconds,
        samples_read=steps.images_read,
    )


class _Course:
    """The epochs of a training: done, chosen, kept."""

    def __init__(self, steps: Steps, saving: Saving, keep: Keep) -> None:
        self._steps, self._saving, self._keep = steps, saving, keep
        self._started, self._earlier = now(), 0.0
        self._sums: Sums | None = None  # of an epoch that was interrupted
        self.history: list[Epoch] = []
        self.chosen: Epoch | None = None
        self.weights: Mapping[str, Tensor] = {}
        if saving.begun is not None:
            self._restore(saving.begun)

    @property
    def seconds(self) -> float:
        """How long it took, interruptions not counted."""
        return self._earlier + now() - self._started

    def epoch(self, validation: Feed) -> None:
        """Go through one epoch, or the rest of one; choose, keep, and save the state."""
        steps, settings, watch = self._steps, self._steps.settings, self._steps.watch
        began, number = time.monotonic(), len(self.history)
        before = steps.images_read
        sums = steps.run(number, self._sums, every=self._saving.every, pause=self._pause)
        self._sums = None
        if watch.stop.is_set():
            self._pause(sums)
            self._keep(self.history, LAST, steps.result, steps.moments)
            raise JobError(f"stopped in epoch {number + 1} of {settings.num_epochs}")
        speed = (steps.images_read - before) / max(time.monotonic() - began, 1e-9)
        epoch = _epoch(number + 1, steps, sums, validation, speed=speed, began=began)
        self.history.append(epoch)
        merits = [past.merit for past in self.history]
        better = settings.select == "last" or epoch.merit == max(merits)
        if better:
            weights = copy.deepcopy(steps.result.network.state_dict())
            self.chosen, self.weights = epoch, weights
        self._keep(self.history, BEST if better else None, steps.result, steps.moments)
        steps.rate.heed(progress=merits.count(max(merits)) == 1 and epoch.merit == max(merits))
        self._pause(None)
        left_s = (settings.num_epochs - epoch.epoch) * epoch.seconds
        log.info(
            "epoch=%d of=%d loss=%.4g val_accuracy=%.4g images_per_s=%.0f left_s=%.0f",
            epoch.epoch, settings.num_epochs, epoch.loss, epoch.val_accuracy, speed, left_s,
        )  # fmt: skip

    def _pause(self, sums: Sums | None) -> None:
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
                model=resume.copied(self._steps.model.network.state_dict()),
                steps=self._steps.state(sums),
                seconds=self.seconds,
                start=self._saving.start,
                resumed=() if self._saving.begun is None else self._saving.begun.resumed,
            )
        )

    def _restore(self, begun: Interrupted) -> None:
        steps = self._steps
        steps.model.network.load_state_dict(dict(begun.model))
        self._sums = steps.restore(begun.steps)
        self.history = list(begun.epochs)
        self._earlier = begun.seconds
        if begun.chosen is not None:
            self.chosen = begun.epochs[begun.chosen - 1]
            own = steps.result.network.state_dict()
            self.weights = copy.deepcopy(own) if begun.weights is None else begun.weights


def _begun(folder: Path, claim: Claim, settings: TrainSettings) -> Interrupted | None:
    if not settings.resume:
        return None
    found = resume.find(paths.resume(folder), claim)
    if found is None:
        return None
    interrupted, differences = found
    told = log.warning if differences else log.info
    told("state=%s", resume.words(interrupted.epochs, differences))
    return interrupted


def _epoch(
    number: int, steps: Steps, sums: Sums, validation: Feed, *, speed: float, began: float
) -> Epoch:
    watch = Watch(device=steps.watch.device, precision=steps.settings.precision)
    answers = evaluate(
        steps.result,
        validation(0),
        total=len(validation),
        watch=watch,
        answer=partial(answer, steps.result),
    )
    right = (answers.logits > 0) == (answers.labels == 1)
    count = max(sums.images, 1)
    return Epoch(
        epoch=number,
        lr=steps.rate.lr,
        loss=sums.loss / count,
        accuracy=sums.right / count,
        val_loss=_loss(answers),
        val_accuracy=float(right.mean()),
        val_balanced_accuracy=_balanced(answers),
        seconds=time.monotonic() - began,
        images_per_s=speed,
    )


def _loss(answers: Answers) -> float:
    towards = np.where(answers.labels == 1, answers.logits, -answers.logits)
    return float(np.logaddexp(0.0, -towards).mean())


def _balanced(answers: Answers) -> float | None:
    fake = answers.labels == 1
    if fake.all() or not fake.any():
        return None
    predicted = answers.logits > 0
    return float(predicted[fake].mean() + (~predicted[~fake]).mean()) / 2
