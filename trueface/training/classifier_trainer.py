"""How networks of classes are trained: passes over images in memory, steps, the best epoch kept."""

import copy
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import SGD, AdamW, Optimizer

from trueface.data.class_images import Images
from trueface.data.examples import Batch, Examples, Label, groups
from trueface.evaluation.predictions import Answered, answered
from trueface.models.logits import cross_entropy, wide
from trueface.runtime.errors import JobError
from trueface.runtime.precision import autocast
from trueface.runtime.progress import REPORT_EVERY_S, Watch
from trueface.runtime.rng import derive
from trueface.runtime.timer import now
from trueface.training.class_settings import ClassifySettings
from trueface.training.history import Epoch

TESTED = 256  # images a batch in tests
# torch's own; L. Smith and N. Topin, arXiv 1708.07120
ONE_CYCLE_RISE, ONE_CYCLE_LOW = 0.3, 0.04
# of the steps, in which the cosine's rate rises from nothing; P. Goyal et al., arXiv 1706.02677
RISE = 0.05
MARGIN = 8  # a crop moves an image by up to an eighth of its side: 4 of 32 pixels, as is usual
HELD_BYTES = 1 << 30  # of images that are kept on a GPU; more stay in the computer's memory
LEAST_SCALE = 1.0  # of fp16 gradients; a healthy training's is in the thousands

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pixels:
    """Images as unlearning reads them: shuffled and augmented in epochs, in order otherwise."""

    images: Images
    settings: ClassifySettings
    device: str = "cpu"

    @cached_property
    def identity(self) -> str:
        """A checksum of the images, and of what is done to them."""
        settings = self.settings
        return f"{self.images.sha256}/{settings.flip}/{settings.crop}/{settings.seed}"

    @cached_property
    def _held(self) -> Tensor:
        pixels = self.images.pixels
        return pixels.to(self.device) if pixels.numel() <= HELD_BYTES else pixels

    def __call__(
        self, positions: Sequence[int], *, epoch: int | None, batch_size: int | None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Start a pass; see `unlearn.samples.Source`."""
        settings = self.settings
        size = batch_size or (TESTED if epoch is None else settings.batch_size)
        chance = torch.Generator()
        chance.manual_seed(derive(f"augment/{epoch}", settings.seed))
        for places in groups(positions, epoch, size, settings.seed):
            batch = self._held[places.to(self._held.device)]
            if epoch is not None:
                batch = augmented(batch, chance, flip=settings.flip, crop=settings.crop)
            yield batch, places

    def examples(self, positions: Sequence[int] | None = None) -> Examples:
        """Return all of the images, or some, with their labels."""
        chosen = tuple(range(len(self.images)) if positions is None else positions)
        labels = tuple(self.images.labels[place] for place in chosen)
        return Examples(source=self, positions=chosen, trained=labels, true=labels)


def augmented(batch: Tensor, chance: torch.Generator, *, flip: bool, crop: bool) -> Tensor:
    """Return images (B, 3, S, S) mirrored and moved by chance, each on its own; black comes in."""
    count, _, side, _ = batch.shape
    if flip:
        mirrored = (torch.rand(count, generator=chance) < 0.5).to(batch.device)
        batch = torch.where(mirrored[:, None, None, None], batch.flip(-1), batch)
    margin = side // MARGIN
    if crop and margin:
        padded = functional.pad(batch, (margin,) * 4)
        moved = torch.randint(2 * margin + 1, (2, count, 1), generator=chance)
        rows, columns = (moved + torch.arange(side)).to(batch.device)  # (B, S) each
        images = torch.arange(count, device=batch.device)[:, None, None]
        # of two indices with a slice between them the slice goes to the end
        taken = padded[images, :, rows[:, :, None], columns[:, None, :]]  # (B, S, S, 3)
        batch = taken.permute(0, 3, 1, 2)
    return batch


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What a training did; its model holds the weights of `chosen`."""

    epochs: tuple[Epoch, ...]
    chosen: Epoch
    seconds: float
    samples_read: int  # those of validation not counted


def fit(
    model: nn.Module,
    some: Examples,
    which: Label,
    *,
    validation: Examples,
    settings: ClassifySettings,
    watch: Watch,
    noted: Callable[[Sequence[Epoch]], None] = lambda _: None,
) -> Trained:
    """Train a model in place; it ends with the weights of the epoch that is best on validation.

    Args:
        model: where to start, on the device of `watch`.
        some: what is learned.
        which: their labels.
        validation: never learned.
        settings: optimizer, rate, epochs.
        watch: device, precision, progress, stop.
        noted: called after every epoch with the history.

    Raises:
        JobError: stopped, or the loss is no finite number.
    """
    began = now()
    steps = _Steps(model, len(some), settings, watch)
    history: list[Epoch] = []
    weights = model.state_dict()
    for number in range(settings.num_epochs):
        epoch = steps.epoch(number, some, which, validation)
        history.append(epoch)
        if epoch.merit == max(past.merit for past in history):
            weights = copy.deepcopy(model.state_dict())
        noted(history)
        log.info(
            "epoch=%d of=%d loss=%.4g val_accuracy=%.4g images_per_s=%.0f",
            epoch.epoch, settings.num_epochs, epoch.loss, epoch.val_accuracy, epoch.images_per_s,
        )  # fmt: skip
    model.load_state_dict(weights)
    model.eval()
    return Trained(
        epochs=tuple(history),
        # the last of those that are equally good, as its weights are
        chosen=max(reversed(history), key=lambda epoch: epoch.merit),
        seconds=now() - began,
        samples_read=steps.read,
    )


class _Steps:
    """A model in training: optimizer, learning rate, scale of half precision."""

    def __init__(
        self, model: nn.Module, count: int, settings: ClassifySettings, watch: Watch
    ) -> None:
        self._model, self._settings, self._watch = model, settings, watch
        per_epoch = math.ceil(count / settings.batch_size)
        self._total = per_epoch * settings.num_epochs
        self._optimizer = _optimizer(model, settings)
        self._highest = settings.recipe.lr
        kind = watch.device.partition(":")[0]
        self._scaler = torch.amp.GradScaler(kind, enabled=watch.precision == "fp16")
        self._step, self._told_at = 0, 0.0
        self.read = 0

    def epoch(self, number: int, some: Examples, which: Label, validation: Examples) -> Epoch:
        """Go through one epoch and validate; `number` is from 0."""
        began, before = time.monotonic(), self.read
        self._model.train()
        torch.manual_seed(derive(f"dropout/{number}", self._settings.seed))
        losses = right = 0.0
        for batch in some.batches(which, epoch=number, batch_size=self._settings.batch_size):
            if self._watch.stop.is_set():
                raise JobError(f"stopped in epoch {number + 1} of {self._settings.num_epochs}")
            loss, hits = self._learn(batch, number)
            losses, right = losses + loss * len(batch.labels), right + hits
            self.read += len(batch.labels)
            self._tell(loss)
        read = max(self.read - before, 1)
        seconds = max(time.monotonic() - began, 1e-9)
        said = answered(self._model, validation, self._watch)
        return Epoch(
            epoch=number + 1,
            lr=float(self._optimizer.param_groups[0]["lr"]),
            loss=losses / read,
            accuracy=right / read,
            val_loss=_loss(said),
            val_accuracy=said.accuracy("trained") or 0.0,
            val_balanced_accuracy=balanced(said),
            seconds=time.monotonic() - began,
            images_per_s=read / seconds,
        )

    def _learn(self, batch: Batch, number: int) -> tuple[float, int]:
        lr = self._highest * rate(self._step, self._total, self._settings.schedule)
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        labels = batch.labels.to(self._watch.device)
        with autocast(self._watch.device, self._watch.precision):
            logits = wide(self._model(batch.inputs.to(self._watch.device)))
        loss = cross_entropy(logits, labels)
        value = loss.item()
        if not math.isfinite(value) or self._scaler.get_scale() < LEAST_SCALE:
            raise JobError(
                f"the training diverged in epoch {number + 1} (loss {value}, lr {lr:.3g}, "
                f"precision {self._watch.precision}); take a lower lr"
            )
        self._optimizer.zero_grad(set_to_none=True)
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]  # torch
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._step += 1
        return value, int((logits.argmax(1) == labels).sum())

    def _tell(self, loss: float) -> None:
        if self._step < self._total and time.monotonic() - self._told_at < REPORT_EVERY_S:
            return
        self._told_at = time.monotonic()
        self._watch.progress(step=self._step, total=self._total, loss=loss)


def _optimizer(model: nn.Module, settings: ClassifySettings) -> Optimizer:
    recipe, learning = settings.recipe, [one for one in model.parameters() if one.requires_grad]
    if recipe.optimizer == "adamw":
        return AdamW(learning, lr=recipe.lr, weight_decay=recipe.weight_decay)
    return SGD(learning, lr=recipe.lr, momentum=settings.momentum, weight_decay=recipe.weight_decay)


def rate(step: int, total: int, schedule: str) -> float:
    """Return the learning rate of a step, from 0, as a share of the highest."""
    if schedule == "onecycle":
        rise, low = max(1, round(ONE_CYCLE_RISE * total)), ONE_CYCLE_LOW
        if step < rise:
            return low + (1 - low) * (1 - math.cos(math.pi * step / rise)) / 2
    else:
        rise = max(1, round(RISE * total))
        if step < rise:
            return (step + 1) / rise
    return (1 + math.cos(math.pi * (step - rise) / max(total - rise, 1))) / 2


def _loss(said: Answered) -> float:
    logits, labels = torch.from_numpy(said.logits), torch.from_numpy(said.trained)
    return float(functional.cross_entropy(logits, labels))


def balanced(said: Answered) -> float:
    """Return the mean over classes of the share of right answers, in 0 … 1."""
    right = said.logits.argmax(1) == said.trained
    return float(np.mean([right[said.trained == one].mean() for one in np.unique(said.trained)]))
