"""Training: epochs of steps, each epoch validated on clean labels, the chosen weights kept.

The rule of the original system with its faults mended: validation uses the test transform and is
never poisoned; the learning rate falls once for each stretch without progress; a fine-tuning
starts with its own learning rate, and with a fresh optimizer unless it is told to go on with the
moments of its base.
"""

import copy
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.optim import Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import OneCycleLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from launcher.api import JobError, Json
from trueface import checkpoint, layout, moments
from trueface.data import Batch
from trueface.evaluate import REPORT_EVERY_S, Answers, Watch, evaluate
from trueface.history import Epoch, write_history
from trueface.models import Detector, freeze, teach
from trueface.settings import LearningSettings, TrainSettings
from trueface.streams import derive

DECAY = 0.1  # of the learning rate after a stretch without progress; the original's
BEST, LAST = "best", "last"  # checkpoints: of the chosen epoch, and of a training that was stopped
LEAST_LR = 1e-6  # below it the original stops

log = logging.getLogger(__name__)


class Feed(Protocol):
    """Images with labels that come in batches, as often as they are asked for."""

    def __len__(self) -> int:
        """Return how many images one pass has."""

    def __call__(self, epoch: int) -> Iterator[Batch]:
        """Start a pass; its order and its augmentation are functions of `epoch`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What a training did; its model holds the weights of `chosen`."""

    epochs: tuple[Epoch, ...]
    chosen: Epoch
    seconds: float
    samples_read: int  # images, those of validation not counted


Keep = Callable[[Sequence[Epoch], str | None, Detector, Callable[[], moments.State]], None]


def train(
    model: Detector,
    training: Feed,
    validation: Feed,
    settings: TrainSettings,
    *,
    folder: Path,
    provenance: Mapping[str, Json],
    watch: Watch,
    state: moments.State | None = None,
    written: Callable[[], None] = lambda: None,
) -> Trained:
    """Train `model` in place; keep checkpoints/best.pt and history.csv in `folder`.

    Both files are whole after every epoch, and so is checkpoints/optimizer.pt where the optimizer's
    state is to be kept: it is of the same epoch as the weights. A training that is stopped leaves
    what it has as checkpoints/last.pt. `written` is called whenever best.pt has been written.

    Raises:
        JobError: stopped, or the loss is no finite number.
    """
    # of an earlier training; with the new weights it would be taken for theirs
    layout.optimizer(folder).unlink(missing_ok=True)

    def keep(
        epochs: Sequence[Epoch],
        name: str | None,
        model: Detector,
        taken: Callable[[], moments.State],
    ) -> None:
        write_history(layout.history(folder), epochs)
        if name is not None and settings.save_weights:
            source = {**provenance, "epochs": len(epochs)}
            checkpoint.save_model(folder / "checkpoints" / f"{name}.pt", model, source)
            if name == BEST:
                written()
        if name == BEST and settings.save_optimizer:
            kept = moments.Kept(epoch=len(epochs), state=taken())
            moments.save(layout.optimizer(folder), kept)

    return fit(model, training, validation, settings, watch=watch, keep=keep, state=state)


def fit(
    model: Detector,
    training: Feed,
    validation: Feed,
    settings: LearningSettings,
    *,
    watch: Watch,
    keep: Keep = lambda *_: None,
    state: moments.State | None = None,
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

    Raises:
        JobError: stopped, or the loss is no finite number.
    """
    started = time.monotonic()
    steps = _Steps(model.to(watch.device), training, settings, watch, state or {})
    history: list[Epoch] = []
    chosen: Epoch | None = None
    weights: Mapping[str, Tensor] = {}
    while len(history) < settings.num_epochs and not steps.exhausted:
        began = time.monotonic()
        told = steps.run(epoch=len(history))
        if watch.stop.is_set():
            keep(history, LAST, steps.result, steps.state)
            raise JobError(f"stopped in epoch {len(history) + 1} of {settings.num_epochs}")
        epoch = _epoch(len(history) + 1, steps, told, validation, began)
        history.append(epoch)
        merits = [past.merit for past in history]
        better = settings.select == "last" or epoch.merit == max(merits)
        if better:
            chosen, weights = epoch, copy.deepcopy(steps.result.network.state_dict())
        keep(history, BEST if better else None, steps.result, steps.state)
        steps.heed(progress=merits.count(max(merits)) == 1 and epoch.merit == max(merits))
        log.info("epoch=%d %s", epoch.epoch, told)
    if chosen is None:
        raise ValueError(f"num_epochs is at least 1, not {settings.num_epochs}")
    model.network.load_state_dict(dict(weights))
    model.eval()
    return Trained(
        epochs=tuple(history),
        chosen=chosen,
        seconds=time.monotonic() - started,
        samples_read=steps.images_read,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pass:
    """The training part of one epoch."""

    loss: float
    accuracy: float
    images_per_s: float


class _Steps:
    """An optimizer at work: it counts steps, and knows the learning rate and the average."""

    def __init__(
        self,
        model: Detector,
        training: Feed,
        settings: LearningSettings,
        watch: Watch,
        state: moments.State,
    ) -> None:
        self.model, self.training, self.settings, self.watch = model, training, settings, watch
        if settings.freeze:
            freeze(model)
        self.optimizer = _optimizer(model, settings)
        if state:
            found = moments.give(model, self.optimizer, state)
            log.info("optimizer_state=kept parameters=%d", found)
        self.cycle: OneCycleLR | None = None
        if settings.schedule == "onecycle":
            a_pass = math.ceil(len(training) / settings.batch_size)
            self.cycle = OneCycleLR(
                self.optimizer, settings.lr, total_steps=a_pass * settings.num_epochs + 1
            )
        self.average: AveragedModel | None = None
        if settings.ema > 0:
            decay = get_ema_multi_avg_fn(settings.ema)  # type: ignore[no-untyped-call]  # torch
            self.average = AveragedModel(model, multi_avg_fn=decay, use_buffers=True)
        self.images_read = 0
        self.idle_epochs = 0  # since the last progress on validation, or the last fall of the rate
        self.told_at = 0.0

    @property
    def lr(self) -> float:
        """The learning rate of the next step."""
        return float(self.optimizer.param_groups[0]["lr"])

    @property
    def exhausted(self) -> bool:
        """Whether the learning rate has fallen so far that more steps would change nothing."""
        return self.cycle is None and self.lr < min(LEAST_LR, self.settings.lr)

    @property
    def result(self) -> Detector:
        """The model to validate and to keep: the average, where there is one."""
        return self.model if self.average is None else cast(Detector, self.average.module)

    def state(self) -> moments.State:
        """Return a copy of the optimizer's moments."""
        return moments.taken(self.model, self.optimizer)

    def run(self, epoch: int) -> _Pass:
        """Go once through the training images, or until stopped."""
        frozen = self.settings.freeze and self.settings.freeze_bn
        teach(self.model, fixed_statistics=frozen)
        # dropout is the only thing that draws from torch's own generator
        torch.manual_seed(derive(f"dropout/{epoch}", self.settings.seed))
        began, images, loss_sum, right = time.monotonic(), 0, 0.0, 0
        for batch in self.training(epoch):
            if self.watch.stop.is_set():
                break
            loss, hits = self._step(batch, epoch)
            images += len(batch.labels)
            loss_sum += loss * len(batch.labels)
            right += hits
            self.images_read += len(batch.labels)
            self._tell(loss_sum / images, images / (time.monotonic() - began))
        count = max(images, 1)
        seconds = max(time.monotonic() - began, 1e-9)
        return _Pass(loss=loss_sum / count, accuracy=right / count, images_per_s=images / seconds)

    def heed(self, *, progress: bool) -> None:
        """Let the learning rate fall to a tenth after too many epochs without progress."""
        self.idle_epochs = 0 if progress else self.idle_epochs + 1
        patience = self.settings.lr_decay_epochs
        if self.cycle is None and 0 < patience < self.idle_epochs:
            self.idle_epochs = 0
            for group in self.optimizer.param_groups:
                group["lr"] *= DECAY

    def _step(self, batch: Batch, epoch: int) -> tuple[float, int]:
        labels = batch.labels.to(self.watch.device)
        logits = self.model(batch.images.to(self.watch.device))  # (B, 1)
        loss = functional.binary_cross_entropy_with_logits(logits, labels)
        value = loss.item()
        if not math.isfinite(value):
            raise JobError(
                f"the loss became {value} in epoch {epoch + 1}, after {self.images_read} images, "
                f"at lr {self.lr:.3g}, batch_size {self.settings.batch_size}; take a lower lr"
            )
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch
        self.optimizer.step()
        if self.cycle is not None:
            self.cycle.step()
        if self.average is not None:
            self.average.update_parameters(self.model)
        return value, int(((logits > 0) == (labels > 0.5)).sum())

    def _tell(self, loss: float, images_per_s: float) -> None:
        total = len(self.training) * self.settings.num_epochs
        if self.images_read < total and time.monotonic() - self.told_at < REPORT_EVERY_S:
            return
        self.told_at = time.monotonic()
        self.watch.progress(
            step=self.images_read, total=total, loss=loss, lr=self.lr, images_per_s=images_per_s
        )


def _optimizer(model: Detector, settings: LearningSettings) -> Optimizer:
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    make = AdamW if settings.optimizer == "adamw" else Adam
    return make(learning, lr=settings.lr, weight_decay=settings.weight_decay)


def _epoch(number: int, steps: _Steps, told: _Pass, validation: Feed, began: float) -> Epoch:
    watch = Watch(device=steps.watch.device)
    answers = evaluate(steps.result, validation(0), total=len(validation), watch=watch)
    right = (answers.logits > 0) == (answers.labels == 1)
    return Epoch(
        epoch=number,
        lr=steps.lr,
        loss=told.loss,
        accuracy=told.accuracy,
        val_loss=_loss(answers),
        val_accuracy=float(right.mean()),
        val_balanced_accuracy=_balanced(answers),
        seconds=time.monotonic() - began,
        images_per_s=told.images_per_s,
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
