"""How models are trained by methods that are trainings: the plain way, or the caller's own."""

import math
from typing import Protocol

from torch import nn

from trueface.data.examples import Examples, Label
from trueface.evaluation.predictions import answered
from trueface.models.logits import cross_entropy, wide
from trueface.runtime.errors import JobError
from trueface.runtime.precision import autocast
from trueface.runtime.progress import Watch
from trueface.unlearning.hyperparameters import DescentOptions, TrainingOptions
from trueface.unlearning.log import Step
from trueface.unlearning.optimization import Descent, teach

EPOCHS, LR, BATCH_SIZE = 10, 0.01, 64  # of the plain way, where nothing is said


class Learn(Protocol):
    """Trains a model of some sort in place."""

    def __call__(
        self,
        model: nn.Module,
        samples: Examples,
        label: Label,
        *,
        validation: Examples,
        options: TrainingOptions,
        watch: Watch,
    ) -> tuple[Step, ...]:
        """Train `model` on samples with labels of one sort; return a step an epoch.

        Raises:
            JobError: stopped, or no finite result.
        """


def learn_plainly(
    model: nn.Module,
    samples: Examples,
    label: Label,
    *,
    validation: Examples,
    options: TrainingOptions,
    watch: Watch,
) -> tuple[Step, ...]:
    """Train with SGD, momentum 0.9 and a cosine of the learning rate; see `Learn`."""
    epochs, lr = options.epochs or EPOCHS, options.lr or LR
    descent = Descent(model.parameters(), DescentOptions(lr=lr, momentum=0.9, clip=5.0))
    log = []
    for epoch in range(epochs):
        descent.rate(lr * (1 + math.cos(math.pi * epoch / epochs)) / 2)
        teach(model, "train")
        losses = []
        for batch in samples.batches(label, epoch=epoch, batch_size=BATCH_SIZE):
            if watch.stop.is_set():
                raise JobError(f"stopped in epoch {epoch + 1} of {epochs}")
            with autocast(watch.device, watch.precision):
                logits = wide(model(batch.inputs.to(watch.device)))
            losses.append(descent.step(cross_entropy(logits, batch.labels.to(watch.device))))
        watch.progress(step=epoch + 1, total=epochs, loss=sum(losses) / len(losses))
        accuracy = answered(model, validation, watch).accuracy("trained")
        metrics = {"loss": sum(losses) / len(losses), "val_accuracy": accuracy}
        log.append(Step(step=epoch + 1, metrics=metrics))
    model.eval()
    return tuple(log)
