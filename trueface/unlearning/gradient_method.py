"""The loop of methods that take gradient steps: a method defines its loss, and what else it does differently."""

import copy
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from functools import cached_property
from itertools import count
from typing import ClassVar, Generic, TypeVar, cast

import torch
from torch import Tensor, nn

from trueface.data.batch import Batch
from trueface.data.examples import Examples
from trueface.models.detectors import set_train_mode
from trueface.models.logits import cross_entropy, kl_divergence
from trueface.predictions.predictions import Predictions
from trueface.unlearning.api import Request, Result, accuracies_of
from trueface.unlearning.building_blocks import epochs
from trueface.unlearning.cache import fingerprint
from trueface.unlearning.hyperparameters import DescentOptions, Statistics
from trueface.unlearning.optimization import Descent, Step

Own = TypeVar("Own", bound=DescentOptions)
Loss = Callable[[Batch], Tensor]


class GradientMethod(Generic[Own]):
    """An unlearning method that takes one step per batch, and by default one pass over the forget set per epoch.

    A subclass overrides any of the methods from `compute_loss` to `notes`.
    """

    keeps_original: ClassVar[bool] = False  # a frozen copy of the model, for `original_logits`
    uses_accuracies: bool = False  # those after an epoch, which then count as cost of the method

    def __init__(self, request: Request) -> None:
        self.request, self.model = request, request.model
        self.options = cast(Own, request.options)
        self.epoch = 0  # the current one, from 0
        self.log: list[Step] = []
        self.predictions: dict[str, Predictions] | None = None  # after this epoch
        self._original: nn.Module | None = None
        if self.keeps_original:
            self._original = copy.deepcopy(request.model).eval().requires_grad_(False)
        self._retain_batches = self._read_retain_set()

    def compute_loss(self, batch: Batch) -> Tensor:
        """Return the loss of a batch, whose labels are on the device. Default: cross entropy."""
        return cross_entropy(self.logits(batch.inputs), batch.labels)

    def samples(self) -> Examples:
        """Return the samples of this epoch, with the labels to learn."""
        return self.request.forget

    def parameters(self) -> Iterable[nn.Parameter]:
        """Return the parameters that learn; frozen ones are left out later."""
        return self.model.parameters()

    def take_epoch(self) -> Mapping[str, float]:
        """Take the steps of this epoch; return "loss", and what else is logged."""
        return {"loss": self.take_pass(self.samples())}

    def measure(self) -> Mapping[str, float | None]:
        """Return the values that are logged after an epoch."""
        self.predictions = self.request.predict_sets(count_cost=self.uses_accuracies)
        return accuracies_of(self.predictions)

    def is_finished(self) -> bool:
        """Return whether no further epoch is needed."""
        return False

    def notes(self) -> tuple[str, ...]:
        """Return remarks on the run for the user."""
        return ()

    def run(self) -> Result:
        """Take all epochs, as long as the method is not finished.

        Raises:
            JobError: stopped, no sample could be read, or no finite result.
        """
        with closing(self._retain_batches):
            steps = epochs(self.request, self._take_epoch_number, self.measure)
            for step in () if self.is_finished() else steps:
                self.log.append(step)
                if self.is_finished():
                    break
        with self.request.meter.pause_counting():
            predicted_model = fingerprint(self.model)  # `notes` may change the model
        return Result(
            model=self.model,
            log=tuple(self.log),
            notes=self.notes(),
            predictions=self.predictions,
            predicted_model=predicted_model,
        )

    def _take_epoch_number(self, epoch: int) -> Mapping[str, float]:
        self.epoch = epoch
        return self.take_epoch()

    @cached_property
    def descent(self) -> Descent:
        """The optimizer of `parameters`."""
        return Descent(self.parameters(), self.options)

    def take_pass(
        self,
        samples: Examples,
        *,
        loss: Loss | None = None,
        bn: Statistics | None = None,
        batch_size: int | None = None,
        descent: Descent | None = None,
    ) -> float:
        """Take one step per batch of one pass; return the mean loss.

        Args:
            samples: with the labels to learn.
            loss: of a batch. None: `compute_loss`.
            bn: mode of batch normalization. None: that of the options.
            batch_size: None: that of the options.
            descent: takes the steps. None: `self.descent`.
        """
        set_train_mode(self.model, fixed_statistics=(bn or self.options.bn) == "eval")
        size = batch_size or self.options.batch_size
        batches = samples.batches(epoch=self.epoch, batch_size=size)
        losses = self._losses(batches, loss or self.compute_loss)
        return (descent or self.descent).take_steps(losses)

    def _losses(self, batches: Iterable[Batch], loss: Loss) -> Iterator[Tensor]:
        watch = self.request.watch
        for batch in batches:
            watch.raise_if_stopped()
            yield loss(batch._replace(labels=batch.labels.to(watch.device, non_blocking=True)))

    def logits(self, inputs: Tensor) -> Tensor:
        """Return logits (B, K) float32 of the model; K = 2 for a single logit."""
        return self.request.logits(inputs)

    @torch.no_grad()
    def original_logits(self, inputs: Tensor) -> Tensor:
        """Return logits (B, K) float32 of the model before unlearning; needs `keeps_original`."""
        if self._original is None:
            raise TypeError(f"{type(self).__name__} needs keeps_original = True")
        return self.request.logits(inputs, self._original)

    def divergence_to_original(
        self, inputs: Tensor, logits: Tensor, temperature: float = 1.0
    ) -> Tensor:
        """Return T² KL(original || model) of a batch, the mean over B; needs `keeps_original`.

        Args:
            inputs: of the batch, for the model before unlearning.
            logits: of the model for these inputs, (B, K).
            temperature: T, which divides the logits of both.
        """
        return temperature**2 * kl_divergence(self.original_logits(inputs), logits, temperature)

    def next_retain_batch(self) -> Batch | None:
        """Return the next batch of the retain set, pass after pass. None: it must not be read."""
        return next(self._retain_batches, None)

    def retain_loss(self, weight: float = 1.0) -> Tensor | float:
        """Return the weighted cross entropy of the next batch of the retain set.

        It is 0 if the weight is 0 or if the retain set must not be read.
        """
        batch = self.next_retain_batch() if weight else None
        if batch is None:
            return 0.0
        return weight * cross_entropy(self.logits(batch.inputs), batch.labels)

    def _read_retain_set(self) -> Generator[Batch]:
        retain = self.request.retain
        if retain is None:
            return
        for epoch in count():
            yield from retain.read(
                self.request.watch,
                epoch=epoch,
                batch_size=self.options.batch_size,
                noun="kept samples",
            )
