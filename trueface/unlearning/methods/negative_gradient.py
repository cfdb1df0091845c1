"""Negative gradient: gradient ascent on the forget set, until its accuracy is that of unseen samples.

Source: the baseline of A. Golatkar et al., "Eternal sunshine of the spotless net", CVPR 2020, arXiv
1911.04933; A. Thudi et al., "Unrolling SGD", EuroS&P 2022, arXiv 2109.13398. The loss has no lower bound,
so steps are clipped. They end when the forget set gets its trained labels as rarely as the goal requires:

    Class: Never.
    Instances: As often as validation samples get theirs (a member looks like any other sample).
    Flips: As often as by an error at the validation error rate, spread evenly over the other classes,
        (1 - validation accuracy) / (K - 1).

The rule is checked between passes, and a pass ends if its latest predictions fulfil it. The authors give
no rule; L2UL (arXiv 2301.11578) stops at 0. If half of the labels are flipped, the result is chance. A
rate that is too high gives constant predictions. The method is included as a baseline.
"""

from collections import deque
from collections.abc import Iterator, Mapping

from pydantic import Field
from torch import Tensor

from trueface.models.detectors import set_train_mode
from trueface.models.logits import cross_entropy
from trueface.runtime.field_types import Probability
from trueface.unlearning.api import Request, Result
from trueface.unlearning.gradient_method import GradientMethod
from trueface.unlearning.hyperparameters import DescentOptions, Positive
from trueface.unlearning.registry import register_method

LATEST = 256  # answers that end a pass: an accuracy of 50 % is then known to about 3 points
FELL = 0.1  # validation accuracy whose loss is worth a note
Measured = Mapping[str, float | None]  # see `Request.predict_sets`


class NgOptions(DescentOptions):
    """Negative gradient. Defaults: Unlearn-Saliency's baseline, 5 epochs at 1e-4."""

    lr: Positive = Field(1e-4, description="Learning rate")
    stop_at: Probability | None = Field(
        None,
        description="Fraction of the forget set with its trained label at which training stops. "
        "Default: 0 for a class, validation accuracy for images, validation error for flips",
    )


@register_method(
    "ng", summary="Negative gradient: gradient ascent on the forget set", hyperparameters=NgOptions
)
class NegativeGradient(GradientMethod[NgOptions]):
    """Ascend the gradient of the forget set's loss until the stop rule holds."""

    uses_accuracies = True

    def run(self) -> Result:
        """Take epochs as long as the forget set gets its trained labels too often."""
        self.first = self.measure()
        return super().run()

    def measure(self) -> Mapping[str, float | None]:
        """Return the accuracies, by which the end is decided."""
        self.last: Measured = super().measure()
        return self.last

    def is_finished(self) -> bool:
        """Return whether the stop rule holds."""
        accuracy = _known_accuracy(self.last, "forget_accuracy_trained")
        return accuracy <= target_accuracy(self.request, self.last)

    def take_epoch(self) -> Mapping[str, float]:
        """Take one pass of steps, shorter if the latest predictions reach the target."""
        set_train_mode(self.model, fixed_statistics=self.options.bn == "eval")
        # 0.0 minus it, because a mean of 0 is logged as 0.0, not as -0.0
        return {"loss": 0.0 - self.descent.take_steps(self._negative_losses())}

    def _negative_losses(self) -> Iterator[Tensor]:
        request, target = self.request, target_accuracy(self.request, self.last)
        latest: deque[bool] = deque(maxlen=min(LATEST, len(request.forget)))
        size = self.options.batch_size
        batches = request.forget.read(request.watch, epoch=self.epoch, batch_size=size)
        for step, (inputs, labels, *_) in enumerate(batches):
            logits = self.logits(inputs)
            latest.extend((logits.argmax(1) == labels).tolist())
            if step and len(latest) == latest.maxlen and sum(latest) <= target * len(latest):
                return
            yield -cross_entropy(logits, labels)

    def notes(self) -> tuple[str, ...]:
        """Return the remarks on the start and the end of the run."""
        return _notes(self.request, self.first, self.last, len(self.log))


def target_accuracy(request: Request, measures: Measured) -> float:
    """Return the accuracy on the forget set's trained labels, in 0 … 1, at which to stop."""
    stop_at = request.own(NgOptions).stop_at
    if stop_at is not None:
        return stop_at
    right = _known_accuracy(measures, "val_accuracy")
    match request.goal:
        case "class":
            return 0.0
        case "instances":
            return right
        case "flips":
            return (1 - right) / (request.classes - 1)


def _notes(request: Request, first: Measured, last: Measured, epochs: int) -> tuple[str, ...]:
    """Return the remarks for the user on the start and the end of the run."""
    notes = []
    forget, target = (
        _known_accuracy(last, "forget_accuracy_trained"),
        target_accuracy(request, last),
    )
    left, right = _known_accuracy(first, "val_accuracy"), _known_accuracy(last, "val_accuracy")
    fell = left - right > FELL
    result = f"the model predicts the trained label for {forget:.1%} of the forget set"
    if forget > target and fell:
        notes.append(
            f"{result} after {epochs} epochs (target: {target:.1%}), and validation accuracy fell "
            f"from {left:.1%} to {right:.1%}. No lr of this method fixes both, so choose npo."
        )
    elif forget > target:
        notes.append(
            f"{result} after {epochs} epochs (target: {target:.1%}). Choose a higher lr or more "
            "epochs. Very confident predictions have almost no gradient."
        )
    elif not epochs:
        notes.append(
            f"{result} already, at most the target of {target:.1%}, so the model is unchanged"
        )
    if fell and forget <= target:
        notes.append(
            f"validation accuracy fell from {left:.1%} to {right:.1%}, as this loss has no lower "
            "bound. Choose a lower lr, or npo."
        )
    return tuple(notes)


def _known_accuracy(measures: Measured, name: str) -> float:
    """Return an accuracy that is always known: that of trained labels and of validation."""
    value = measures[name]
    if value is None:
        raise ValueError(f"{name} is unknown")
    return value
