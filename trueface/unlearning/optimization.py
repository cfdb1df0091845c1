"""Steps down a loss: the optimizer that methods share, with its guards.

Methods that read only the forget set must keep batch-norm statistics unchanged. Otherwise these become
those of the forget set, and predictions on all other data break.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from trueface.data.examples import Examples, Label
from trueface.evaluation.forward import predict_examples
from trueface.models.detectors import set_train_mode
from trueface.models.logits import as_multiclass_logits, cross_entropy
from trueface.runtime.errors import JobError
from trueface.runtime.gradient_step import GradientStep, Quantity, set_lr
from trueface.runtime.precision import autocast
from trueface.runtime.progress import RunContext
from trueface.unlearning.hyperparameters import DescentOptions, TrainingOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The measurements after a step of a method."""

    step: int  # 0 is the model before unlearning
    metrics: Mapping[str, float | None]  # names such as loss, forget_accuracy_trained


class Descent:
    """Steps of plain SGD; each gradient is finite, and no longer than `clip`."""

    def __init__(self, parameters: Iterable[nn.Parameter], options: DescentOptions) -> None:
        self.parameters = [parameter for parameter in parameters if parameter.requires_grad]
        if not self.parameters:
            raise JobError("no parameter of this model is trainable")
        self.optimizer: Optimizer = SGD(
            self.parameters,
            lr=options.lr,
            momentum=options.momentum,
            weight_decay=options.weight_decay,
        )
        self._step = GradientStep(self.optimizer, clip=options.clip, nonfinite=_divergence_error)

    def set_lr(self, lr: float) -> None:
        """Take another learning rate from now on."""
        set_lr(self.optimizer, lr)

    def step(self, loss: Tensor) -> float:
        """Take one step down `loss` and return its value.

        Raises:
            JobError: loss or gradient is not finite.
        """
        self._step.backward(loss)
        return self._step.apply(loss)

    def take_steps(self, losses: Iterable[Tensor]) -> float:
        """Take one step down each loss of a pass and return their mean.

        Args:
            losses: one per batch; each is computed after the step before it.

        Raises:
            JobError: loss or gradient is not finite, or there is no loss.
        """
        values = [*map(self.step, losses)]
        if not values:
            raise JobError(
                "none of the samples of a pass could be read, so nothing could be learned"
            )
        return sum(values) / len(values)


def _divergence_error(quantity: Quantity, value: float) -> JobError:
    if quantity == "loss":
        return JobError(f"the loss became {value}. Choose a lower lr or fewer epochs.")
    return JobError(f"the gradient norm became {value}. Choose a lower lr.")


EPOCHS, LR, BATCH_SIZE = 10, 0.01, 64  # values of the default training, if not given


class TrainFunction(Protocol):
    """Trains a model of one kind in place."""

    def __call__(
        self,
        model: nn.Module,
        samples: Examples,
        label: Label,
        *,
        validation: Examples,
        options: TrainingOptions,
        watch: RunContext,
    ) -> tuple[Step, ...]:
        """Train `model` on samples with labels of one kind; return one step per epoch.

        Raises:
            JobError: stopped, or no finite result.
        """


def default_training(
    model: nn.Module,
    samples: Examples,
    label: Label,
    *,
    validation: Examples,
    options: TrainingOptions,
    watch: RunContext,
) -> tuple[Step, ...]:
    """Train with SGD, momentum 0.9 and a cosine of the learning rate; see `TrainFunction`."""
    epochs, lr = options.epochs or EPOCHS, options.lr or LR
    descent = Descent(model.parameters(), DescentOptions(lr=lr, momentum=0.9, clip=5.0))
    log = []

    def losses(epoch: int) -> Iterator[Tensor]:
        for batch in samples.batches(label, epoch=epoch, batch_size=BATCH_SIZE):
            if watch.stop.is_set():
                raise JobError(f"stopped in epoch {epoch + 1} of {epochs}")
            sent = batch.to(watch.device)
            with autocast(watch.device, watch.precision):
                logits = as_multiclass_logits(model(sent.inputs))
            yield cross_entropy(logits, sent.labels)

    for epoch in range(epochs):
        descent.set_lr(lr * (1 + math.cos(math.pi * epoch / epochs)) / 2)
        set_train_mode(model, fixed_statistics=False)
        loss = descent.take_steps(losses(epoch))
        watch.progress(step=epoch + 1, total=epochs, loss=loss)
        accuracy = predict_examples(model, validation, watch).accuracy("trained")
        log.append(Step(step=epoch + 1, metrics={"loss": loss, "val_accuracy": accuracy}))
    model.eval()
    return tuple(log)
