"""SCRUB: distillation that maximises the divergence on the forget set and minimises it on the retain set.

Source: M. Kurmanji et al., "Towards unbounded machine unlearning", NeurIPS 2023, arXiv 2302.09880,
section 3, defaults of its code for CIFAR-10. Student and teacher start as the original model. During the
first `max_epochs` epochs, a max step, one pass over the forget set, increases T² KL(teacher || student).
Every epoch then takes a min step, one pass over the rest, that decreases gamma CE + alpha T² KL. T is
`TEMPERATURE` and gamma is `GAMMA`.

Differences: batch statistics are fixed in the max step, otherwise they become those of the forget set. A
student equal to its teacher then has a zero gradient, which the authors' changing statistics hide. Until
the two differ, the max step increases the cross entropy of the trained labels instead. Gradients are
clipped, because the max step has no upper bound. Each kind of step has its own momentum. With one for
both, as in the authors' code, the ascent continues into the min step. In a toy problem that halved the
accuracy on all other classes; with separate momenta nothing was lost. The divergence also grows if the
same prediction becomes more confident, so only the log shows whether anything is forgotten.

By default the last epoch is returned. For flipped labels it is the one with the best validation accuracy,
because these must be predicted right and not like unseen samples. With `rewind` (SCRUB+R) it is the one
whose error on the forget set is closest to that of the last epoch on validation samples of the same
classes. A forgotten class is in no validation set, so `rewind` has no target there.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from trueface.data.batch import Batch
from trueface.data.examples import Examples
from trueface.evaluation.forward import predict_examples
from trueface.models.logits import cross_entropy
from trueface.runtime.field_types import Count
from trueface.unlearning.api import Request, Result
from trueface.unlearning.building_blocks import retain_set
from trueface.unlearning.gradient_method import GradientMethod
from trueface.unlearning.hyperparameters import DescentOptions, NotNegative, Positive, Statistics
from trueface.unlearning.optimization import Descent
from trueface.unlearning.registry import register_method

GAMMA = 0.99  # weight of the labels of the retain set, in the authors' code
TEMPERATURE = 4.0  # temperature of both distillations, in the authors' code
APART = 1e-6  # divergence from which its slope is more than rounding
NO_REWIND = {
    "class": "no rewinding, as validation contains no sample of the class to forget",
    "flips": "no rewinding for flipped labels; the epoch was chosen on validation",
}
NONE_ALIKE = "no rewinding, as validation contains no sample of the classes in the forget set"


@dataclass(frozen=True, slots=True, kw_only=True)
class StudentCheckpoint:
    """The student after an epoch, with its measurements."""

    epoch: int  # from 1
    forget: float  # accuracy in 0 … 1 on the trained labels of the forget set
    validation: float
    state: dict[str, Tensor] = field(default_factory=dict)  # on the CPU


class ScrubOptions(DescentOptions):
    """SCRUB. Defaults: the authors' for CIFAR-10, large scale."""

    epochs: Count = Field(3, description="Passes over the retain set")
    max_epochs: Annotated[int, Field(ge=0)] = Field(
        2, description="Number of epochs that begin with a pass over the forget set"
    )
    lr: Positive = Field(5e-4, description="Learning rate")
    weight_decay: NotNegative = Field(5e-4, description="Weight decay")
    batch_size: Count = Field(128, description="Images of the retain set per step")
    forget_batch: Count = Field(32, description="Images of the forget set per step")
    alpha: NotNegative = Field(0.001, description="Weight of the teacher on the retain set")
    rewind: bool = Field(
        False,
        description="Use SCRUB+R, which chooses the epoch whose error on the forget set is closest to that on "
        "validation",
    )
    bn: Statistics = Field("train", description="Mode of batch normalization on the retain set")


@register_method(
    "scrub",
    summary="Distillation away from the teacher on the forget set",
    hyperparameters=ScrubOptions,
    needs={"retain set"},
)
class Scrub(GradientMethod[ScrubOptions]):
    """Distil the model into itself, away from the forget set."""

    keeps_original = True  # the teacher

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        self.ascent = Descent(self.parameters(), self.options)
        self.alike = None
        if self.options.rewind and request.goal == "instances":
            self.alike = _select_same_classes(request)
        # if no epoch is chosen by them, the accuracies are for the log, and no cost
        self.uses_accuracies = self.alike is not None or request.goal == "flips"
        self.checkpoints: list[StudentCheckpoint] = []

    def run(self) -> Result:
        """Take all epochs, and return to the chosen one."""
        retain_set(self.request)  # refused before the first pass
        result = super().run()
        notes = _load_chosen_checkpoint(self.request, self.checkpoints, self.alike)
        return replace(result, notes=notes)

    def take_epoch(self) -> Mapping[str, float]:
        """Take the max step, in the first epochs, and the min step."""
        metrics, options = {}, self.options
        if self.epoch < options.max_epochs:
            metrics["loss_forget"] = self.take_pass(
                self.request.forget,
                loss=self.max_step_loss,
                bn="eval",
                batch_size=options.forget_batch,
                descent=self.ascent,
            )
        return {"loss": self.take_pass(retain_set(self.request)), **metrics}

    def max_step_loss(self, batch: Batch) -> Tensor:
        """Return the negative divergence; that of labels as long as both models are equal."""
        logits = self.logits(batch.inputs)
        apart = self._distance(batch, logits)
        if float(apart.detach()) < APART:
            return -cross_entropy(logits, batch.labels)
        return -apart

    def compute_loss(self, batch: Batch) -> Tensor:
        """Return the loss of the min step, on the retain set."""
        logits = self.logits(batch.inputs)
        loss = GAMMA * cross_entropy(logits, batch.labels)
        if self.options.alpha == 0:  # the teacher need not be asked
            return loss
        return loss + self.options.alpha * self._distance(batch, logits)

    def measure(self) -> Mapping[str, float | None]:
        """Return the accuracies; keep the student if one is chosen by them."""
        metrics = super().measure()
        if self.uses_accuracies:
            self.checkpoints.append(_checkpoint(self.model, self.epoch + 1, metrics))
        if self.request.goal == "flips":
            self.checkpoints = [select_best(self.checkpoints)]
        return metrics

    def _distance(self, batch: Batch, logits: Tensor) -> Tensor:
        return self.divergence_to_original(batch.inputs, logits, TEMPERATURE)


def select_best(checkpoints: list[StudentCheckpoint]) -> StudentCheckpoint:
    """Return the one with the best validation accuracy, the latest of equals."""
    return max(checkpoints, key=lambda checkpoint: (checkpoint.validation, checkpoint.epoch))


def nearest_checkpoint(checkpoints: list[StudentCheckpoint], reference: float) -> StudentCheckpoint:
    """Return the one with a forget accuracy nearest to `reference`, the latest of equals."""
    return min(
        checkpoints, key=lambda checkpoint: (abs(checkpoint.forget - reference), -checkpoint.epoch)
    )


def _select_same_classes(request: Request) -> Examples | None:
    """Return the validation samples of the forget set's classes, if there are any."""
    classes = set(request.forget.trained)
    labels = enumerate(request.validation.trained)
    rows = [row for row, label in labels if label in classes]
    return request.validation.subset(rows) if rows else None


def _checkpoint(
    model: nn.Module, epoch: int, metrics: Mapping[str, float | None]
) -> StudentCheckpoint:
    return StudentCheckpoint(
        epoch=epoch,
        forget=metrics["forget_accuracy_trained"] or 0.0,
        validation=metrics["val_accuracy"] or 0.0,
        state={name: value.detach().cpu().clone() for name, value in model.state_dict().items()},
    )


def _load_chosen_checkpoint(
    request: Request, checkpoints: list[StudentCheckpoint], alike: Examples | None
) -> tuple[str, ...]:
    """Put the right checkpoint into the model; return the remarks on it for the user."""
    options = request.own(ScrubOptions)
    notes = []
    if options.rewind and alike is None:
        notes.append(NO_REWIND.get(request.goal, NONE_ALIKE))
    if alike is not None:
        reference = predict_examples(request.model, alike, request.watch).accuracy("trained") or 0.0
        checkpoint = nearest_checkpoint(checkpoints, reference)
        notes.append(
            f"rewound to epoch {checkpoint.epoch} of {options.epochs}: the error is {1 - checkpoint.forget:.1%} on "
            f"the forget set and {1 - reference:.1%} on the same classes of validation"
        )
    elif checkpoints:
        checkpoint = select_best(checkpoints)
        notes.append(f"epoch {checkpoint.epoch} of {options.epochs} was best on validation")
    else:
        return tuple(notes)
    request.model.load_state_dict(checkpoint.state)
    return tuple(notes)
