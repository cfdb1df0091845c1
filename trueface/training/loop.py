"""A training's steps: batches through the network, the loss, the optimizer, and their sums.

The state of it all can be taken out between two batches and put back, so that a training that was
interrupted goes on bit by bit as if it had not been.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, Protocol, cast

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils import get_total_norm
from torch.optim import Adam, AdamW, Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from trueface.data.dataset import Batch
from trueface.models.detectors import Detector, freeze, teach
from trueface.runtime.errors import JobError
from trueface.runtime.precision import autocast
from trueface.runtime.progress import REPORT_EVERY_S, Watch
from trueface.runtime.rng import derive
from trueface.training import optimizer_state
from trueface.training.schedules import Rate
from trueface.training.settings import LearningSettings

LEAST_SCALE = 1.0  # of fp16 gradients; a healthy training's is in the thousands


class Feed(Protocol):
    """Images with labels that come in batches, as often as they are asked for."""

    def __len__(self) -> int:
        """Return how many images one pass has."""

    def __call__(self, epoch: int) -> Iterator[Batch]:
        """Start a pass; its order and its augmentation are functions of `epoch`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """What the batches of one epoch came to so far."""

    batches: int = 0
    images: int = 0
    loss: float = 0.0  # times images
    right: int = 0

    def plus(self, images: int, loss: float, right: int) -> "Sums":
        """Return the sums with one more batch of that mean loss."""
        return Sums(
            batches=self.batches + 1,
            images=self.images + images,
            loss=self.loss + loss * images,
            right=self.right + right,
        )


def answer(model: Detector, given: Tensor) -> Tensor:
    """Return the logits (B, 1) of pixels, or of the features (B, F) that a bank gives instead."""
    logits: Tensor = model.forward_head(given) if given.ndim == 2 else model(given)
    return logits


class Steps:
    """A model in training: it counts steps, and knows optimizer, learning rate and average."""

    def __init__(
        self,
        model: Detector,
        training: Feed,
        settings: LearningSettings,
        watch: Watch,
        state: optimizer_state.State,
    ) -> None:
        self.model, self.training, self.settings, self.watch = model, training, settings, watch
        if settings.freeze:
            freeze(model)
        self._optimizer = _optimizer(model, settings)
        if state:
            optimizer_state.give(model, self._optimizer, state)
        self.rate = Rate(self._optimizer, settings, len(training))
        self._average: AveragedModel | None = None
        if settings.ema > 0:
            decay = get_ema_multi_avg_fn(settings.ema)  # type: ignore[no-untyped-call]  # torch
            self._average = AveragedModel(model, multi_avg_fn=decay, use_buffers=True)
        kind = watch.device.partition(":")[0]
        self._scaler = torch.amp.GradScaler(kind, enabled=settings.precision == "fp16")
        if settings.compile:
            _compile(model)
        self.images_read = 0
        self._told_at = 0.0

    @property
    def result(self) -> Detector:
        """The model to validate and to keep: the average, where there is one."""
        return self.model if self._average is None else cast(Detector, self._average.module)

    def moments(self) -> optimizer_state.State:
        """Return a copy of the optimizer's moments."""
        return optimizer_state.taken(self.model, self._optimizer)

    def run(
        self, epoch: int, begun: Sums | None, *, every: int, pause: Callable[[Sums], None]
    ) -> Sums:
        """Go through the training images of an epoch, or until stopped.

        Args:
            epoch: from 0.
            begun: what earlier batches of it came to, of which the state was restored; None: none.
            every: call `pause` after so many batches; 0: never.
            pause: gets the sums so far.

        Raises:
            JobError: loss or gradients are no finite numbers.
        """
        frozen = self.settings.freeze and self.settings.freeze_bn
        teach(self.model, fixed_statistics=frozen)
        sums = begun or Sums()
        if begun is None:
            # dropout is the only thing that draws from torch's own generator
            torch.manual_seed(derive(f"dropout/{epoch}", self.settings.seed))
        began, earlier = time.monotonic(), sums.images
        for batch in islice(self.training(epoch), sums.batches, None):
            if self.watch.stop.is_set():
                break
            loss, right = self._step(batch, epoch)
            sums = sums.plus(len(batch.labels), loss, right)
            self.images_read += len(batch.labels)
            speed = (sums.images - earlier) / max(time.monotonic() - began, 1e-9)
            self._tell(sums.loss / sums.images, speed)
            if every and sums.batches % every == 0:
                pause(sums)
        return sums

    def state(self, sums: Sums | None) -> dict[str, Any]:
        """Return all that the next batch depends on, but the model's own parameters.

        Args:
            sums: of the epoch under way; None between two epochs.
        """
        device = torch.device(self.watch.device)
        return {
            "optimizer": self._optimizer.state_dict(),
            "rate": self.rate.state(),
            "average": None if self._average is None else self._average.state_dict(),
            "scaler": self._scaler.state_dict(),
            "images_read": self.images_read,
            "sums": None if sums is None else asdict(sums),
            "random": torch.get_rng_state(),
            "cuda_random": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        }

    def restore(self, state: dict[str, Any]) -> Sums | None:
        """Go on from what `state` gave; return the sums that it was given."""
        self._optimizer.load_state_dict(state["optimizer"])
        self.rate.restore(state["rate"])
        if self._average is not None:
            self._average.load_state_dict(state["average"])
        if state["scaler"]:
            self._scaler.load_state_dict(state["scaler"])
        self.images_read = state["images_read"]
        torch.set_rng_state(state["random"])
        if state["cuda_random"] is not None and self.watch.device.startswith("cuda"):
            torch.cuda.set_rng_state(state["cuda_random"], torch.device(self.watch.device))
        return None if state["sums"] is None else Sums(**state["sums"])

    def _step(self, batch: Batch, epoch: int) -> tuple[float, int]:
        labels = batch.labels.to(self.watch.device)
        logits = self._logits(batch)  # (B, 1)
        loss = functional.binary_cross_entropy_with_logits(logits, labels)
        value = loss.item()
        if not math.isfinite(value):
            raise self._diverged(f"the loss became {value}", epoch)
        self._optimizer.zero_grad()
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]  # torch
        self._scaler.unscale_(self._optimizer)
        self._check_gradients(epoch)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self.rate.step()
        if self._average is not None:
            self._average.update_parameters(self.model)
        return value, int(((logits > 0) == (labels > 0.5)).sum())

    def _logits(self, batch: Batch) -> Tensor:
        try:
            with autocast(self.watch.device, self.settings.precision):
                return answer(self.model, batch.images.to(self.watch.device)).float()
        except ValueError as error:  # batch norm of a single value has no variance
            if "more than 1 value per channel" not in str(error):
                raise
            raise JobError(
                f"a batch of {len(batch.labels)} is too small to train with at this image size; "
                f"take another batch_size than {self.settings.batch_size}, or larger images"
            ) from error

    def _check_gradients(self, epoch: int) -> None:
        if self._scaler.is_enabled():  # it leaves out such steps itself, and takes a smaller scale
            if self._scaler.get_scale() < LEAST_SCALE:
                raise self._diverged("the gradients stay too large for fp16", epoch)
            return
        gradients = [one.grad for one in self.model.parameters() if one.grad is not None]
        norm = get_total_norm(gradients).item()
        if not math.isfinite(norm):
            raise self._diverged(f"the norm of the gradients became {norm}", epoch)

    def _diverged(self, what: str, epoch: int) -> JobError:
        return JobError(
            f"{what} in epoch {epoch + 1}, after {self.images_read} images, at lr "
            f"{self.rate.lr:.3g}, batch_size {self.settings.batch_size}, precision "
            f"{self.settings.precision}; take a lower lr"
        )

    def _tell(self, loss: float, images_per_s: float) -> None:
        total = len(self.training) * self.settings.num_epochs
        if self.images_read < total and time.monotonic() - self._told_at < REPORT_EVERY_S:
            return
        self._told_at = time.monotonic()
        lr = self.rate.lr
        self.watch.progress(
            step=self.images_read, total=total, loss=loss, lr=lr, images_per_s=images_per_s
        )


def _optimizer(model: Detector, settings: LearningSettings) -> Optimizer:
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    make = AdamW if settings.optimizer == "adamw" else Adam
    # one pass over all parameters: on a CPU three times as fast as a loop over them
    return make(learning, lr=settings.lr, weight_decay=settings.weight_decay, fused=True)


def _compile(model: Detector) -> None:
    """Let torch compile the network, in place, so that its parameters keep their names."""
    model.network.compile()
